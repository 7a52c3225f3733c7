"""`splat demo`: the main job on photos that this machine makes itself, so that it needs no data and can be judged."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from splat.bench.scenes import load_scenes
from splat.commands.reconstruct import Reconstruct
from splat.core.files import write_json
from splat.core.geometry import align_points
from splat.core.slots import Reporter
from splat.geometry.drawing import draw_view
from splat.run.completed import CompletedRun


@dataclass(frozen=True)
class Demo:
    """Ray-trace 24 photos of a walk through a room, forget where they were taken, reconstruct them, and compare."""

    out: Path = Path("runs/demo")
    """The run folder; the photos are made in its `photos/`."""
    preset: Literal["fast", "default", "quality"] = "default"
    """As in `splat reconstruct`."""
    seed: int = 0
    """Of everything that is random."""
    quiet: bool = False
    """Say nothing on the terminal but errors."""

    def __call__(self, report: Reporter | None = None) -> dict[str, Any]:
        scenes = load_scenes()
        if not self.quiet:
            print(f"making the photos of `atelier` in {self.out / 'photos'}", file=sys.stderr)
        truth = scenes.make("atelier", self.out / "photos")
        metrics = Reconstruct(
            photos=self.out / "photos" / "images",
            out=self.out,
            preset=self.preset,
            ignore_poses=True,
            seed=self.seed,
            quiet=self.quiet,
        )(report)
        metrics["truth"] = compare(self.out, truth)
        write_json(self.out / "metrics.json", metrics)
        if not self.quiet:
            t = metrics["truth"]
            print(
                f"against the truth: {metrics['registered'][0]} of {metrics['registered'][1]} photos placed, camera "
                f"centres within {t['centre_error_percent']:.2f} % of the path's size (median), depth within "
                f"{t['depth_error_percent']:.2f} % (median), held-out PSNR {metrics['psnr']:.2f} dB",
                file=sys.stderr,
            )
            print(f"walk through it: splat view {shlex.quote(str(self.out))}", file=sys.stderr)
        return metrics


def compare(run_folder: Path, truth: Any) -> dict[str, float]:
    """Errors after the similarity that aligns the found camera centres with the true ones.

    `centre_error_percent`: median distance of the camera centres, in percent of the largest distance between two true
    ones. `depth_error_percent`: median relative error of the rendered expected depth over all pixels of all views.
    """
    run = CompletedRun.open(run_folder)
    names = list(truth.names)
    true_poses = dict(zip(names, truth.world_from_cam))
    views = [v for v in run.capture.views if v.name in true_poses and v.world_from_cam is not None]
    found = torch.stack([v.world_from_cam.translation for v in views if v.world_from_cam is not None])
    true = torch.stack([true_poses[v.name].translation for v in views]).double()
    truth_from_world = align_points(found, true)
    centre_error = (truth_from_world.apply(found) - true).norm(dim=1).median()
    size = torch.cdist(true, true).max()
    errors = []
    background = run.trained.background
    for v in views:
        render = draw_view(run.trained.gaussians, v.camera, v.pose, run.raster, run.settings, background)
        depth = render.depth / render.alpha.clamp(min=1e-6) * truth_from_world.scale
        exact = torch.as_tensor(truth.depth(v.name)).float()
        if exact.shape != depth.shape:
            exact = torch.nn.functional.interpolate(exact[None, None], depth.shape, mode="nearest")[0, 0]
        known = torch.isfinite(exact) & (exact > 0)
        errors.append(((depth - exact).abs() / exact)[known])
    return {
        "centre_error_percent": float(100 * centre_error / size),
        "depth_error_percent": float(100 * torch.cat(errors).median()),
    }
