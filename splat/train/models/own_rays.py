"""The rays of the pixels that Gaussians come from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.capture import View


def own_rays(
    means: Float[Tensor, "n 3"], view_ids: Int[Tensor, "n"], views: Sequence[View]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"], Float[Tensor, "n"]]:
    """Origins and directions (world units per unit of z) of the rays from each Gaussian's own camera through it, and
    its depth z there: means = origins + z directions."""
    poses = [v.pose for v in views]
    origins = torch.stack([p.translation for p in poses]).to(means)[view_ids]
    ahead = torch.stack([p.rotation[:, 2] for p in poses]).to(means)[view_ids]
    offsets = means - origins
    depth = (offsets * ahead).sum(1).clamp_min(1e-12)
    return origins, offsets / depth[:, None], depth
