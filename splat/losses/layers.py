"""Total variation of rendered disparity within depth layers (CoherentGS, section 3.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Step


def layered_variation(step: Step, share: float) -> Float[Tensor, ""]:
    """share TV_layers(q) + (1 - share) TV(q), with q = 1 / (1 + z) of the rendered mean depth, z in units of
    `Item.depth_unit`, and TV = mean |dx| + mean |dy| over all pairs of neighbouring pixels.

    TV_layers counts the pairs within one layer. The published code multiplies q by each layer's mask before it takes
    differences, so that every border of a layer is an edge as high as q, which pulls it away from the camera. Without
    layers the share is 0.
    """
    depth = step.render.depth / (step.render.alpha + 1e-6) / step.item.depth_unit
    q, layers = 1 / (1 + depth), step.item.layers
    total = q.new_zeros(())
    for axis in (0, 1):
        n = q.shape[axis]
        if n < 2:
            continue
        change = (q.narrow(axis, 1, n - 1) - q.narrow(axis, 0, n - 1)).abs()
        if layers is not None:
            a, b = layers.narrow(axis, 1, n - 1), layers.narrow(axis, 0, n - 1)
            change = change * torch.where((a == b) & (a >= 0), 1.0, 1 - share)
        total = total + change.mean()
    return total
