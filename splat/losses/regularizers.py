"""Regularizers of the Gaussians.

They are means over the rows that are rendered in a step, so each row has the weight 1 / (rows rendered) when it is
rendered. Over a pass through all views this approximates the mean over all rows, without touching rows that are not
visible.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from splat.core.gaussians import Gaussians


def mean_opacity(gaussians: Gaussians) -> Float[Tensor, ""]:
    """Mean opacity (3DGS-MCMC, Kheradmand et al. 2024, section 4). 0 for no rows."""
    return gaussians.opacities.sum() / max(1, len(gaussians))


def mean_scale(gaussians: Gaussians) -> Float[Tensor, ""]:
    """Mean standard deviation over the three axes, world units (3DGS-MCMC, section 4). 0 for no rows."""
    return gaussians.scales.sum() / max(1, 3 * len(gaussians))


def mean_stretch(gaussians: Gaussians, longest: float) -> Float[Tensor, ""]:
    """Mean of max(0, log(longest axis / shortest axis) - log(longest)): as PhysGaussian (Xie et al. 2024, eq. 13), but
    of logarithms, so that the gradient does not grow with the length of a needle. 0 for no rows."""
    excess = gaussians.log_scales.amax(1) - gaussians.log_scales.amin(1) - math.log(longest)
    return excess.clamp_min(0).sum() / max(1, len(gaussians))
