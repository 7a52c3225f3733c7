"""One step of training, as functions over an explicit record: draw its items, then move what their gradients say.

`draw_item` and `optimizer_step` are the work of the device, and nothing else: what changes from step to step reaches
them as numbers in its memory, so that a GPU can record them once and replay them (see `train.accel.graph`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core import devices
from splat.core.devices import to_device
from splat.core.schedules import StepSizes
from splat.core.slots import DensityControl, Item, Parameterization, Phase, Rasterizer, RowGradients, Step
from splat.train.models.view_model import ViewCorrection, ViewModel
from splat.train.rows import gradients_of, leaves, summed


class Exchange:
    """What processes that train together tell each other within a step: here nothing, there is one process."""

    alone = True

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag

    def corrections(self, mine: ViewCorrection) -> list[ViewCorrection]:
        """Those of everyone's items, with their gradients."""
        return [mine]


@dataclass(frozen=True, eq=False)
class StepState:
    """All that a step reads and moves."""

    number: int
    """Steps done before, all phases together."""
    phase: Phase
    phase_step: int
    """Steps of this phase done before."""
    run_progress: float
    """The fraction of all phases' steps done: what belongs to photos counts by it."""
    model: Parameterization
    view_model: ViewModel
    density: DensityControl
    raster: Rasterizer
    scene_extent: float
    """World units."""
    generator: torch.Generator
    """Of all random numbers of training but those of the target source."""
    device: torch.device
    exchange: Exchange = field(default_factory=Exchange)
    capacity: int | None = None
    """See `RasterSettings.capacity`."""

    @property
    def progress(self) -> float:
        """The fraction of the phase's steps done."""
        return self.phase_step / max(1, self.phase.steps)

    @cached_property
    def rates(self) -> StepSizes:
        return self.phase.schedules.rates.at(self.progress, self.scene_extent)

    @cached_property
    def wants_absgrad(self) -> bool:
        return self.density.wants_absgrad(self.phase_step)

    @property
    def opacity_decay(self) -> float:
        """To be added to all logits after this step."""
        return self.phase.schedules.opacity_decay.amount(self.phase_step, self.phase.steps)


@dataclass(frozen=True, eq=False)
class ItemGradients:
    """What an item that was drawn left behind."""

    correction: ViewCorrection
    rows: RowGradients
    loss: Tensor
    figures: dict[str, Any]
    """Of the losses, for the log."""
    overflow: Tensor | None
    """See `Render.overflow`."""


@dataclass(eq=False)
class StepResult:
    """What a step says of itself; numbers on a GPU are tensors there, and reading them waits."""

    losses: list[tuple[Tensor, float | Tensor, int | None]] = field(default_factory=list)
    """Of each item the loss, the PSNR (dB; NaN: not known) and the view."""
    skipped: list[int | None] = field(default_factory=list)
    """Views whose loss had no finite value."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Of the last item, for the log: "loss" and the terms."""
    replayed: bool = False
    """Density control has done its part too."""

    def add(self, item: Item, loss: Tensor, figures: dict[str, Any]) -> None:
        self.losses.append((loss, figures.get("psnr", math.nan), item.view_id))
        self.figures = {"loss": loss, **{k: v for k, v in figures.items() if k != "psnr"}}


def eager_step(
    s: StepState, items: Sequence[Item], after_item: Callable[[Item, ItemGradients], None] | None = None
) -> StepResult:
    """Draw and move now, one kernel after the other."""
    result, found = StepResult(), list[RowGradients]()
    corrections: list[ViewCorrection] = []
    factored = len(items) == 1 and s.exchange.alone
    for item in items:
        gradients = draw_item(s, item, to_device(background_of(s, item), s.device), factored)
        if gradients is None:
            result.skipped.append(item.view_id)
            continue
        found.append(gradients.rows)
        corrections += s.exchange.corrections(gradients.correction)
        result.add(item, gradients.loss, gradients.figures)
        if after_item is not None:
            after_item(item, gradients)
    optimizer_step(s, found, corrections)
    return result


def background_of(s: StepState, item: Item) -> list[float]:
    """The colour that this step has behind this item."""
    colour: list[float] = s.phase.schedules.background.colour(item.alpha is not None, s.generator).tolist()
    return colour


def draw_item(
    s: StepState,
    item: Item,
    background: Float[Tensor, "3"],
    factored: bool,
    view_constants: Float[Tensor, "7"] | None = None,
) -> ItemGradients | None:
    """Draw an item, and find the gradient of its loss. None when the loss has no finite value; where asking for it
    would wait for a GPU, the gradient then counts as zero. `factored`: see `RasterSettings.factored_sh`;
    `view_constants`: as in `ViewModel.begin`."""
    dropout, waits_for_gpu = s.phase.schedules.dropout, devices.is_asynchronous(s.device)
    gaussians = s.model.gaussians()
    raster = replace(
        s.phase.raster,
        absgrad=s.wants_absgrad,
        factored_sh=factored and s.model.takes_factored_sh,
        capacity=s.capacity,
    )
    correction = s.view_model.begin(item, s.run_progress, view_constants)
    pose = correction.cam_from_world()
    ids: Tensor | None = None
    if not s.raster.culls(s.device):
        ids = s.raster.visible(gaussians, item.camera, pose.detach(), raster)
    elif dropout.share(s.progress) > 0:
        ids = torch.arange(len(gaussians), device=s.device)
    if ids is not None:
        ids = dropout.keep(ids, s.progress, s.generator)
    rows = leaves(gaussians, ids)
    render = s.raster(dropout.compensate(rows, s.progress), item.camera, pose, background, raster)
    image, affine = correction.expose(render, background)
    photo = _target(item, background)
    loss, figures = s.phase.losses(Step(s.number, item, render, image, affine, photo, rows, ids, s.scene_extent))
    if not waits_for_gpu and s.exchange.any(not math.isfinite(float(loss.detach()))):
        return None
    if loss.requires_grad:  # else no term counts for this item
        loss.backward(_weight_of(loss, item.loss_weight, waits_for_gpu))
    with torch.no_grad():
        for camera, share in render.shares or ((item.camera, render),):
            s.density.after_backward(s.phase_step, ids, share, camera)
        gradients = gradients_of(rows, ids, render, pose.detach())
    return ItemGradients(correction, gradients, loss.detach(), figures, render.overflow)


def optimizer_step(
    s: StepState,
    gradients: list[RowGradients],
    corrections: Sequence[ViewCorrection],
    view_constants: Float[Tensor, "7"] | None = None,
    update: Callable[[RowGradients], None] | None = None,
) -> None:
    """One optimizer step of what belongs to the photos and of the Gaussians. `view_constants` as in `ViewModel.update`;
    `update` does what the model's own would."""
    with torch.no_grad():
        for correction in corrections:
            s.view_model.update(correction, s.run_progress, view_constants)
        if gradients:
            one = summed(gradients)
            if update is None:
                s.model.update(one, s.rates)
            else:
                update(one)
        if decay := s.opacity_decay:
            s.model.shift(None, logit_opacities=decay)


def _weight_of(loss: Tensor, weight: float, waits_for_gpu: bool) -> Tensor:
    """What the gradient is multiplied by: nothing of a loss without a value may move anything. (What stays NaN when
    multiplied by zero, the optimizers leave out.)"""
    whole = torch.full_like(loss, weight)
    return whole.where(loss.detach().isfinite(), torch.zeros_like(whole)) if waits_for_gpu else whole


def _target(item: Item, background: Float[Tensor, "3"]) -> Tensor:
    """The photo as it is, or as floats over the step's background where it has alpha."""
    if item.alpha is None:
        return item.rgb
    target = item.rgb.float().div_(255)
    alpha = item.alpha.float()[..., None] / 255
    return target * alpha + background * (1 - alpha)
