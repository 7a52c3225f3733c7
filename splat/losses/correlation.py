"""Correlation of rendered depth with the depth map of a photo: what a prior of unknown scale and offset can teach."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Step

_MIN_ALPHA = 0.2
"""Where less is drawn, depth says nothing."""
_MIN_PIXELS = 16
_CONSTANT = 1e-6
"""A map whose standard deviation is below this fraction of its mean counts as constant."""


def pearson_distance(
    a: Float[Tensor, "*n"], b: Float[Tensor, "*n"], weight: Float[Tensor, "*n"] | None = None
) -> Float[Tensor, ""]:
    """1 - the weighted Pearson correlation of two maps: 0 where they agree up to scale and offset, 2 where one is the
    other turned round, 1 (without a gradient) where one of them is constant."""
    w = torch.ones_like(a) if weight is None else weight.to(a)
    w = w / w.sum().clamp_min(1e-12)
    mean_a, mean_b = (w * a).sum(), (w * b).sum()
    da, db = a - mean_a, b - mean_b
    var_a, var_b = (w * da * da).sum(), (w * db * db).sum()
    varies = (var_a > (_CONSTANT * mean_a.detach()) ** 2) & (var_b > (_CONSTANT * mean_b.detach()) ** 2)
    # The inner `where` keeps the derivative of the square roots finite where the outer one discards them.
    scale = torch.where(varies, var_a, 1).sqrt() * torch.where(varies, var_b, 1).sqrt()
    return 1 - torch.where(varies, (w * da * db).sum() / scale, 0)


def depth_correlation(step: Step) -> Float[Tensor, ""] | None:
    """`pearson_distance` of expected rendered depth and known depth over the whole image, weighted by the probability
    of the latter. None where the item has no depth."""
    maps = _maps(step)
    return None if maps is None else pearson_distance(*maps)


def patch_correlation(step: Step, size: int) -> Float[Tensor, ""] | None:
    """The mean of `pearson_distance` over square patches at random places (chosen by the number of the step): half as
    many as tile the image, at least one. A patch larger than the image is the image. Patches in which next to nothing
    is known do not count; None where none does."""
    maps = _maps(step)
    if maps is None:
        return None
    height, width = maps[0].shape
    found = []
    for y, x in patch_corners(height, width, size, step.number):
        rendered, known, weight = (m[y : y + size, x : x + size] for m in maps)
        if int((weight > 0).sum()) >= min(_MIN_PIXELS, weight.numel()):
            found.append(pearson_distance(rendered, known, weight))
    return torch.stack(found).mean() if found else None


def patch_count(height: int, width: int, size: int) -> int:
    """max(1, int(0.5 floor(height / size) floor(width / size)))."""
    return max(1, int(0.5 * (height // size) * (width // size)))


def patch_corners(height: int, width: int, size: int, seed: int) -> list[tuple[int, int]]:
    """Row and column of the first pixel of each patch."""
    generator = torch.Generator().manual_seed(seed)
    count = patch_count(height, width, size)
    corners = [torch.randint(max(1, n - size + 1), (count,), generator=generator).tolist() for n in (height, width)]
    return list(zip(*corners, strict=True))


def _maps(step: Step) -> tuple[Tensor, Tensor, Tensor] | None:
    """Rendered depth, known depth (1 where there is none) and weight."""
    inverse, probability = step.item.inverse_depth, step.item.probability
    if inverse is None or probability is None:
        return None
    alpha = step.render.alpha
    known = inverse > 0
    weight = probability * known * (alpha.detach() > _MIN_ALPHA)
    for counts in (step.item.weight, step.item.alpha):
        weight = weight if counts is None else weight * (counts / 255)
    if int((weight > 0).sum()) < _MIN_PIXELS:
        return None
    z = step.render.depth / alpha.clamp_min(_MIN_ALPHA)
    return z, torch.where(known, 1 / inverse.clamp_min(1e-12), 1).to(z), weight.to(z)
