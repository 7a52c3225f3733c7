"""Smoothing of a stereo depth map within what matching can tell: a pixel's plane becomes the mean of the planes around
that foretell about its disparity. With wide baselines a pixel of disparity is little depth and little changes; with
narrow ones matching is a lottery among depths that fit alike, and neighbours that are one surface agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from splat.geometry.reproject import pixel_transfer
from splat.priors.stereo_search import StereoView

RADII = (2, 4)
"""Of the rings of neighbours, px."""
NOISE = 1.2
"""Pixels of disparity by which a neighbour may differ: at this difference it counts for 1/e."""
LIKENESS = 12.0
"""Grey values by which a neighbour may differ, likewise."""


def disparity_rate(
    view: StereoView, inverse: Float[Tensor, "h w"], others: Sequence[StereoView]
) -> Float[Tensor, "h w"]:
    """By how many pixels the point of each pixel moves, at most, in one of the other photos when its inverse depth
    changes by its own size; 0 where none sees it."""
    h, w = inverse.shape
    x, y = torch.arange(w)[None] + 0.5, torch.arange(h)[:, None] + 0.5
    most = torch.zeros(h, w)
    for other in others:
        m = pixel_transfer(view.camera, other.camera, other.world_from_cam.inverse() @ view.world_from_cam).tolist()
        px, py, pz = (m[3 * k] * x + m[3 * k + 1] * y + m[3 * k + 2] + m[9 + k] * inverse for k in range(3))
        u, v = px / pz, py / pz
        seen = (pz > 0) & (u > 0) & (u < other.camera.width) & (v > 0) & (v < other.camera.height)
        rate = ((m[9] - u * m[11]).square() + (m[10] - v * m[11]).square()).sqrt() / pz * inverse
        most = torch.where(seen, torch.maximum(most, rate.nan_to_num(0)), most)
    return most


def smoothed(
    planes: Float[Tensor, "3 h w"],
    cost: Float[Tensor, "h w"],
    grey: Float[Tensor, "h w"],
    rate: Float[Tensor, "h w"],
    times: int = 2,
) -> Float[Tensor, "3 h w"]:
    """The planes after `times` rounds of averaging; where `rate` (`disparity_rate`) is 0 they stay."""
    h, w = grey.shape
    reach = max(RADII)

    def framed(values: Tensor) -> Tensor:
        return pad(values[None], (reach,) * 4, mode="replicate")[0]

    trust = (-4 * cost).exp()
    photo, trusted = framed(torch.stack([grey, trust]))
    for _ in range(times):
        wide = framed(planes)
        inverse = planes[0]
        per_pixel = rate / (NOISE * inverse.clamp_min(1e-12))  # of inverse depth, in units of the noise
        total = trust.clone()
        sums = planes * trust
        for dy, dx in [(a * r, b * r) for r in RADII for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]:
            rows, columns = slice(reach + dy, reach + dy + h), slice(reach + dx, reach + dx + w)
            theirs = wide[:, rows, columns]
            there = theirs[0] - theirs[1] * dx - theirs[2] * dy
            off = (there - inverse) * per_pixel
            like = (photo[rows, columns] - grey).abs_().mul_(1 / LIKENESS)
            weight = (off * off + like).neg_().exp_().mul_(trusted[rows, columns])
            total += weight
            sums[0] += weight * there
            sums[1] += weight * theirs[1]
            sums[2] += weight * theirs[2]
        planes = torch.where(rate > 0, sums / total, planes)
    return planes
