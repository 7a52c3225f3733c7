"""One step of training, as functions of an explicit record: render its items, then update the parameters.

`draw_item` and `optimizer_step` contain all work of the device. Values that change from step to step are read from
device memory, so that these functions can be captured in a CUDA graph and replayed (see `train.accel.graph`).
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
from splat.core.gaussians import Gaussians
from splat.core.schedules import StepSizes
from splat.core.slots import DensityControl, Item, Parameterization, Phase, Rasterizer, Render, RowGradients, Step
from splat.geometry.compositing import composite
from splat.train.models.view_model import ViewCorrection, ViewModel
from splat.train.rows import gradients_of, leaves, summed
from splat.train.surroundings import over_surroundings


class Exchange:
    """Communication between the processes of a step. The default: one process, nothing to exchange."""

    alone = True

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank."""
        return flag

    def corrections(self, mine: ViewCorrection) -> list[ViewCorrection]:
        """The corrections of the items of all ranks, with their gradients."""
        return [mine]


@dataclass(frozen=True, eq=False)
class StepState:
    """All that a step reads and updates."""

    number: int
    """Number of steps before this one, over all phases."""
    phase: Phase
    phase_step: int
    """Number of steps before this one, in this phase."""
    run_progress: float
    """Fraction of the steps of all phases done: schedules of exposure and poses use it."""
    model: Parameterization
    view_model: ViewModel
    density: DensityControl
    raster: Rasterizer
    scene_extent: float
    """World units."""
    generator: torch.Generator
    """Source of all random numbers of training, except those of the target source."""
    device: torch.device
    exchange: Exchange = field(default_factory=Exchange)
    capacity: int | None = None
    """See `RasterSettings.capacity`."""
    beyond: Gaussians | None = None
    """This process's part of what is behind the model (`Phase.surroundings`)."""

    @property
    def progress(self) -> float:
        """Fraction of the steps of the phase done."""
        return self.phase_step / max(1, self.phase.steps)

    @cached_property
    def rates(self) -> StepSizes:
        return self.phase.schedules.rates.at(self.progress, self.scene_extent)

    @cached_property
    def wants_absgrad(self) -> bool:
        return self.density.wants_absgrad(self.phase_step)

    @property
    def opacity_decay(self) -> float:
        """Value to add to all opacity logits after this step."""
        return self.phase.schedules.opacity_decay.amount(self.phase_step, self.phase.steps)


@dataclass(frozen=True, eq=False)
class ItemGradients:
    """What rendering an item and its backward pass returned."""

    correction: ViewCorrection
    rows: RowGradients
    loss: Tensor
    figures: dict[str, Any]
    """Values of the losses, for the log."""
    overflow: Tensor | None
    """See `Render.overflow`."""


@dataclass(eq=False)
class StepResult:
    """Values of a step. On a GPU they are tensors, and reading them blocks."""

    losses: list[tuple[Tensor, float | Tensor, int | None]] = field(default_factory=list)
    """Per item: loss, PSNR (dB; NaN: not known) and view."""
    skipped: list[int | None] = field(default_factory=list)
    """Views whose loss was not finite."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Of the last photo, or of the last item where there is none, for the log: "loss" and the terms."""
    replayed: bool = False
    """`after_update` of density control was part of the step."""
    _of_photo: bool = False

    def add(self, item: Item, loss: Tensor, figures: dict[str, Any]) -> None:
        is_photo = item.terms is None
        self.losses.append((loss, figures.get("psnr", math.nan) if is_photo else math.nan, item.view_id))
        if is_photo or not self._of_photo:
            self.figures = {"loss": loss, **{k: v for k, v in figures.items() if k != "psnr"}}
            self._of_photo = is_photo


def eager_step(
    s: StepState, items: Sequence[Item], after_item: Callable[[Item, ItemGradients], None] | None = None
) -> StepResult:
    """Do the step now, kernel by kernel."""
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
    """Background colour of this item in this step."""
    colour: list[float] = s.phase.schedules.background.colour(item.alpha is not None, s.generator).tolist()
    return colour


def draw_item(
    s: StepState,
    item: Item,
    background: Float[Tensor, "3"],
    factored: bool,
    view_constants: Float[Tensor, "7"] | None = None,
) -> ItemGradients | None:
    """Render an item and compute the gradients of its loss. None if the loss is not finite; on a GPU, where checking
    would block, such gradients count as zero instead. `factored`: see `RasterSettings.factored_sh`. `view_constants`:
    as in `ViewModel.begin`."""
    dropout, waits_for_gpu = s.phase.schedules.dropout, devices.is_asynchronous(s.device)
    gaussians = s.model.gaussians()
    k = item.supersample
    camera = drawn_camera(item)
    raster = replace(
        s.phase.raster,
        absgrad=s.wants_absgrad,
        normals=_reads_normals(s, item),
        factored_sh=factored and s.model.takes_factored_sh,
        capacity=s.capacity if k == 1 else None,  # it was measured at the item's own size
    )
    correction = s.view_model.begin(item, s.run_progress, view_constants)
    pose = correction.cam_from_world()
    ids: Tensor | None = None
    if not s.raster.culls(s.device):
        ids = s.raster.visible(gaussians, camera, pose.detach(), raster)
    elif dropout.share(s.progress) > 0:
        ids = torch.arange(len(gaussians), device=s.device)
    if ids is not None:
        ids = dropout.keep(ids, s.progress, s.generator)
    rows = leaves(gaussians, ids)
    render = s.raster(dropout.compensate(rows, s.progress), camera, pose, background, raster)
    seen = pooled(render, k)
    seen = over_surroundings(seen, s.beyond, item.camera, pose, background, s.raster, s.phase.raster)
    image, affine = correction.expose(seen, background)
    photo = _target(item, background)
    now = Step(s.number, item, seen, image, affine, photo, rows, ids, s.scene_extent, s.progress)
    loss, figures = s.phase.losses(now)
    if not waits_for_gpu and s.exchange.any(not math.isfinite(float(loss.detach()))):
        return None
    if loss.requires_grad:  # else no term counts for this item
        loss.backward(_weight_of(loss, item.loss_weight, waits_for_gpu))
    with torch.no_grad():
        for of, part in render.per_photo or ((camera, render),):
            s.density.after_backward(s.phase_step, ids, part, of)
        gradients = gradients_of(rows, ids, render, pose.detach())
    return ItemGradients(correction, gradients, loss.detach(), figures, render.overflow)


def _reads_normals(s: StepState, item: Item) -> bool:
    """Whether a term of the loss reads the rendered normals of the item in this step. Of several processes all draw
    them or none does, so there it does not depend on the item."""
    every = max(1, getattr(s.phase.losses, "normal_every", 1))
    known = item.normals_cam is not None or not s.exchange.alone
    return s.phase.raster.normals and known and s.number % every == 0


def drawn_camera(item: Item) -> Camera:
    """The camera that an item is drawn with before `pooled`."""
    k, camera = item.supersample, item.camera
    return camera if k == 1 else camera.resized(k * camera.width, k * camera.height)


def pooled(render: Render, k: int) -> Render:
    """The images of a render averaged over squares of k x k pixels; what is per Gaussian stays as it was drawn."""
    if k == 1:
        return render

    def mean(image: Tensor) -> Tensor:
        planes = image[None] if image.dim() == 2 else image.permute(2, 0, 1)
        small = torch.nn.functional.avg_pool2d(planes[None], k)[0]
        return small[0] if image.dim() == 2 else small.permute(1, 2, 0).contiguous()

    return replace(
        render,
        rgb=mean(render.rgb),
        alpha=mean(render.alpha),
        depth=mean(render.depth),
        normals=None if render.normals is None else mean(render.normals),
        features=None if render.features is None else mean(render.features),
    )


def optimizer_step(
    s: StepState,
    gradients: list[RowGradients],
    corrections: Sequence[ViewCorrection],
    view_constants: Float[Tensor, "7"] | None = None,
    update: Callable[[RowGradients], None] | None = None,
) -> None:
    """One optimizer step of the exposures and poses, and of the Gaussians. `view_constants` as in `ViewModel.update`;
    `update` replaces the model's own."""
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
    """Factor on the gradient: 0 for a loss that is not finite. (NaN times 0 stays NaN; the optimizers skip such
    values.)"""
    whole = torch.full_like(loss, weight)
    return whole.where(loss.detach().isfinite(), torch.zeros_like(whole)) if waits_for_gpu else whole


def _target(item: Item, background: Float[Tensor, "3"]) -> Tensor:
    """The photo as bytes, or as floats composited over the background where it has alpha."""
    return item.rgb if item.alpha is None else composite(item.rgb, item.alpha, background)
