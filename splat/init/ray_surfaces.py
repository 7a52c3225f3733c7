"""First Gaussians for training along rays: dense surfaces with the layer, probability and free space of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Init, RayRows
from splat.geometry.depth_layers import depth_layers
from splat.geometry.reproject import PosedDepth, count_support
from splat.init.dense_surfaces import DenseSurfaces
from splat.init.surface_gaussians import SurfaceSampler
from splat.init.view_surfaces import ViewSurface

_REACH, _STEPS = math.log(3.0), 12
"""How far a doubtful Gaussian may slide (logarithm of depth), and in how many steps its way is checked."""


@dataclass(frozen=True)
class RaySurfaces(DenseSurfaces):
    """As `DenseSurfaces`, all at pixels of photos. Says for each Gaussian how far it may slide along its ray: a
    probable depth little, a doubtful one until a photo with a probable depth sees past it."""

    keep_points: float = 0.0
    probable_reach: float = 0.1
    """How far a Gaussian whose depth is certain may slide, as a fraction of its depth."""

    def with_details(self, init: Init, sampler: SurfaceSampler) -> Init:
        if init.view_ids is None or init.pixels is None:
            return init
        rows = len(init.gaussians)
        layers = torch.zeros(rows, dtype=torch.int64)
        probability, nearest, farthest = torch.zeros(3, rows).unbind(0)
        for i, (view_id, surface, completed) in enumerate(
            zip(sampler.view_ids, sampler.surfaces, sampler.completed, strict=True)
        ):
            mine = (init.view_ids == view_id).nonzero()[:, 0]
            at = completed.pixel_ids(init.pixels[mine])
            layers[mine] = depth_layers(completed.depth).reshape(-1)[at]
            probability[mine] = completed.confidence.reshape(-1)[at]
            others = [s.posed_depth for k, s in enumerate(sampler.surfaces) if k != i]
            nearest[mine], farthest[mine] = self._free(surface, others, init.gaussians.means[mine], probability[mine])
        return replace(init, rays=RayRows(layers, probability, nearest, farthest))

    def _free(
        self,
        surface: ViewSurface,
        others: Sequence[PosedDepth],
        means: Float[Tensor, "k 3"],
        probability: Float[Tensor, "k"],
    ) -> tuple[Float[Tensor, "k"], Float[Tensor, "k"]]:
        """Factors of depth between which no other photo sees past a point of the ray."""
        centre = surface.pose.translation.to(means)
        reach = self.probable_reach + (1 - probability) * _REACH
        out = []
        for sign in (-1, 1):
            free = torch.ones(len(means), dtype=torch.bool)
            found = torch.zeros(len(means))
            for step in range(1, _STEPS + 1):
                factor = (sign * reach * step / _STEPS).exp()
                points = centre + factor[:, None] * (means - centre)
                _, violations = count_support(others, points, self.max_depth_difference, self.max_free_space)
                free &= violations == 0
                found = torch.where(free, step / _STEPS, found)
            out.append((sign * reach * found.clamp_min(0.02 / _REACH)).exp())
        return out[0], out[1]
