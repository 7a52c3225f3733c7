"""L1 of smaller images (CoherentGS, section 3.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Step

_HALVINGS = 4


def coarse_l1(step: Step) -> Float[Tensor, ""]:
    """Sum of |render - photo| at 1/2, 1/4, 1/8 and 1/16 of the size (averages over squares), weighted by 1/4, 1/8, 1/16
    and 1/32: with the L1 at full size the published multi-scale loss. Sizes below one pixel are left out; pixels count
    by their weight."""
    difference = step.rgb - step.target
    if step.item.weight is not None:
        difference = difference * (step.item.weight.to(difference) / 255)[..., None]
    planes = difference.permute(2, 0, 1)[None]
    total = difference.new_zeros(())
    for k in range(1, _HALVINGS + 1):
        if min(planes.shape[2:]) < 2:
            break
        planes = torch.nn.functional.avg_pool2d(planes, 2)
        total = total + planes.abs().mean() / 2 ** (k + 1)
    return total
