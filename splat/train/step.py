"""One step of training: draw its items, and move what they pull at.

`draw` and `move` are the work of the device, and nothing else: what changes from step to step reaches them as numbers
in its memory, so that a GPU can record them once and replay them (see `graph`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Item, Step
from splat.native import bindings
from splat.native.bindings import sent
from splat.train.distributed import everyones
from splat.train.rows import Drawn, camera_centre, gradient_of, leaves, summed
from splat.train.view_model import ViewCorrection

if TYPE_CHECKING:
    from splat.train.loop import Trainer


@dataclass(frozen=True, eq=False)
class Shot:
    """What an item that was drawn left behind."""

    correction: ViewCorrection
    drawn: Drawn
    loss: Tensor
    figures: dict[str, Any]
    """Of the losses, for the log."""
    seen_from: Tensor | None
    """The camera's centre, where the gradient of harmonics is that of their constant alone."""


def eager_step(t: Trainer, items: list[Item]) -> dict[str, Any]:
    """Draw and move now. Returns figures for the log."""
    step, line, shots = t.step, {}, []
    corrections: list[ViewCorrection] = []
    alone = len(items) == 1 and t.ranks.world == 1
    for item in items:
        shot = draw(t, step, item, sent(background_of(t, item), t.device), factored=alone)
        if shot is None:
            continue
        shots.append(shot)
        corrections += everyones(shot.correction, t.ranks)
        line = told(t, item, shot.loss, shot.figures)
    move(t, step, shots, corrections)
    return line


def background_of(t: Trainer, item: Item) -> list[float]:
    """The colour that this step has behind this photo."""
    colour: list[float] = t.settings.background.colour(item.alpha is not None, t.generator).tolist()
    return colour


def told(t: Trainer, item: Item, loss: Tensor, figures: dict[str, Any]) -> dict[str, Any]:
    """Leave the loss to be read, and what there was no room for. Returns figures for the log."""
    t.telling.note(loss, figures.get("psnr", math.nan), item.view_id)
    t.tell(t.room.noted(item.camera))
    return {"loss": loss, **{k: v for k, v in figures.items() if k != "psnr"}}


def draw(
    t: Trainer,
    step: int,
    item: Item,
    background: Float[Tensor, "3"],
    factored: bool,
    view_numbers: Tensor | None = None,
) -> Shot | None:
    """Draw an item, and find the gradient of its loss. None, with a warning, when the loss has no finite value; where
    asking for it would wait for a GPU, the gradient then counts as zero. `factored`: see `RasterSettings.factored_sh`.
    """
    dropout, progress = t.settings.dropout, step / max(1, t.total)
    waits_for_gpu = bindings.waits(t.device)
    gaussians = t.model.gaussians(step)
    raster = replace(
        t.settings.raster,
        absgrad=t.density.wants_absgrad(step),
        factored_sh=factored and t.model.takes_factored_sh,
        capacity=t.room.capacity,
    )
    correction = t.view_model.begin(item, progress, view_numbers)
    pose = correction.cam_from_world()
    ids: Tensor | None = None
    if not t.raster.culls(t.device):
        ids = t.raster.visible(gaussians, item.camera, pose.detach(), raster)
    elif dropout.share(progress) > 0:
        ids = torch.arange(len(gaussians), device=t.device)
    if ids is not None:
        ids = dropout.keep(ids, progress, t.generator)
    rows = leaves(gaussians, ids)
    render = t.raster(dropout.compensate(rows, progress), item.camera, pose, background, raster)
    image, affine = correction.expose(render, background)
    photo = _photo(item, background)
    loss, figures = t.phase.losses(Step(step, item, render, image, affine, photo, rows, t.settings.scene_extent))
    if not waits_for_gpu and t.ranks.sums(not math.isfinite(float(loss.detach())))[0]:
        t.telling.skip(item.view_id, t.step)
        return None
    loss.backward(_weight_of(loss, item.loss_weight, waits_for_gpu))
    with torch.no_grad():
        for camera, share in render.shares or ((item.camera, render),):
            t.density.after_backward(step, ids, share, camera)
        t.room.note(render)
    seen_from = None if render.sh0_gradient is None else camera_centre(pose.detach())
    drawn = Drawn(ids, gradient_of(rows, render), render.radii if ids is None else None)
    return Shot(correction, drawn, loss.detach(), figures, seen_from)


def move(
    t: Trainer,
    step: int,
    shots: list[Shot],
    corrections: list[ViewCorrection],
    view_numbers: Tensor | None = None,
    numbers: Tensor | None = None,
) -> None:
    """One optimizer step of what belongs to the photos and of the Gaussians. Numbers as in `ViewModel.update` and
    `FreeGaussians.update`."""
    more: dict[str, Any] = {} if numbers is None else {"numbers": numbers}
    with torch.no_grad():
        for correction in corrections:
            t.view_model.update(correction, step / max(1, t.total), view_numbers)
        if shots:
            one = summed([s.drawn for s in shots])
            t.model.update(step, one.ids, one.gradient, shots[-1].seen_from, one.seen, **more)
        if decay := t.settings.opacity_decay.amount(step, t.total):
            t.model.shift(None, logit_opacities=decay)


def _weight_of(loss: Tensor, weight: float, waits_for_gpu: bool) -> Tensor:
    """What the gradient is multiplied by: nothing of a loss without a value may move anything. (What stays NaN when
    multiplied by zero, the optimizers leave out.)"""
    whole = torch.full_like(loss, weight)
    return whole.where(loss.detach().isfinite(), torch.zeros_like(whole)) if waits_for_gpu else whole


def _photo(item: Item, background: Float[Tensor, "3"]) -> Tensor:
    """The photo as it is, or as floats over the step's background where it has alpha."""
    if item.alpha is None:
        return item.rgb
    target = item.rgb.float().div_(255)
    alpha = item.alpha.float()[..., None] / 255
    return target * alpha + background * (1 - alpha)
