"""Rendered normals beside those of a photo's depth map or of a normal prior."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Step

_MIN_ALPHA = 0.2
"""Where less is drawn, normals say nothing."""


def normal_errors(step: Step) -> tuple[Float[Tensor, ""], Float[Tensor, ""]] | None:
    """Means over all pixels of |n - known|, summed over the axes, and of 1 - n . known, where a normal is known; n is
    the direction of `Render.normals`. Both in camera axes (OpenCV). None where the item has no normals, or none were
    rendered."""
    known, rendered = step.item.normals_cam, step.render.normals
    if known is None or rendered is None:
        return None
    there = (known.square().sum(2) > 0.25) & (step.render.alpha.detach() > _MIN_ALPHA)
    # Directions of zero length have no derivative: a constant stands in where nothing counts.
    safe = torch.where(there[..., None], rendered, rendered.new_tensor([0.0, 0.0, -1.0]))
    n = torch.nn.functional.normalize(safe, dim=2, eps=1e-6)
    difference = (n - known).abs().sum(2) * there
    angle = (1 - (n * known).sum(2)) * there
    return difference.mean(), angle.mean()
