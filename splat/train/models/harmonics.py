"""The gradient of all spherical harmonics from that of the constant."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.sh import sh_basis


def expanded(
    constant_gradient: Float[Tensor, "m 1 3"], means: Float[Tensor, "m 3"], camera_centre: Float[Tensor, "3"], k: int
) -> Float[Tensor, "m k 3"]:
    """A colour is the sum of coefficients times the basis in one direction, here from a camera's centre to a Gaussian:
    the gradient of coefficient i is that of the constant times basis_i / basis_0."""
    directions = torch.nn.functional.normalize(means - camera_centre.to(means), dim=1)
    basis = sh_basis(directions, math.isqrt(k) - 1)
    return (basis / basis[:, :1])[..., None] * constant_gradient
