"""Choosing pixels: as many as asked for, evenly spread."""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def stratified(density: Float[Tensor, "h w"], generator: torch.Generator) -> Int[Tensor, "k"]:
    """Pixels (flat numbers, ascending), as many as the densities (samples per pixel, at most 1) sum up to, spread
    evenly: along a curve that keeps to its neighbourhood, one sample for each unit of accumulated density."""
    h, w = density.shape
    order = _hilbert_order(h, w)
    along = density.reshape(-1)[order].double().cumsum(0) + float(torch.rand((), generator=generator))
    step = along.floor().long()
    before = torch.cat([step.new_zeros(1), step[:-1]])
    return order[step > before].sort().values


@functools.lru_cache(maxsize=8)
def _hilbert_order(h: int, w: int) -> Int[Tensor, "hw"]:
    """Pixels in the order of a Hilbert curve over the square around them."""
    bits = max(1, math.ceil(math.log2(max(h, w, 2))))
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    x, y = x.reshape(-1).clone(), y.reshape(-1).clone()
    key = torch.zeros_like(x)
    for b in reversed(range(bits)):
        rx, ry = (x >> b) & 1, (y >> b) & 1
        key = key * 4 + ((3 * rx) ^ ry)
        size = (1 << b) - 1
        flip, swap = (ry == 0) & (rx == 1), ry == 0
        low_x, low_y = x & size, y & size
        low_x, low_y = torch.where(flip, size - low_x, low_x), torch.where(flip, size - low_y, low_y)
        x, y = torch.where(swap, low_y, low_x), torch.where(swap, low_x, low_y)
    return key.argsort()
