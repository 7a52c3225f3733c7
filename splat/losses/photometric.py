"""The photometric loss of 3D Gaussian splatting: L1 and SSIM between a render and its photo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core import devices
from splat.core.metrics import ssim_map
from splat.native import bindings
from splat.native.ops import compiled


@dataclass(frozen=True, eq=False)
class Photometric:
    """The loss and its terms."""

    total: Float[Tensor, ""]
    """`l1_weight * l1 + dssim_weight * dssim`; differentiable in the image and the affine map."""
    l1: float | Tensor
    """A number; on a GPU a tensor [], whose reading blocks."""
    dssim: float | Tensor
    psnr: float | Tensor
    """dB, of the image clamped to [0, 1], over the pixels whose weight is not 0."""


def photometric(
    image: Float[Tensor, "h w c"],
    target: Tensor,
    weight: Tensor | None = None,
    l1_weight: float = 0.8,
    dssim_weight: float = 0.2,
    affine: Float[Tensor, "3 4"] | None = None,
) -> Photometric:
    """`l1_weight * l1 + dssim_weight * dssim`, where x is the image, or A image + b per pixel if affine = [A | b] is
    given:

        l1 = mean(w |x - target|),   dssim = mean(w (1 - ssim))

    SSIM is per pixel and channel as in `core.metrics.ssim_map`; means are over all values of the image. `target` is
    [h w c], float in [0, 1] or uint8. `weight` is uint8 [h w], w = weight / 255; where it is 0 both images are set to
    black before SSIM, so that such pixels do not influence the loss at all. With `dssim_weight` 0, SSIM is not computed
    and dssim is 0.

    float32 uses a compiled kernel that computes value and gradients in one pass.
    """
    if target.shape != image.shape or (weight is not None and weight.shape != image.shape[:2]):
        raise ValueError(f"the image is {tuple(image.shape)}, its target {tuple(target.shape)}: they must agree.")
    if not compiled(image, target):
        return torch_photometric(image, target, weight, l1_weight, dssim_weight, affine)
    parts = torch.empty(3, dtype=torch.float64, device=image.device)
    wanted = torch.is_grad_enabled()
    total = _Photometric.apply(image, target, weight, l1_weight, dssim_weight, affine, parts, wanted)
    if devices.is_asynchronous(parts.device):
        return Photometric(total, parts[0], parts[1], -10 * parts[2].clamp_min(1e-10).log10())
    l1, dssim, square = parts.tolist()
    return Photometric(total, l1, dssim, _psnr(square))


def _psnr(square: float) -> float:
    return -10 * math.log10(max(square, 1e-10)) if math.isfinite(square) else math.nan


class _Photometric(torch.autograd.Function):
    """Fills in `parts` [3]: l1, dssim, mean squared error."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        target: Tensor,
        weight: Tensor | None,
        l1_weight: float,
        dssim_weight: float,
        affine: Tensor | None,
        parts: Tensor,
        differentiate: bool,
    ) -> Tensor:
        h, w, c = image.shape
        image = image.detach().contiguous()
        target = target.detach().contiguous()
        integer = target.dtype == torch.uint8
        by_affine = differentiate and affine is not None and ctx.needs_input_grad[5]
        by_image = differentiate and (ctx.needs_input_grad[0] or by_affine)
        gradient = torch.empty_like(image) if by_image else None
        g_affine = torch.empty(3, 4, dtype=torch.float64, device=image.device) if by_affine else None
        workspace = bindings.workspace("splat_photometric_workspace", h, w, c, device=image.device)
        bindings.call(
            "splat_photometric",
            *(h, w, c, image),
            *((target, None) if integer else (None, target)),
            None if weight is None else weight.contiguous(),
            *(l1_weight, dssim_weight, None if affine is None else affine.detach().contiguous()),
            *(parts, gradient, g_affine),
            *(workspace, len(workspace)),
        )
        ctx.gradients = gradient, g_affine
        return (l1_weight * parts[0] + dssim_weight * parts[1]).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_image, by_affine = ctx.gradients
        scale = gradients[0] if devices.is_asynchronous(gradients[0].device) else float(gradients[0])
        if isinstance(scale, Tensor) or scale != 1:
            by_image = None if by_image is None else by_image * scale
            by_affine = None if by_affine is None else by_affine * scale
        return by_image, None, None, None, None, None if by_affine is None else by_affine.float(), None, None


def torch_photometric(
    image: Float[Tensor, "h w c"],
    target: Tensor,
    weight: Tensor | None = None,
    l1_weight: float = 0.8,
    dssim_weight: float = 0.2,
    affine: Float[Tensor, "3 4"] | None = None,
) -> Photometric:
    """`photometric` in plain torch, on any device and in double precision."""
    if affine is not None:
        image = image @ affine[:, :3].T + affine[:, 3]
    target = target.to(image) / 255 if target.dtype == torch.uint8 else target.to(image)
    w = image.new_ones(image.shape[:2]) if weight is None else weight.to(image) / 255
    l1 = (w[..., None] * (image - target).abs()).mean()
    dssim = l1.new_zeros(())
    if dssim_weight:
        there = (w > 0).to(image)[..., None]
        dssim = (w[..., None] * (1 - ssim_map(image * there, target * there))).mean()
    square = (image.detach().clamp(0, 1) - target).square()[w > 0].mean().nan_to_num(0.0)
    l1_value, dssim_value = float(l1.detach()), float(dssim.detach())
    return Photometric(l1_weight * l1 + dssim_weight * dssim, l1_value, dssim_value, _psnr(float(square)))
