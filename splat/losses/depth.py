"""Losses of rendered depth. Relative throughout: the unit of the world does not matter."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Step

_MIN_ALPHA = 0.2
"""Where less is drawn, depth says nothing."""


def depth_error(step: Step, limit: float) -> Float[Tensor, ""] | None:
    """Mean of probability x min(|z / known - 1|, limit) over all pixels, z being the expected depth of the render: a
    depth that is wrong by far counts as an outlier and has no gradient. None where the item has no depth."""
    inverse, probability = step.item.inverse_depth, step.item.probability
    if inverse is None or probability is None:
        return None
    alpha = step.render.alpha
    z = step.render.depth / alpha.clamp_min(_MIN_ALPHA)
    error = (z * inverse - 1).abs().clamp_max(limit)
    return (error * probability * (alpha.detach() > _MIN_ALPHA)).mean()


def disparity_variation(step: Step, contrast: float = 0.05) -> Float[Tensor, ""]:
    """Mean change of rendered disparity from pixel to pixel, relative to the mean disparity, where the photo has no
    edge: |d| exp(-|dI| / contrast), dI the mean change of colour (Godard et al. 2017, eq. 5). What is rendered from all
    Gaussians couples the photos."""
    alpha, depth = step.render.alpha, step.render.depth
    drawn = alpha.detach() > _MIN_ALPHA
    disparity = torch.where(drawn, alpha / depth.clamp_min(1e-12), 0)
    disparity = disparity / (disparity.detach()[drawn].mean() if bool(drawn.any()) else 1.0)
    photo = step.target
    total = disparity.new_zeros(())
    for axis in (0, 1):
        n = disparity.shape[axis]
        change = (disparity.narrow(axis, 1, n - 1) - disparity.narrow(axis, 0, n - 1)).abs()
        edge = (photo.narrow(axis, 1, n - 1) - photo.narrow(axis, 0, n - 1)).abs().mean(2)
        both = drawn.narrow(axis, 1, n - 1) & drawn.narrow(axis, 0, n - 1)
        total = total + (change * torch.exp(-edge / contrast) * both).sum() / drawn.numel()
    return total
