"""`splat evaluate`: a finished run, or another splat in its place, measured on the run's held-out photos."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.lpips import metric_title
from splat.run.completed import CompletedRun
from splat.run.console import Console
from splat.stages.drawing import to_draw
from splat.stages.figures import check_names, figures_named
from splat.stages.measure import mean, mean_figures, measure
from splat.stages.perceptual import perceptual_metric, reported_variant


@dataclass(frozen=True)
class Evaluate:
    """PSNR, SSIM and, where weights are found, LPIPS or ST-LPIPS on the photos that training did not see (posed
    hold-out)."""

    run: Path
    """The run folder of a finished `splat reconstruct`."""
    splat: Path | None = None
    """Measure this splat file instead, given in the run's original frame (e.g. after editing or compression); drawn
    with or without anti-aliasing as the file says."""
    lpips: Path | None = None
    """Folder with weights of LPIPS or ST-LPIPS."""
    figures: tuple[str, ...] = ()
    """More figures, as publications define them, by names as those of `splat reconstruct --figures`."""
    photos: Path | None = None
    """Where the photos of the run are now, if they were moved."""
    raster: Literal["auto", "native", "gsplat", "reference"] = "auto"
    """What draws; auto takes the fastest that works here."""
    json: Path | None = None
    """Also write the figures here."""

    def __call__(self) -> dict[str, Any]:
        check_names(self.figures)
        run = CompletedRun.open(self.run, self.raster, self.photos)
        views = [v for v in run.capture.test_views if v.world_from_cam is not None]
        if not views:
            raise SplatError(f"{self.run} holds out no posed photo: reconstruct with --heldout posed --test-every 8.")
        run.require(views)
        scorer, note = perceptual_metric(self.lpips)
        with Console() as report:
            gaussians, settings, beyond = to_draw(run, self.splat, report)
            background = run.trained.background.to(gaussians.means)
            more = figures_named(self.figures, self.lpips)
            found = measure(gaussians, views, run.raster, settings, background, None, scorer, more, beyond)
            rows = [m.figures() for m in found]
        variant = reported_variant(scorer)
        names = ("psnr", "ssim", "cc_psnr", "lpips")
        figures: dict[str, Any] = {k: mean([row[k] for row in rows]) for k in names}
        figures |= {"figures": mean_figures(rows)} if self.figures else {}
        figures |= {"views": rows, "num_gaussians": len(gaussians)}
        figures |= {"lpips_variant": variant, "lpips_note": note}
        for row in rows:
            print(f"{row['name']}: {row['psnr']:.2f} dB, SSIM {row['ssim']:.3f}", file=sys.stderr)
        last = "" if scorer is None else f"{metric_title(variant)} {figures['lpips']:.3f}, "
        print(f"mean: {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}, {last}{len(rows)} views", file=sys.stderr)
        if self.json is not None:
            write_json(self.json, figures)
        return figures
