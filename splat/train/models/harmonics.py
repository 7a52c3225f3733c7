"""The gradient of all SH coefficients from that of degree 0."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.sh import sh_basis


def expanded(
    constant_gradient: Float[Tensor, "m 1 3"], means: Float[Tensor, "m 3"], camera_centre: Float[Tensor, "3"], k: int
) -> Float[Tensor, "m k 3"]:
    """SH gradients [m k 3] of rows that were rendered from one camera centre. A colour is linear in the basis in the
    view direction, so the gradient of coefficient i is that of degree 0 times basis_i / basis_0."""
    directions = torch.nn.functional.normalize(means - camera_centre.to(means), dim=1)
    basis = sh_basis(directions, math.isqrt(k) - 1)
    return (basis / basis[:, :1])[..., None] * constant_gradient
