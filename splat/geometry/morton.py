"""Morton (Z-order) sorting of points, which keeps neighbours in space together in memory."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BITS = 21  # per axis: three of them fill the positive half of an int64


def morton_order(positions: Float[Tensor, "n 3"]) -> Int[Tensor, "n"]:
    """Ids that sort points along a Z-order curve (Morton 1966) of 2^21 cells per axis of the box around them. Points in
    one cell keep their order; one that is not finite counts as the box's lowest corner."""
    if len(positions) == 0:
        return torch.zeros(0, dtype=torch.int64, device=positions.device)
    finite = positions.isfinite().all(1, keepdim=True)
    low = torch.where(finite, positions, torch.inf).amin(0)
    high = torch.where(finite, positions, -torch.inf).amax(0)
    # In double: a float holds only 24 bits, and a box that far points stretch needs its finest cells.
    share = (positions - low).double() / (high - low).double().clamp_min(1e-30)
    cells = (torch.where(finite, share, 0.0) * ((1 << _BITS) - 1)).long()
    x, y, z = (_spread(c) for c in cells.unbind(1))
    return (x | y << 1 | z << 2).argsort(stable=True)


def _spread(v: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Two zero bits after each of 21 bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        v = (v | v << shift) & mask
    return v
