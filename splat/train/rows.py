"""The rows of one step: where autograd starts, and the gradients that it leaves there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.gaussians import Gaussians
from splat.core.slots import Render
from splat.native.ops import gather


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one item leaves for the update."""

    ids: Tensor | None
    """The rows; None: all of them, of which those with `seen` not 0 were drawn."""
    gradient: Gaussians
    seen: Tensor | None


def leaves(gaussians: Gaussians, ids: Tensor | None) -> Gaussians:
    """Only what may be seen takes part: gathered rows are where autograd starts. All rows are not copied."""
    tensors = list(vars(gaussians).values())
    if ids is None or len(ids) == len(gaussians):
        rows = [t.detach() for t in tensors]
    else:
        rows = gather(tensors, ids)
    return Gaussians(*(t.requires_grad_() for t in rows))


def gradient_of(rows: Gaussians, render: Render) -> Gaussians:
    """The rows' gradients as a Gaussians; of the constant harmonic alone where the rasterizer stopped there."""
    fields = {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in vars(rows).items() if name != "sh"}
    sh, constant = rows.sh.grad, render.sh0_gradient
    if constant is not None:  # not filled in by a loss that does not look at the image
        sh = constant if render.means2d.grad is not None else torch.zeros_like(constant)
    return Gaussians(**fields, sh=torch.zeros_like(rows.sh) if sh is None else sh)


def camera_centre(cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "3"]:
    return -(cam_from_world[:3, :3] * cam_from_world[:3, 3:]).sum(0)


def summed(drawn_of: list[Drawn]) -> Drawn:
    """The sum of several items' gradients on the union of their rows."""
    if len(drawn_of) == 1:
        return drawn_of[0]
    stacked = Gaussians.cat([d.gradient for d in drawn_of])
    ids_of = [d.ids for d in drawn_of if d.ids is not None]
    if not ids_of:
        radii = torch.stack([d.seen for d in drawn_of if d.seen is not None])
        return Drawn(None, stacked.map(lambda t: t.unflatten(0, (len(drawn_of), -1)).sum(0)), radii.amax(0))
    union, where = torch.cat(ids_of).unique(return_inverse=True)
    total = stacked.map(lambda t: t.new_zeros(len(union), *t.shape[1:]).index_add_(0, where, t))
    return Drawn(union, total, None)
