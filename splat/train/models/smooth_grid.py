"""Coarse grids over the depth layers of photos: a smooth scalar per pixel, learned by Adam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_REFERENCE_SIDE = 504
"""px: the size of photo that `cells` refers to."""


@dataclass(frozen=True, eq=False)
class GridCells:
    """For n rows the nodes that each reads, and with which weight: bilinear, of the levels one after the other."""

    nodes: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]
    count: int
    """Number of nodes."""


def cells_of(
    views: Int[Tensor, "n"],
    layers: Int[Tensor, "n"],
    pixels: Float[Tensor, "n 2"],
    sizes: Sequence[tuple[int, int]],
    cells: Sequence[int],
) -> GridCells:
    """Rows at `pixels` of photos of these `sizes` (width, height), on a grid of their own for every view, layer and
    level. `cells`: sizes of the cells of each level, px of a photo whose long side is 504 px. Pixels outside of the
    frame read the border."""
    layer_count = int(layers.max()) + 1 if len(layers) else 1
    nodes, weights, start = [], [], 0
    sides = pixels.new_tensor([list(s) for s in sizes])
    for cell in cells:
        size = cell * sides.amax(1) / _REFERENCE_SIDE
        across = (sides / size[:, None]).ceil().long() + 1  # nodes [views 2]
        each = across.prod(1)
        first = start + layer_count * (each.cumsum(0) - each)
        where = (pixels / size[views][:, None]).clamp_min(0)
        last = across[views] - 1
        where = torch.minimum(where, last.to(where))
        corner = torch.minimum(where.floor().long(), last - 1)
        fraction = where - corner
        width = across[views, 0]
        base = first[views] + layers * each[views] + corner[:, 1] * width + corner[:, 0]
        fx, fy = fraction.unbind(1)
        nodes += [base, base + 1, base + width, base + width + 1]
        weights += [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]
        start = int(start + layer_count * each.sum())
    return GridCells(torch.stack(nodes, 1), torch.stack(weights, 1), start)


class SmoothGrid:
    """Values of grids' nodes, at first 0, with Adam's moments."""

    def __init__(self, cells: GridCells) -> None:
        self.cells = cells
        self.nodes, self.first, self.second = torch.zeros(3, cells.count, device=cells.weights.device).unbind(0)
        self.updates = 0

    def values(self) -> Float[Tensor, "n"]:
        """Of every row."""
        return (self.nodes[self.cells.nodes] * self.cells.weights).sum(1)

    def update(self, gradient: Float[Tensor, "m"], ids: Int[Tensor, "m"] | None, rate: float) -> None:
        """One Adam step by the gradient of rows `ids` (None: all); nodes without a row that was drawn stay."""
        nodes, weights = self.cells.nodes, self.cells.weights
        if ids is not None:
            nodes, weights = nodes[ids], weights[ids]
        total = torch.zeros_like(self.nodes)
        total.index_add_(0, nodes.reshape(-1), (weights * gradient[:, None]).reshape(-1))
        self.updates += 1
        drawn = total != 0
        self.first = torch.where(drawn, self.first.lerp(total, 0.1), self.first)
        self.second = torch.where(drawn, self.second.lerp(total.square(), 0.001), self.second)
        unbiased = math.sqrt(1 - 0.999**self.updates)
        step = rate / (1 - 0.9**self.updates) * self.first / (self.second.sqrt() / unbiased + 1e-15)
        self.nodes = torch.where(drawn, self.nodes - step, self.nodes)

    def select(self, rows: Tensor) -> None:
        """Keep or reorder rows."""
        self.cells = GridCells(self.cells.nodes[rows], self.cells.weights[rows], self.cells.count)

    def state(self) -> dict[str, Any]:
        cells = {"nodes": self.cells.nodes.clone(), "weights": self.cells.weights.clone(), "count": self.cells.count}
        moments = {"values": self.nodes.clone(), "first": self.first.clone(), "second": self.second.clone()}
        return {"cells": cells, **moments, "updates": self.updates}

    def load_state(self, state: dict[str, Any]) -> None:
        device = self.nodes.device
        cells = state["cells"]
        self.cells = GridCells(cells["nodes"].to(device), cells["weights"].to(device), int(cells["count"]))
        self.nodes, self.first, self.second = (state[n].to(device).clone() for n in ("values", "first", "second"))
        self.updates = int(state["updates"])
