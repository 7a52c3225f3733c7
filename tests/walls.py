"""A wall of Gaussians that is drawn in an instant."""

from __future__ import annotations

import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians, rgb_to_sh

CAMERA = Camera(40.0, 40.0, 20.0, 15.0, 40, 30)


def wall(z: float) -> Gaussians:
    """A dense opaque wall in the plane z that fills the left half of CAMERA's image."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 0, 21), indexing="ij")
    n = x.numel()
    return Gaussians(
        means=torch.stack([x.reshape(-1) * z, y.reshape(-1) * z, torch.full((n,), z)], 1),
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        log_scales=torch.tensor([0.03, 0.03, 0.001]).mul(z).log().repeat(n, 1),
        logit_opacities=torch.full((n,), 8.0),
        sh=rgb_to_sh(torch.tensor([[0.9, 0.4, 0.1]]).repeat(n, 1)),
    )
