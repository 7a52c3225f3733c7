"""Local means over an image that do not mix surfaces of different depth: a bilateral grid."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_CELLS, _LEVELS = 12, 8
"""Cells along the long side, and over the range of depths."""
_BLURS = 2
_FAINT = 0.005
"""Of a cell's pixels, how many it takes to weigh as much as the given mean."""


class BilateralGrid:
    """Cells of an image by position and logarithm of depth (Chen, Paris & Durand 2007), about a twelfth of its long
    side and an eighth of its range of depths in size."""

    def __init__(self, depth: Float[Tensor, "h w"]) -> None:
        """depth: above 0 where it is known."""
        h, w = depth.shape
        self.cell = max(h, w) / _CELLS
        logs = depth.clamp_min(1e-12).log()
        known = logs[depth > 0]
        low, high = known[:: 1 + len(known) // 100_000].quantile(torch.tensor([0.02, 0.98])).tolist()
        self.shape = (_LEVELS, math.ceil(h / self.cell) + 1, math.ceil(w / self.cell) + 1)
        y, x = torch.meshgrid((torch.arange(h) + 0.5) / self.cell, (torch.arange(w) + 0.5) / self.cell, indexing="ij")
        level = ((logs - low) / max(high - low, 1e-6)).clamp(0, 1) * (_LEVELS - 1)
        self.places = torch.stack([level, y, x])  # [3 h w], in cells

    def means(self, values: Float[Tensor, "h w"], weights: Float[Tensor, "h w"], start: float) -> Float[Tensor, "h w"]:
        """Weighted means of values around each pixel, at about its depth; `start` where no weight is near."""
        some = (weights > 0).reshape(-1).nonzero()[:, 0]
        places = self.places.reshape(3, -1)[:, some]
        base = places.floor()
        part = places - base
        w = weights.reshape(-1)[some]
        rows = torch.stack([w, w * values.reshape(-1)[some]]) / self.cell**2
        sums = torch.zeros(2, math.prod(self.shape))
        for corner in torch.cartesian_prod(*[torch.arange(2)] * 3):
            share = torch.where(corner[:, None] > 0, part, 1 - part).prod(0)
            cells = [(b + c).long().clamp_max(n - 1) for b, c, n in zip(base, corner, self.shape, strict=True)]
            sums.index_add_(1, (cells[0] * self.shape[1] + cells[1]) * self.shape[2] + cells[2], share * rows)
        grid = sums.reshape(1, 2, *self.shape)
        kernel = torch.tensor([0.25, 0.5, 0.25]).reshape(1, 1, 3)
        for _ in range(_BLURS):
            for axis in (2, 3, 4):
                moved = grid.movedim(axis, -1)
                flat = torch.nn.functional.conv1d(moved.reshape(-1, 1, moved.shape[-1]), kernel, padding=1)
                grid = flat.reshape(moved.shape).movedim(-1, axis)
        means = (grid[:, 1:] + _FAINT * start) / (grid[:, :1] + _FAINT)
        scale = torch.tensor([2.0 / max(n - 1, 1) for n in reversed(self.shape)])
        at = self.places.flip(0).permute(1, 2, 0) * scale - 1
        return torch.nn.functional.grid_sample(means, at[None, None], align_corners=True, padding_mode="border")[
            0, 0, 0
        ]
