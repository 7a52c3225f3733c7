"""`metrics.json`: the figures of a run, for people and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splat.core import about as about_this
from splat.core.capture import Capture
from splat.core.foreign import read_json
from splat.core.machine import peak_memory_mb
from splat.core.slots import PoseResult
from splat.export.renders import HOLES_FILE
from splat.geometry.holes import HOLE_ALPHA
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
    hold-out protocol, what was cleaned)."""
    averages = result.averages()
    seconds = {name: round(s, 2) for name, s in c.run.seconds.items()}
    busy = {name: round(s, 2) for name, s in c.run.processor_seconds.items()}
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
        "floaters_worst": None if result.worst is None else {"place": result.worst.name, "share": result.worst.share},
        "holes": _holes(c, result),
        "clean": None,
        **({"figures": more} if (more := result.more()) else {}),
        "train_psnr": mean([p.figures["psnr"] for p in result.train]),
        "num_gaussians": len(trained.gaussians),
        "num_surroundings": len(trained.surroundings or ()),
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
        "processor_seconds": busy | {"total": round(sum(busy.values()), 2)},
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "registered": [len(posed.capture.views), posed.total],
        "resolution": list(max(sizes)),
        "seed": c.seed,
        "iterations": trained.steps,
        "raster": c.raster.name,
        "warnings": list(warnings),
        "machine": about_this.machine(),
        "versions": about_this.versions(),
        **about,
        **asked,
    }


def _holes(c: Context, result: Evaluation) -> dict[str, float | None]:
    """Mean percentages of pixels at which nothing is drawn (alpha below `alpha_below`): in held-out views, of what
    their photos show, and along the paths of the renders, where these were written."""
    out: dict[str, float | None] = {"alpha_below": HOLE_ALPHA}
    out["test"] = mean([p.figures["holes_percent"] for p in result.test])
    for name in ("orbit", "path"):
        described = c.run.root / "export" / "renders" / name / "holes" / HOLES_FILE
        out[name] = float(read_json(described)["mean_percent"]) if described.is_file() else None
    return out
