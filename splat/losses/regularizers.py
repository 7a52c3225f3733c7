"""Terms about the Gaussians themselves.

They are means over the rows drawn in this step. A row's share is 1 / (rows drawn), and it has one whenever it is drawn:
over a round through the views that comes to what a mean over all rows gives, without touching rows out of view.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from splat.core.gaussians import Gaussians


def mean_opacity(gaussians: Gaussians) -> Float[Tensor, ""]:
    """3DGS as Markov chain Monte Carlo (Kheradmand et al. 2024), section 4: keeps opacity from lingering. 0 of none."""
    return gaussians.opacities.sum() / max(1, len(gaussians))


def mean_scale(gaussians: Gaussians) -> Float[Tensor, ""]:
    """The same paper's mean standard deviation along the three axes, in world units. 0 of none."""
    return gaussians.scales.sum() / max(1, 3 * len(gaussians))


def mean_stretch(gaussians: Gaussians, longest: float) -> Float[Tensor, ""]:
    """Mean of max(0, log(longest side / shortest side) - log(longest)): as PhysGaussian's (Xie et al. 2024, eq. 13), on
    logarithms so that the gradient of a needle does not grow with its length. 0 of none."""
    excess = gaussians.log_scales.amax(1) - gaussians.log_scales.amin(1) - math.log(longest)
    return excess.clamp_min(0).sum() / max(1, len(gaussians))
