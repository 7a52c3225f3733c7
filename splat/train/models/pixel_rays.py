"""Gaussians that are the pixels of photos (CoherentGS, Paliwal et al. 2024): depth and opacity come from a field.

Only the depth of a Gaussian along its pixel's ray moves it. Colour, size and rotation are as of free Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.schedules import StepSizes
from splat.core.slots import Init, RowGradients
from splat.train.models.free import FreeGaussians
from splat.train.models.match_terms import Reprojection, WorldDistance, gradient_by_depth, working_matches
from splat.train.models.own_rays import own_rays
from splat.train.models.ray_fields import STEPS, FieldRows, FieldSettings, make_field

FOOTPRINT = 0.6
"""px: standard deviation of a Gaussian in its own photo."""
_FIXED = ("origins", "directions", "starts", "logits", "footprints")


@dataclass(frozen=True)
class PixelSettings:
    """How Gaussians that are pixels are learned."""

    field: FieldSettings = field(default_factory=FieldSettings)
    """Depth and opacity."""
    train_colour: bool = False
    """Learn the view-independent colour too, as the paper says. Its code passes it to the optimizer but never asks for
    its gradient, so that it stays that of the pixel."""
    reset_until: float = 8_000 / STEPS
    """Until this fraction of the steps sizes are set to 0.6 px of the own photo now and then."""
    reset_every: float = 100 / STEPS
    """Fraction of the steps between two such resets."""
    flow: Literal["world", "reprojection"] = "world"
    """world: the published distance of matched points in the world, of one random photo in each step; it shrinks the
    scene where matches are noisy. reprojection: their error in pixels, of all photos."""
    flow_weight: float = 0.01
    """Weight of the term; 0: off. The paper says 0.1, its code multiplies by that twice."""
    min_depth: float = 0.2
    """No Gaussian is nearer to its own camera than this, in units of the nearest depth / 1.33. A deliberate fix: the
    published code lets depth become negative, and does not draw what is nearer than this to a camera."""


class PixelRays(FreeGaussians):
    """A `slots.Parameterization`. Rows can be neither added nor removed nor sorted.

    `gaussians()` decodes depth and opacity once, and keeps the graph until `update`. Processes that train together
    would each have a decoder of their own: one process is meant.
    """

    def __init__(
        self, gaussians: Gaussians, init: Init, views: Sequence[View], settings: PixelSettings, steps: int, unit: float
    ) -> None:
        """`steps`: of the phase; `unit`: the nearest depth / 1.33, world units."""
        super().__init__(gaussians)
        if init.view_ids is None or init.pixels is None or init.rays is None:
            raise ValueError("Gaussians that are pixels need the view and pixel that each came from.")
        self.settings, self.steps, self.unit, self.updates = settings, steps, unit, 0
        self.every = max(1, round(settings.reset_every * steps))
        device = gaussians.means.device
        own = init.view_ids.to(device)
        origins, directions, depth = own_rays(self.rows["means"], own, views)
        focal = torch.tensor([v.camera.fy for v in views], device=device)[own]
        fixed = {
            "origins": origins,
            "directions": directions,
            "starts": depth / unit,
            "logits": self.rows["logit_opacities"].clone(),
            "footprints": FOOTPRINT / focal,
        }
        self.fixed = {name: value.contiguous() for name, value in fixed.items()}
        layers, pixels = init.rays.layers.to(device), init.pixels.to(device)
        sizes = [(v.camera.width, v.camera.height) for v in views]
        rows = FieldRows(own, layers, pixels, sizes, self.fixed["starts"], self.fixed["logits"])
        self.field = make_field(rows, settings.field, steps)
        self.shifted = 0.0
        """What was added to all logits from outside."""
        self.generator = torch.Generator().manual_seed(0)
        self.flow = self._flow_term(init, views, own, pixels)
        self.z = depth
        self.stale = True

    def _flow_term(
        self, init: Init, views: Sequence[View], own: Tensor, pixels: Tensor
    ) -> WorldDistance | Reprojection | None:
        if self.settings.flow_weight == 0:
            return None
        pairs = working_matches(init, views)
        if not pairs:
            return None
        if self.settings.flow == "reprojection":
            return Reprojection.of(init, views, pairs).to(own.device)
        index = [torch.full((v.camera.height, v.camera.width), -1) for v in views]
        for i, rows in enumerate(index):
            mine = (own == i).nonzero()[:, 0]
            x, y = pixels[mine].floor().long().unbind(1)
            rows[y.cpu(), x.cpu()] = mine.cpu()
        return WorldDistance(pairs, index, self.fixed["origins"], self.fixed["directions"], self.unit)

    # -------------------------------------------------------------------------------------------------------- reading

    def gaussians(self) -> Gaussians:
        """As of `FreeGaussians`, with depth and opacity decoded."""
        if self.stale:
            depth, logits = self.field.values()
            self.z = self.unit * depth.clamp_min(self.settings.min_depth)
            self.rows["means"].copy_(
                torch.addcmul(self.fixed["origins"], self.fixed["directions"], self.z[:, None].to(self.rows["means"]))
            )
            self.rows["logit_opacities"].copy_(logits + self.shifted)
            self.stale = False
        return super().gaussians()

    # ------------------------------------------------------------------------------------------------------- updating

    def update(self, gradient: RowGradients, rates: StepSizes) -> None:
        """One step of the field, and of Adam of what free Gaussians have besides positions and opacities."""
        self.gaussians()
        ids = slice(None) if gradient.ids is None else gradient.ids
        fields = gradient.fields
        by_z, by_logit = torch.zeros(2, len(self), device=self.z.device).unbind(0)
        by_z[ids] = (self.fixed["directions"][ids] * fields.means).sum(1)
        by_logit[ids] = fields.logit_opacities
        by_z += self._flow_gradient()
        bounded = self.z <= self.unit * self.settings.min_depth * (1 + 1e-6)
        # At the limit a pull towards the camera has nowhere to go; a push away from it must be felt.
        by_z = torch.where(bounded & (by_z > 0), 0, by_z)
        frozen = replace(
            fields,
            means=torch.zeros_like(fields.means),
            logit_opacities=torch.zeros_like(fields.logit_opacities),
        )
        colour = rates.sh0 if self.settings.train_colour else 0.0
        super().update(replace(gradient, fields=frozen), replace(rates, means=0.0, opacities=0.0, sh0=colour))
        by_depth, by_logit = (t.nan_to_num(0.0, 0.0, 0.0) for t in (self.unit * by_z, by_logit))
        self.field.update(by_depth, by_logit, rates.progress)
        self.stale = True
        self.updates += 1
        if rates.progress < self.settings.reset_until and self.updates % self.every == 0:
            self.gaussians()
            self.rows["log_scales"].copy_((self.fixed["footprints"] * self.z).log()[:, None].expand(-1, 3))

    def _flow_gradient(self) -> Float[Tensor, "n"] | float:
        if self.flow is None:
            return 0.0
        view = None
        if isinstance(self.flow, WorldDistance):
            view = int(torch.randint(len(self.flow.pixels), (1,), generator=self.generator))
        return self.settings.flow_weight * gradient_by_depth(self.flow, self.z, view)

    def shift(self, ids: Tensor | None, **deltas: Tensor | float) -> None:
        """See `slots.Parameterization.shift`. Opacities as a whole can be shifted, positions cannot."""
        decay = deltas.pop("logit_opacities", 0.0)
        if deltas.pop("means", None) is not None or ids is not None or not isinstance(decay, float):
            raise ValueError("Gaussians that are pixels cannot be moved one by one.")
        self.shifted += decay
        self.stale = True
        super().shift(None, **deltas)

    # -------------------------------------------------------------------------------------------------------- editing

    def edit(self, keep: Tensor, append: Gaussians | None, parents: Int[Tensor, "m"] | None = None) -> None:
        if not bool(keep.all()) or (append is not None and len(append)):
            raise ValueError("Gaussians that are pixels can be neither added nor removed.")

    def rearrange(self, permutation: Int[Tensor, "n"]) -> None:
        """The position of a row is its pixel: nothing is done."""

    def assign(self, ids: Int[Tensor, "m"], rows: Gaussians, parents: Int[Tensor, "m"] | None = None) -> None:
        raise ValueError("Gaussians that are pixels cannot be replaced.")

    # -------------------------------------------------------------------------------------------------------- keeping

    def places(self) -> tuple[Any, ...]:
        raise NotImplementedError("steps of Gaussians on rays are not captured in graphs.")

    def state(self) -> dict[str, Any]:
        own = {
            "fixed": {name: self.fixed[name].clone() for name in _FIXED},
            "field": self.field.state(),
            "generator": self.generator.get_state(),
            "shifted": self.shifted,
            "updates": self.updates,
        }
        return {**super().state(), "pixels": own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        own, device = state["pixels"], self.z.device
        for name in _FIXED:  # in place: the field and the flow term read the same memory
            self.fixed[name].copy_(own["fixed"][name].to(device))
        self.field.load_state(own["field"])
        self.generator.set_state(own["generator"])
        self.shifted, self.updates = float(own["shifted"]), int(own["updates"])
        self.stale = True
