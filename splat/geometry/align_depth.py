"""Alignment of depth that has no scale to depth that is known at some pixels: in closed form, robust to outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

_ROUNDS = 30
_MIN_SAMPLES = 8


@dataclass(frozen=True)
class Alignment:
    """1 / z = scale x value + offset for disparity, z = scale x value + offset for depth."""

    scale: float
    offset: float
    disparity: bool
    error: float
    """Median relative error of depth over the samples."""

    def depth(self, values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """z of values; 0 where the model gives nothing in front of the camera."""
        mapped = self.scale * values + self.offset
        if self.disparity:
            mapped = torch.where(mapped > 0, 1 / mapped.clamp_min(1e-12), 0)
        return torch.where(mapped.isfinite() & (mapped > 0), mapped, 0)


def align_depth(
    values: Float[Tensor, "n"],
    depth: Float[Tensor, "n"],
    family: Literal["metric", "up-to-scale", "disparity"],
    weight: Float[Tensor, "n"] | None = None,
) -> Alignment | None:
    """The map from `values` (depth up to an unknown scale and offset, or disparity) to the known `depth` (z, world
    units) of the same pixels.

    Weighted least squares of relative errors, reweighted by Cauchy's function at 1.5 times their median (Holland &
    Welsch 1977), from a start that half of the samples may be wrong for. Disparity is affine in 1 / z (Ranftl et al.
    2020), "up-to-scale" in z, "metric" needs a scale alone. None where there are too few samples, or no model gives
    most of them a depth in front of the camera.
    """
    usable = values.isfinite() & depth.isfinite() & (depth > 0)
    if family != "disparity":
        usable &= values > 0
    x, z = values[usable].double(), depth[usable].double()
    w = torch.ones_like(x) if weight is None else weight[usable].double()
    if len(x) < _MIN_SAMPLES or float(w.sum()) <= 0:
        return None
    disparity = family == "disparity"
    y = 1 / z if disparity else z
    free = family != "metric"
    scale, offset = _start(x, y, free)
    for _ in range(_ROUNDS):
        error = (scale * x + offset - y) / y
        spread = 1.5 * float(error.abs().median()) + 1e-9
        weights = w / y.square() / (1 + (error / spread).square())
        scale, offset = _line_fit(x, y, weights, free)
    found = Alignment(scale, offset, disparity, 0.0)
    mapped = found.depth(x)
    if scale <= 0 or float((mapped > 0).double().mean()) < 0.5:
        return None
    return Alignment(scale, offset, disparity, float((mapped / z - 1).abs().median()))


def _start(x: Tensor, y: Tensor, free: bool) -> tuple[float, float]:
    """Of lines through pairs of samples (or ratios), the one with the smallest median relative error."""
    if not free:
        return float((y / x).median()), 0.0
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randint(len(x), (2, 256), generator=generator)
    run = x[a] - x[b]
    steep = run.abs() > 0.05 * (x.quantile(0.9) - x.quantile(0.1))
    if not bool(steep.any()):
        return float((y / x.clamp_min(1e-12)).median()), 0.0
    scales = ((y[a] - y[b]) / run)[steep]
    offsets = y[a][steep] - scales * x[a][steep]
    some = torch.randint(len(x), (min(len(x), 500),), generator=generator)
    errors = ((scales[:, None] * x[some] + offsets[:, None]) / y[some] - 1).abs().median(1).values
    errors = torch.where(scales > 0, errors, torch.inf)
    best = int(errors.argmin())
    return float(scales[best]), float(offsets[best])


def _line_fit(x: Tensor, y: Tensor, w: Tensor, free: bool) -> tuple[float, float]:
    if not free:
        return float((w * x * y).sum() / (w * x * x).sum().clamp_min(1e-300)), 0.0
    total = w.sum()
    mx, my = (w * x).sum() / total, (w * y).sum() / total
    variance = (w * (x - mx).square()).sum()
    scale = float((w * (x - mx) * (y - my)).sum() / variance) if float(variance) > 0 else 0.0
    return scale, float(my - scale * mx)
