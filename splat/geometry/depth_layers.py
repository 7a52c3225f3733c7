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
