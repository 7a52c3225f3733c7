"""Depth layers of a photo: regions without a jump of depth, which deform together (CoherentGS, section 3.2)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def depth_layers(
    depth: Float[Tensor, "h w"], jump: float = 0.06, min_share: float = 0.01, bands: int = 5
) -> Int[Tensor, "h w"]:
    """A layer for every pixel, numbered from 0.

    Connected regions within which neighbouring depths differ by less than the fraction `jump` are layers of their own
    where they have at least `min_share` of the pixels. All others (thin things, borders) are divided by their depth
    into up to `bands` layers of equal numbers of pixels. Depths that are not above 0 count as the farthest.
    """
    import cv2

    known = depth > 0
    if not bool(known.any()):
        return torch.zeros(depth.shape, dtype=torch.int64)
    log = torch.where(known, depth, depth[known].max()).log()
    inner = torch.ones(depth.shape, dtype=torch.bool)
    inner[:, :-1] &= (log[:, 1:] - log[:, :-1]).abs() < jump
    inner[:-1] &= (log[1:] - log[:-1]).abs() < jump
    _, labels = cv2.connectedComponents(inner.numpy().astype(np.uint8), connectivity=4)
    regions = torch.from_numpy(labels).long()
    size = regions.reshape(-1).bincount()
    large = size >= min_share * depth.numel()
    large[0] = False  # the jumps themselves
    number = torch.where(large, large.cumsum(0) - 1, -1)
    layers = number[regions]
    rest = layers < 0
    count = int(rest.sum())
    if count:
        order = log[rest].argsort(stable=True).argsort()
        band = (order * min(bands, count) // count).long()
        layers[rest] = int(large.sum()) + band
    return layers


def disparity_layers(disparity: Float[Tensor, "h w"], count: int = 5, every: int = 10) -> Int[Tensor, "h w"]:
    """Layers by disparity alone, as published: from 0, the farthest, to `count` - 1, each an interval of disparity.

    The intervals are those of k-means in one dimension (the published code clusters by Ward's criterion, the same sum
    of squares, greedily) over every `every`-th pixel in x and y. They cover all disparities: in the published code
    what is farther than all samples, a sky at 0 for example, is in no layer and never changes.
    """
    step = max(1, min(every, min(disparity.shape) // 8))
    values = disparity[::step, ::step].reshape(-1).double()
    even = values.min() + (values.max() - values.min()) * torch.linspace(0, 1, count, dtype=torch.float64)
    centres = (even + values.quantile((torch.arange(count, dtype=torch.float64) + 0.5) / count)) / 2
    for _ in range(100):
        own = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)
        sizes = own.bincount(minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, own, values)
        moved = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return torch.bucketize(disparity.double(), (centres[1:] + centres[:-1]) / 2)
