"""The edge filter of CoherentGS (section 1.3 of its description): depth that is blurred across an edge becomes sharp.

A "sparse bilateral" filter (Shih et al. 2020) whose weights are all equal: a median of the pixels that are on no edge.
The released code lists five windows, but returns the input of the last round: four take effect, and four are done here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WINDOWS = (7, 7, 5, 5)
"""Sides of the windows of the rounds, px."""
JUMP = 0.1
_ROWS = 20_000
"""Windows that are in memory at once."""


def normalized_disparity(disparity: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Disparity as the published code has it: over its maximum, plus 0.2, so from 0.2 (nothing known, or infinitely
    far) to 1.2."""
    return disparity / disparity.amax().clamp_min(1e-12) + 0.2


def on_edges(disparity: Float[Tensor, "h w"], jump: float = JUMP) -> Bool[Tensor, "h w"]:
    """Pixels where 1 / disparity differs by more than `jump` from one of the four neighbours."""
    depth = 1 / disparity.clamp_min(1e-12)
    edge = torch.zeros(depth.shape, dtype=torch.bool)
    across, down = (depth[:, 1:] - depth[:, :-1]).abs() > jump, (depth[1:] - depth[:-1]).abs() > jump
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def sharpen_edges(
    disparity: Float[Tensor, "h w"], windows: Sequence[int] = WINDOWS, jump: float = JUMP
) -> Float[Tensor, "h w"]:
    """`normalized_disparity` without the pixels that mix two depths.

    In each round, a pixel whose window has a pixel on an edge becomes the median of the window's pixels that are on no
    edge, if there is one; others stay. Windows end at the frame. (The released code replicates the border pixels from
    inside, which changes pixels far from every edge.)
    """
    for window in windows:
        disparity = _round(disparity, window, jump)
    return disparity


def _round(disparity: Tensor, window: int, jump: float) -> Tensor:
    reach = window // 2
    edge = on_edges(disparity, jump)
    near = torch.nn.functional.max_pool2d(edge.float()[None], window, 1, reach)[0] > 0
    rows, columns = near.nonzero().unbind(1)
    sure = torch.where(edge, torch.nan, disparity)
    padded = torch.nn.functional.pad(sure, (reach, reach, reach, reach), value=torch.nan)
    steps = torch.arange(window)
    out = disparity.clone()
    for start in range(0, len(rows), _ROWS):
        row, column = rows[start : start + _ROWS], columns[start : start + _ROWS]
        around = padded[row[:, None, None] + steps[:, None], column[:, None, None] + steps]
        median = around.flatten(1).nanmedian(1).values
        out[row, column] = torch.where(median.isnan(), out[row, column], median)
    return out
