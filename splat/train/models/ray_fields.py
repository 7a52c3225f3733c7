"""Where Gaussians that are the pixels of photos are along their rays, and how opaque: what is learned of them.

`ConvField` is the published decoder; `GridField` and `FreeField` are what it is compared with. A field gives depth and
the logit of opacity of every row, and keeps the graph of that until its update.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.train.models.conv_decoder import DEPTH_WIDTHS, OPACITY_WIDTHS, ConvDecoder, width_for
from splat.train.models.smooth_grid import SmoothGrid, cells_of

STEPS = 13_000
"""Of the published second stage, whose schedules are fractions of it here."""


@dataclass(frozen=True)
class FieldSettings:
    """What is learned of depth and opacity."""

    kind: Literal["decoder", "grid", "free"] = "decoder"
    """decoder: the published network. grid: a coarse grid of log depth and of opacity for each depth layer. free: depth
    and opacity of every pixel by itself."""
    depth_width: int = 0
    """Width of the depth decoder; 0: as published for so many photos."""
    opacity_width: int = 0
    """Width of the opacity decoder; 0: as published for so many photos."""
    depth_reach: float = 50.0
    """Farthest change of depth, in units of the nearest depth / 1.33."""
    opacity_reach: float = 100.0
    """Largest change of the logit of opacity."""
    depth_rate: float = 1e-4
    """Highest learning rate of the depth decoder (triangular2, from a hundredth)."""
    opacity_rate: float = 1e-5
    """Highest learning rate of the opacity decoder (triangular2, from a tenth)."""
    max_faster: float = 10.0
    """Runs shorter than the published 13,000 steps have learning rates higher in proportion, at most by this; 1: the
    published rates whatever the length."""
    cells: tuple[int, ...] = (64, 16)
    """Grid: sizes of the cells, px of a photo of 504 px."""
    grid_rate: float = 3e-4
    """Grid: learning rate of log depth."""
    free_rate: float = 1e-3
    """Free: learning rate of depth, in units of the nearest depth / 1.33."""
    logit_rate: float = 0.01
    """Grid and free: learning rate of the logit of opacity."""


@dataclass(frozen=True, eq=False)
class FieldRows:
    """The n rows of a field: pixels of photos."""

    views: Int[Tensor, "n"]
    layers: Int[Tensor, "n"]
    """Depth layer of the pixel in its photo, from 0."""
    pixels: Float[Tensor, "n 2"]
    sizes: Sequence[tuple[int, int]]
    """(width, height) of each photo."""
    depths: Float[Tensor, "n"]
    """At the start, in units of the nearest depth / 1.33."""
    logits: Float[Tensor, "n"]
    """Of the opacity at the start."""


@runtime_checkable
class RayField(Protocol):
    def values(self) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """Depth (not bounded) and logit of opacity of every row, without gradient. Keeps what `update` needs."""
        ...

    def update(self, by_depth: Float[Tensor, "n"], by_logit: Float[Tensor, "n"], progress: float) -> None:
        """One step by the gradients of the last `values`."""
        ...

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


def triangular2(progress: float, rise: float, low: float, high: float) -> float:
    """The learning rate of a cyclic schedule (Smith 2017): from `low` to `high` and back in 2 x `rise`, fractions of a
    run, the height of the triangle halved in every cycle."""
    cycle = math.floor(progress / (2 * rise))
    x = abs(progress / rise - 2 * cycle - 1)
    return low + (high - low) * max(0.0, 1 - x) / 2**cycle


def make_field(rows: FieldRows, settings: FieldSettings, steps: int, seed: int = 0) -> RayField:
    """`steps`: of the phase."""
    if settings.kind == "free":
        return FreeField(rows, settings)
    if settings.kind == "grid":
        return GridField(rows, settings)
    return ConvField(rows, settings, steps, seed)


class ConvField:
    """Two decoders whose maps are one for each depth layer; a pixel reads those of its own layer, so a layer deforms
    smoothly and layers move independently: depth + reach tanh(f), logit + reach tanh(g).

    AdamW with its default weight decay. Photos of different sizes share maps of the largest width and height, in which
    each pixel reads the place it falls into.
    """

    def __init__(self, rows: FieldRows, settings: FieldSettings, steps: int, seed: int = 0) -> None:
        self.rows, self.settings = rows, settings
        device, views = rows.depths.device, len(rows.sizes)
        maps = int(rows.layers.max()) + 1
        width, height = (max(s[k] for s in rows.sizes) for k in (0, 1))
        sides = rows.pixels.new_tensor([list(s) for s in rows.sizes])[rows.views]
        x, y = (rows.pixels * rows.pixels.new_tensor([width, height]) / sides).floor().long().unbind(1)
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        self.places = ((rows.views * maps + rows.layers) * height + y) * width + x
        widths = (
            settings.depth_width or width_for(DEPTH_WIDTHS, views),
            settings.opacity_width or width_for(OPACITY_WIDTHS, views),
        )
        self.decoders = [ConvDecoder(views, maps, height, width, g, seed + k).to(device) for k, g in enumerate(widths)]
        self.optimizers = [torch.optim.AdamW(d.parameters(), lr=1e-6) for d in self.decoders]
        self.faster = min(max(1.0, STEPS / max(1, steps)), settings.max_faster)
        self.graph: tuple[Tensor, ...] | None = None

    def values(self) -> tuple[Tensor, Tensor]:
        if self.graph is None:
            s = self.settings
            with torch.enable_grad():
                read = [d().reshape(-1).index_select(0, self.places).tanh() for d in self.decoders]
                self.graph = (self.rows.depths + s.depth_reach * read[0], self.rows.logits + s.opacity_reach * read[1])
        return self.graph[0].detach(), self.graph[1].detach()

    def update(self, by_depth: Tensor, by_logit: Tensor, progress: float) -> None:
        s, unit = self.settings, 1000 / STEPS
        self.values()
        assert self.graph is not None
        torch.autograd.backward(list(self.graph), [by_depth, by_logit])
        self.graph = None
        rates = (
            triangular2(progress, unit, s.depth_rate / 100, s.depth_rate),
            triangular2(progress, 2 * unit, s.opacity_rate / 10, s.opacity_rate),
        )
        for optimizer, rate in zip(self.optimizers, rates):
            for group in optimizer.param_groups:
                group["lr"] = self.faster * rate
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        networks = [{k: v.clone() for k, v in d.state_dict().items()} for d in self.decoders]
        moments = [
            {str(i): {k: v.clone() for k, v in o.state[p].items()} for i, p in enumerate(d.parameters()) if o.state[p]}
            for d, o in zip(self.decoders, self.optimizers)
        ]
        return {"networks": networks, "moments": moments}

    def load_state(self, state: dict[str, Any]) -> None:
        self.graph = None
        for d, o, network, moments in zip(self.decoders, self.optimizers, state["networks"], state["moments"]):
            d.load_state_dict(network)
            for i, p in enumerate(d.parameters()):
                o.state[p] = {
                    k: v.clone() if k == "step" else v.to(p.device).clone() for k, v in moments.get(str(i), {}).items()
                }


class FreeField:
    """Every row's own depth and logit, by Adam."""

    def __init__(self, rows: FieldRows, settings: FieldSettings) -> None:
        self.values_of = [rows.depths.clone(), rows.logits.clone()]
        self.moments = [[torch.zeros_like(v), torch.zeros_like(v)] for v in self.values_of]
        self.rates, self.updates = (settings.free_rate, settings.logit_rate), 0

    def values(self) -> tuple[Tensor, Tensor]:
        return self.values_of[0], self.values_of[1]

    def update(self, by_depth: Tensor, by_logit: Tensor, progress: float) -> None:
        self.updates += 1
        n = self.updates
        for value, (first, second), g, rate in zip(self.values_of, self.moments, (by_depth, by_logit), self.rates):
            first.lerp_(g, 0.1)
            second.lerp_(g.square(), 0.001)
            value -= rate / (1 - 0.9**n) * first / ((second / (1 - 0.999**n)).sqrt() + 1e-15)

    def state(self) -> dict[str, Any]:
        return {
            "values": [v.clone() for v in self.values_of],
            "moments": [[m.clone() for m in pair] for pair in self.moments],
            "updates": self.updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        device = self.values_of[0].device
        self.values_of = [v.to(device).clone() for v in state["values"]]
        self.moments = [[m.to(device).clone() for m in pair] for pair in state["moments"]]
        self.updates = int(state["updates"])


class GridField:
    """Log depth and logit of every layer of every photo on grids of coarse cells (`smooth_grid`)."""

    def __init__(self, rows: FieldRows, settings: FieldSettings) -> None:
        self.rows, self.settings = rows, settings
        cells = cells_of(rows.views, rows.layers, rows.pixels, rows.sizes, settings.cells)
        self.depth, self.logit = SmoothGrid(cells), SmoothGrid(cells)

    def values(self) -> tuple[Tensor, Tensor]:
        return self.rows.depths * self.depth.values().exp(), self.rows.logits + self.logit.values()

    def update(self, by_depth: Tensor, by_logit: Tensor, progress: float) -> None:
        s = self.settings
        self.depth.update(by_depth * self.values()[0], None, s.grid_rate)
        self.logit.update(by_logit, None, s.logit_rate)

    def state(self) -> dict[str, Any]:
        return {"depth": self.depth.state(), "logit": self.logit.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.depth.load_state(state["depth"])
        self.logit.load_state(state["logit"])
