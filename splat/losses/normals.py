"""Rendered normals beside those of a photo's depth map or of a normal prior."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Step

_MIN_ALPHA = 0.2
"""Where less is drawn, normals say nothing."""
_TINY = 1e-12
"""Square of the length below which a rendered normal has no direction, and so no derivative."""


def normal_errors(step: Step) -> tuple[Float[Tensor, ""], Float[Tensor, ""]] | None:
    """Means over all pixels of w |n - known|, summed over the axes, and of w (1 - n . known); n is the direction of
    `Render.normals`, and w the probability of the photo's depth there times the weight of the pixel, 0 where no normal
    is known. Both in camera axes (OpenCV). None where the item has no normals, or none were rendered."""
    known, rendered = step.item.normals_cam, step.render.normals
    if known is None or rendered is None:
        return None
    there = (step.render.alpha.detach() > _MIN_ALPHA).to(rendered)
    if step.item.probability is not None:
        there = there * step.item.probability
    if step.item.weight is not None:
        there = there * (step.item.weight / 255)
    errors: tuple[Tensor, Tensor] = _NormalErrors.apply(rendered, known, there)
    return errors


class _NormalErrors(torch.autograd.Function):
    """Rendered and known normals [h w 3] and weights [h w] -> both errors. Values and derivatives in closed form, on
    planes [3 h w] whose memory is contiguous: a quarter of the time of the formulas recorded for differentiation."""

    @staticmethod
    def forward(ctx: Any, rendered: Tensor, known: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        n, wanted = _planes(rendered), _planes(known)
        square = _dot(n, n)
        inverse = square.clamp_min(_TINY).rsqrt_()
        weight = weight * (_dot(wanted, wanted) > 0.25).to(weight) * (square > _TINY).to(weight)
        n *= inverse
        cosine = _dot(n, wanted)
        ctx.save_for_backward(n, wanted, weight, inverse)
        pixels = weight.numel()
        far = (n - wanted).abs_()
        return ((far[0] + far[1] + far[2]) * weight).sum() / pixels, (weight - weight * cosine).sum() / pixels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        n, wanted, weight, inverse = ctx.saved_tensors
        by_l1, by_cosine = gradients
        # Of unit normals; then what is along them is taken away, and the rest divided by the length.
        of_unit = (n - wanted).sign_().mul_(by_l1).sub_(wanted * by_cosine)
        of_unit.sub_(n * _dot(n, of_unit)).mul_(weight * inverse / weight.numel())
        return of_unit.permute(1, 2, 0).contiguous(), None, None


def _planes(image: Tensor) -> Tensor:
    """A copy, even of an image whose memory is planes already."""
    return image.detach().permute(2, 0, 1).clone(memory_format=torch.contiguous_format)


def _dot(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])
