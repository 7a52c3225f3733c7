"""Small worlds with known answers, shared by tests of every folder."""

from __future__ import annotations

import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid


def random_camera(width: int = 24, height: int = 16, focal: float = 20.0) -> Camera:
    """A pinhole whose principal point is off centre, so that no symmetry hides a mistake."""
    return Camera(fx=focal, fy=focal * 1.1, cx=width * 0.46, cy=height * 0.55, width=width, height=height)


def random_pose(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """cam_from_world [4 4] of a camera about 4 away from the origin, looking near it."""
    eye = torch.randn(3, generator=generator, dtype=torch.float64)
    eye = 4 * eye / eye.norm()
    target = 0.2 * torch.randn(3, generator=generator, dtype=torch.float64)
    return Rigid.look_at(eye, target, torch.tensor([0.1, 0.2, 1.0])).inverse().matrix().to(dtype)


def random_gaussians(
    n: int,
    generator: torch.Generator,
    sh_degree: int = 1,
    scale: float = 0.25,
    dtype: torch.dtype = torch.float64,
) -> Gaussians:
    """n Gaussians about the origin with unlike scales, quaternions of any length and colours well above zero."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    k = (sh_degree + 1) ** 2
    sh = 0.15 * normal(n, k, 3)
    sh[:, 0] += 1.2
    gaussians = Gaussians(
        means=0.8 * normal(n, 3),
        quats_wxyz=normal(n, 4),
        log_scales=torch.log(torch.tensor(scale)) + 0.6 * normal(n, 3),
        logit_opacities=normal(n),
        sh=sh,
    )
    return gaussians.to(dtype)


def leaves(gaussians: Gaussians) -> Gaussians:
    """A copy whose fields are leaves of autograd."""
    return gaussians.map(lambda t: t.detach().clone().requires_grad_())


def fields(gaussians: Gaussians) -> dict[str, Tensor]:
    """The tensors of a scene by name."""
    return {k: getattr(gaussians, k) for k in ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh")}


def relative_error(value: Tensor, truth: Tensor) -> float:
    """|value - truth| / |truth| in the 2-norm; the absolute error where the truth is zero."""
    norm = float(truth.double().norm())
    return float((value.double() - truth.double()).norm()) / (norm if norm > 0 else 1.0)
