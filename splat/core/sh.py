"""Real spherical harmonics up to degree 3, with the signs of the 3DGS paper's code, and their rotation."""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor

_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
_C3 = (
    -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
    -0.4570457994644658, 1.445305721320277, -0.5900435899266435,
)  # fmt: skip


def sh_basis(directions: Float[Tensor, "*n 3"], degree: int) -> Float[Tensor, "*n k"]:
    """The k = (degree + 1)^2 basis functions at unit directions (from the camera to the Gaussian)."""
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        basis += [
            _C2[0] * x * y,
            _C2[1] * y * z,
            _C2[2] * (2 * z * z - x * x - y * y),
            _C2[3] * x * z,
            _C2[4] * (x * x - y * y),
        ]
    if degree >= 3:
        basis += [
            _C3[0] * y * (3 * x * x - y * y),
            _C3[1] * x * y * z,
            _C3[2] * y * (4 * z * z - x * x - y * y),
            _C3[3] * z * (2 * z * z - 3 * x * x - 3 * y * y),
            _C3[4] * x * (4 * z * z - x * x - y * y),
            _C3[5] * z * (x * x - y * y),
            _C3[6] * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, -1)


@functools.cache
def _probe(degree: int) -> tuple[Tensor, Tensor]:
    """64 well-spread directions, and the pseudo-inverse of the basis there: least squares for functions of this
    degree."""
    i = torch.arange(64, dtype=torch.float64) + 0.5
    z, phi = 1 - 2 * i / 64, i * torch.pi * (1 + 5**0.5)
    r = (1 - z * z).sqrt()
    directions = torch.stack([r * phi.cos(), r * phi.sin(), z], -1)
    return directions, torch.linalg.pinv(sh_basis(directions, degree))


def rotate_sh(sh: Float[Tensor, "n k 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "n k 3"]:
    """Coefficients of the rotated functions f'(d) = f(R^T d), R = `rotation`.

    f' has the same degree as f, so the least-squares fit at probe directions is exact.
    """
    degree = round(sh.shape[1] ** 0.5) - 1
    if degree == 0:
        return sh
    directions, fit = _probe(degree)
    turn = fit @ sh_basis(directions @ rotation.double(), degree)
    return torch.einsum("ij,njc->nic", turn.to(sh), sh)
