"""What is measured: units, which way is better, digits that are shown, and how much a gate lets through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Quantity:
    name: str
    title: str
    unit: str = ""
    direction: Literal["higher", "lower"] = "higher"
    """Which is better."""
    digits: int = 2
    tolerance: float = 0.0
    """By how much a value may be worse than a baseline's: in its unit, or a share where `relative`."""
    relative: bool = False


_KNOWN = {
    q.name: q
    for q in (
        Quantity("psnr", "PSNR", "dB", tolerance=0.3),
        Quantity("ssim", "SSIM", digits=4, tolerance=0.01),
        Quantity("lpips", "LPIPS", direction="lower", digits=4, tolerance=0.01),
        Quantity("stlpips", "ST-LPIPS", direction="lower", digits=4, tolerance=0.01),
        Quantity("cc_psnr", "PSNR, colour-corrected", "dB", tolerance=0.3),
        Quantity("floaters", "floaters", direction="lower", digits=4, tolerance=0.01),
        Quantity("num_gaussians", "Gaussians", direction="lower", digits=0, tolerance=0.2, relative=True),
        Quantity("peak_memory_mb", "peak memory", "MB", "lower", 0, 0.2, relative=True),
        Quantity("seconds", "seconds", "s", "lower", 0, 0.5, relative=True),
    )
}
_SPOKEN = {"8bit": "8 bit", "uniform": "uniform window", "vgg": "VGG", "alex": "AlexNet", "01": "fed [0, 1]"}
QUALITY = ("psnr", "ssim", "lpips", "stlpips", "cc_psnr")
"""Columns of every table that has them; figures that were asked for follow."""


def quantity(name: str) -> Quantity:
    """By the name of a column; of figures such as `ssim-uniform-8bit` that of their metric."""
    if name in _KNOWN:
        return _KNOWN[name]
    metric, *options = name.split("-")
    base = _KNOWN.get(metric, Quantity(metric, metric))
    return replace(base, name=name, title=f"{base.title} ({', '.join(_SPOKEN.get(o, o) for o in options)})")


def quality_columns(names: Iterable[str]) -> list[str]:
    """Those of `names` that are about quality, in the order of a table."""
    there = list(dict.fromkeys(names))
    return [n for n in QUALITY if n in there] + [n for n in there if "-" in n]


def values_of(metrics: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Every figure of a cell with its unit and direction, for readers who do not know this program."""
    if metrics is None:
        return []
    found: dict[str, Any] = {n: metrics.get(n) for n in ("psnr", "ssim", "lpips", "cc_psnr", "floaters")}
    if str(metrics.get("lpips_variant", "")).startswith("stlpips"):
        found["stlpips"] = found.pop("lpips")
    found |= metrics.get("figures") or {}
    found |= {n: metrics.get(n) for n in ("num_gaussians", "peak_memory_mb")}
    found["seconds"] = metrics.get("seconds", {}).get("total")
    out = []
    for name, value in found.items():
        if value is not None:
            q = quantity(name)
            out.append({"name": name, "value": value, "unit": q.unit, "direction": q.direction})
    return out
