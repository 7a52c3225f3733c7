"""The rows of one step: leaves of autograd, and their gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.gaussians import Gaussians
from splat.core.slots import Render, RowGradients
from splat.native.ops import gather


def leaves(gaussians: Gaussians, ids: Tensor | None) -> Gaussians:
    """Rows `ids` as leaves of autograd: gathered, or without a copy where they are all rows."""
    tensors = list(vars(gaussians).values())
    if ids is None or len(ids) == len(gaussians):
        rows = [t.detach() for t in tensors]
    else:
        rows = gather(tensors, ids)
    return Gaussians(*(t.requires_grad_() for t in rows))


def gradients_of(
    rows: Gaussians, ids: Tensor | None, render: Render, cam_from_world: Float[Tensor, "4 4"]
) -> RowGradients:
    """The gradients of the leaves. SH gradients are of degree 0 alone where the rasterizer computed
    `Render.sh0_gradient`."""
    fields = {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in vars(rows).items() if name != "sh"}
    sh, constant = rows.sh.grad, render.sh0_gradient
    if constant is not None:  # not filled in by a loss that does not look at the image
        sh = constant if render.means2d.grad is not None else torch.zeros_like(constant)
    return RowGradients(
        ids=ids,
        fields=Gaussians(**fields, sh=torch.zeros_like(rows.sh) if sh is None else sh),
        visibility=render.radii if ids is None else None,
        camera_centre=None if constant is None else camera_centre(cam_from_world),
    )


def camera_centre(cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "3"]:
    """Camera centre in the world."""
    return -(cam_from_world[:3, :3] * cam_from_world[:3, 3:]).sum(0)


def summed(gradients: list[RowGradients]) -> RowGradients:
    """The sum of the gradients of several items, on the union of their rows. Not for factored SH gradients."""
    if len(gradients) == 1:
        return gradients[0]
    stacked = Gaussians.cat([g.fields for g in gradients])
    ids_of = [g.ids for g in gradients if g.ids is not None]
    if not ids_of:
        radii = torch.stack([g.visibility for g in gradients if g.visibility is not None])
        return RowGradients(None, stacked.map(lambda t: t.unflatten(0, (len(gradients), -1)).sum(0)), radii.amax(0))
    union, where = torch.cat(ids_of).unique(return_inverse=True)
    total = stacked.map(lambda t: t.new_zeros(len(union), *t.shape[1:]).index_add_(0, where, t))
    return RowGradients(union, total)
