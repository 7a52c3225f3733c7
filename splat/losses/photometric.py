"""L1 and SSIM between a render and its photo: the loss of 3D Gaussian splatting."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.metrics import ssim_map
from splat.native import bindings
from splat.native.ops import on_cpu


def photometric(
    image: Float[Tensor, "h w c"],
    target: Tensor,
    weight: Tensor | None = None,
    l1_weight: float = 0.8,
    dssim_weight: float = 0.2,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """`l1_weight * l1 + dssim_weight * dssim` and, for the log, its two parts (without gradient):

        l1 = mean(w |image - target|),   dssim = mean(w (1 - ssim))

    with SSIM per pixel and channel as in `core.metrics.ssim_map` and means over all values of the image. `target` is
    [h w c], float or uint8 (of 255). `weight` is uint8 [h w], of 255; where it is 0 both images count as black inside
    SSIM's windows, so that such a pixel has no effect on the loss at all. SSIM
    of weight 0 is not evaluated (0).

    Differentiable by `image`. float32 on the CPU runs compiled, value and gradient in one pass.
    """
    if target.shape != image.shape or (weight is not None and weight.shape != image.shape[:2]):
        raise ValueError(f"the image is {tuple(image.shape)}, its target {tuple(target.shape)}: they must agree.")
    if on_cpu(image, target):
        total, parts = _Photometric.apply(image, target, weight, l1_weight, dssim_weight, torch.is_grad_enabled())
        return total, parts[0], parts[1]
    return torch_photometric(image, target, weight, l1_weight, dssim_weight)


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        target: Tensor,
        weight: Tensor | None,
        l1_weight: float,
        dssim_weight: float,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        h, w, c = image.shape
        image = image.detach().contiguous()
        target = target.detach().contiguous()
        integer = target.dtype == torch.uint8
        gradient = torch.empty_like(image) if differentiate and ctx.needs_input_grad[0] else None
        parts = torch.empty(2, dtype=torch.float64)
        size = bindings.query("splat_photometric_workspace", h, w, c)
        bindings.call(
            "splat_photometric",
            *(h, w, c, image),
            *((target, None) if integer else (None, target)),
            None if weight is None else weight.contiguous(),
            *(l1_weight, dssim_weight, parts, gradient),
            *(torch.empty(size, dtype=torch.uint8), size),
        )
        ctx.save_for_backward(gradient)
        total = l1_weight * parts[0] + dssim_weight * parts[1]
        parts = parts.float()
        ctx.mark_non_differentiable(parts)
        return total.float(), parts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None, None, None


def torch_photometric(
    image: Float[Tensor, "h w c"], target: Tensor, weight: Tensor | None, l1_weight: float, dssim_weight: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """`photometric` in plain torch, on any device and in double precision."""
    target = target.to(image) / 255 if target.dtype == torch.uint8 else target.to(image)
    w = image.new_ones(image.shape[:2]) if weight is None else weight.to(image) / 255
    l1 = (w[..., None] * (image - target).abs()).mean()
    dssim = l1.new_zeros(())
    if dssim_weight:
        there = (w > 0).to(image)[..., None]
        dssim = (w[..., None] * (1 - ssim_map(image * there, target * there))).mean()
    return l1_weight * l1 + dssim_weight * dssim, l1.detach(), dssim.detach()
