"""`splat demo`: the main job on photos that this machine makes itself, so that it needs no data and can be judged."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from splat.commands.reconstruct import Reconstruct


@dataclass(frozen=True)
class Demo:
    """Ray-trace 24 photos of a walk through a room, forget where they were taken, reconstruct them, and compare."""

    out: Path = Path("runs/demo")
    """The run folder; the photos are made in its `photos/`."""
    preset: Literal["fast", "default", "quality"] = "default"
    """As in `splat reconstruct`."""
    seed: int = 0
    quiet: bool = False

    def __call__(self) -> dict[str, Any]:
        from splat.bench.scenes import load_scenes
        from splat.commands.demo_truth import compare
        from splat.core.files import write_json

        scenes = load_scenes()
        if not self.quiet:
            print(f"making the photos of `atelier` in {self.out / 'photos'}", file=sys.stderr)
        truth = scenes.make("atelier", self.out / "photos")
        config = Reconstruct.defaults_for(["--preset", self.preset])
        config = replace(
            config,
            photos=self.out / "photos" / "images",
            out=self.out,
            ignore_poses=True,
            seed=self.seed,
            quiet=self.quiet,
        )
        metrics = config()
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
        return metrics
