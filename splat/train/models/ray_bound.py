"""Gaussians that slide along the rays of their pixels (after CoherentGS, Paliwal et al. 2024).

A Gaussian's depth in its own view is z = z0 exp(g + s): g is read from a coarse grid of the pixel's depth layer, so
that a layer deforms smoothly and layers move independently; s is the Gaussian's own. Its size keeps its footprint in
the image: the standard deviations are proportional to z. What the photo shows is thereby right in its own view whatever
the depth, and depth follows from how well the other views are explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.schedules import StepSizes, log_linear
from splat.core.slots import Init, RowGradients
from splat.native.ops import adam_constants
from splat.train.models.free import ALL, FreeGaussians
from splat.train.models.match_terms import Reprojection, gradient_by_depth
from splat.train.models.own_rays import own_rays
from splat.train.models.row_optimizer import RowOptimizer
from splat.train.models.smooth_grid import SmoothGrid, cells_of

_FIXED = ("origins", "directions", "starts", "low", "high", "probability")


@dataclass(frozen=True)
class RaySettings:
    """How Gaussians that are bound to rays move."""

    cells: tuple[int, ...] = (64, 16)
    """Sizes of the grids' cells, px of a photo of 504 px: each adds to the depth of its layer."""
    grid_rate: float = 3e-4
    """Learning rate of the grids, in logarithms of depth."""
    slide_rate: float = 2e-4
    """Of a Gaussian's own slide, where its depth is doubtful; times (1 - probability)."""
    final: float = 0.1
    """Factor on both rates at the end; log-linear from 1."""
    hold: float = 2e-3
    """Share by which a step takes a Gaussian's own slide back, times the probability that its depth was right."""
    reprojection: float = 0.0
    """Weight of the mean error, px of a photo of 504 px, by which pixels that match meet in the other photo; also for
    Gaussians that the step does not render. 0: off."""


class RayBound(FreeGaussians):
    """A `slots.Parameterization`. Rows come from `Init` with views and rays; they can be removed, not added.

    What other rates, SH degrees and moments are concerned it is as free Gaussians are.
    """

    def __init__(self, gaussians: Gaussians, init: Init, views: Sequence[View], settings: RaySettings) -> None:
        super().__init__(gaussians)
        if init.view_ids is None or init.pixels is None or init.rays is None:
            raise ValueError("Gaussians on rays need the view and pixel that each came from.")
        self.settings = settings
        device = gaussians.means.device
        own = init.view_ids.to(device)
        origins, directions, depth = own_rays(self.rows["means"], own, views)
        fixed = {
            "origins": origins,
            "directions": directions,
            "starts": depth.log(),
            "low": init.rays.nearest.to(device).log(),
            "high": init.rays.farthest.to(device).log(),
            "probability": init.rays.probability.to(device),
        }
        self.fixed = {name: value.contiguous() for name, value in fixed.items()}
        sizes = [(v.camera.width, v.camera.height) for v in views]
        cells = cells_of(own, init.rays.layers.to(device), init.pixels.to(device), sizes, settings.cells)
        self.grid = SmoothGrid(cells)
        self.slides = RowOptimizer({"slide": torch.zeros(len(own), 1, device=device)})
        self.offsets = torch.zeros(len(own), device=device)
        """log(z / z0) of every row, as the means have it."""
        self.matches: Reprojection | None = None
        if settings.reprojection:
            self.matches = Reprojection.of(init, views).to(device)

    # ------------------------------------------------------------------------------------------------------ updating

    def update(self, gradient: RowGradients, rates: StepSizes) -> None:
        """One Adam step of grids, slides and what free Gaussians have besides positions."""
        ids = slice(None) if gradient.ids is None else gradient.ids
        fields = gradient.fields
        z = (self.fixed["starts"][ids] + self.offsets[ids]).exp()
        along = z * (self.fixed["directions"][ids] * fields.means).sum(1) + fields.log_scales.sum(1)
        along = along.nan_to_num(0.0, 0.0, 0.0)
        super().update(replace(gradient, fields=replace(fields, means=torch.zeros_like(fields.means))), rates)
        decay = log_linear(1.0, self.settings.final, rates.progress)
        if self.matches is not None:
            along = self._with_matches(self.matches, along, gradient.ids)
            gradient = replace(gradient, ids=None, visibility=None)
        self.grid.update(along, gradient.ids, decay * self.settings.grid_rate)
        self._slide(along, gradient, decay * self.settings.slide_rate)
        self._place()

    def _with_matches(self, matches: Reprojection, along: Tensor, ids: Tensor | None) -> Float[Tensor, "n"]:
        """The gradient by log z of all rows: that of the photos and of the matches."""
        z = (self.fixed["starts"] + self.offsets).exp()
        total = self.settings.reprojection * z * gradient_by_depth(matches, z)
        total[slice(None) if ids is None else ids] += along
        return total

    def _slide(self, along: Float[Tensor, "m"], gradient: RowGradients, rate: float) -> None:
        """Adam on the rows' own slides; the step of a row whose depth is probable is small, and is taken back."""
        rows, probable = self.slides, self.fixed["probability"][:, None]
        rows.count_update()
        before = rows["slide"].clone()
        constants = torch.tensor(adam_constants([rate], rows.updates)).to(along)
        slides = [("slide", along[:, None].contiguous(), ALL)]
        rows.adam(slides, gradient.ids, gradient.visibility, (0.9, 0.999), 1e-15, constants)
        values = rows["slide"]
        moved = before + (1 - probable) * (values - before)
        held = moved * (1 - self.settings.hold * probable)
        drawn = torch.zeros(len(values), 1, dtype=torch.bool, device=values.device)
        ids = slice(None) if gradient.ids is None else gradient.ids
        drawn[ids] = True if gradient.visibility is None else (gradient.visibility > 0)[:, None]
        values.copy_(torch.where(drawn, held, before))

    def _place(self) -> None:
        """Means and scales of all rows from grids and slides, within what is allowed."""
        wanted = self.grid.values() + self.slides["slide"][:, 0]
        offsets = torch.minimum(torch.maximum(wanted, self.fixed["low"]), self.fixed["high"])
        change = offsets - self.offsets
        z = (self.fixed["starts"] + offsets).exp()
        self.rows["means"].copy_(torch.addcmul(self.fixed["origins"], self.fixed["directions"], z[:, None]))
        self.rows["log_scales"].add_(change[:, None])
        self.offsets = offsets

    # ------------------------------------------------------------------------------------------------------- editing

    def edit(self, keep: Tensor, append: Gaussians | None, parents: Int[Tensor, "m"] | None = None) -> None:
        if append is not None and len(append):
            raise ValueError("Gaussians cannot be added to those that are bound to rays.")
        super().edit(keep, None)
        self.slides.edit(keep, None)
        self._select(keep)

    def rearrange(self, permutation: Int[Tensor, "n"]) -> None:
        super().rearrange(permutation)
        self.slides.rearrange(permutation)
        self._select(permutation)

    def assign(self, ids: Int[Tensor, "m"], rows: Gaussians, parents: Int[Tensor, "m"] | None = None) -> None:
        raise ValueError("Gaussians that are bound to rays cannot be replaced.")

    def _select(self, rows: Tensor) -> None:
        self.fixed = {name: value[rows].contiguous() for name, value in self.fixed.items()}
        self.grid.select(rows)
        self.offsets = self.offsets[rows]
        if self.matches is not None:
            self.matches.select(rows)

    # ------------------------------------------------------------------------------------------------------- keeping

    def places(self) -> tuple[Any, ...]:
        raise NotImplementedError("steps of Gaussians on rays are not captured in graphs.")

    def state(self) -> dict[str, Any]:
        rays = {name: self.fixed[name].clone() for name in _FIXED}
        own = {"fixed": rays, "slides": self.slides.state(), "grid": self.grid.state(), "offsets": self.offsets.clone()}
        matches = {} if self.matches is None else {"matches": self.matches.state()}
        return {**super().state(), "rays": {**own, **matches}}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        own, device = state["rays"], self.offsets.device
        self.fixed = {name: own["fixed"][name].to(device) for name in _FIXED}
        self.slides.load_state(own["slides"])
        self.grid.load_state(own["grid"])
        self.offsets = own["offsets"].to(device)
        if self.matches is not None:
            self.matches.load_state(own["matches"])
