"""`metrics.json`: the figures of a run, for people and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splat.core.capture import Capture
from splat.core.machine import peak_memory_mb
from splat.core.slots import PoseResult
from splat.run.trained import Trained
from splat.stages.context import Context
from splat.stages.evaluate import Evaluation
from splat.stages.measure import mean


def gather_metrics(
    c: Context,
    capture: Capture,
    posed: PoseResult,
    trained: Trained,
    result: Evaluation,
    warnings: Sequence[str],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """What `metrics.json` holds. Scripts read it: names and units stay. `about`: what the run adds of itself (method,
    hold-out protocol)."""
    averages = result.averages()
    seconds = {name: round(s, 2) for name, s in c.run.seconds.items()}
    sizes = [(v.camera.width, v.camera.height) for v in capture.views]
    asked = {"timeline": trained.timeline, "displacement": trained.displacement} if trained.timeline else {}
    return {
        "psnr": averages["psnr"],
        "ssim": averages["ssim"],
        "lpips": averages["lpips"],
        "lpips_variant": None if averages["lpips"] is None else result.lpips_variant,
        "cc_psnr": averages["cc_psnr"],
        "views": [p.figures for p in result.test],
        "floaters": result.floaters,
        "train_psnr": mean([p.figures["psnr"] for p in result.train]),
        "num_gaussians": len(trained.gaussians),
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "registered": [len(posed.capture.views), posed.total],
        "resolution": list(max(sizes)),
        "seed": c.seed,
        "iterations": trained.steps,
        "raster": c.raster.name,
        "warnings": list(warnings),
        **about,
        **asked,
    }
