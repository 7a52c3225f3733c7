"""Runs of a second on photos that have poses, for tests of what surrounds a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from splat.commands.reconstruct import Reconstruct
from splat.core.slots import Reporter
from splat.init import SfmPoints
from splat.methods import Points


def small(photos: Path, out: Path, **changes: Any) -> Reconstruct:
    settings: dict[str, Any] = {"method": "points", "methods": (Points(SfmPoints(random_count=300)),), "cap": 600}
    settings |= {"iterations": 20, "renders": False, "threads": 1, "quiet": True}
    return Reconstruct(photos=photos, out=out, **(settings | changes))


def reconstruct(photos: Path, out: Path, report: Reporter | None = None, **changes: Any) -> dict[str, Any]:
    return small(photos, out, **changes)(report)


def timeless(metrics: dict[str, Any]) -> dict[str, Any]:
    """Without times, memory and warnings; least squares differ in the last digits with the addresses of arrays."""
    other = ("seconds", "processor_seconds", "peak_memory_mb", "warnings")
    text = json.dumps({k: v for k, v in metrics.items() if k not in other})
    return json.loads(text, parse_float=lambda t: round(float(t), 8))
