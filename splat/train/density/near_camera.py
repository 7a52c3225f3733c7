"""Removes floaters in front of the training cameras: Gaussians much closer to a camera than all that it is known to
see.

A floater just in front of a camera can explain its photo as well as the scene behind, and with few photos nothing
contradicts it; in views from other positions it occludes the scene.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.gaussians import Gaussians
from splat.core.slots import DensityControl, DensitySettings
from splat.train.density.pruning import Pruning, sharded, without_photos


@dataclass(frozen=True, eq=False)
class NearCamera:
    """A density control that wraps another one and also keeps balls around the cameras empty (a `DensitySettings`)."""

    density: DensitySettings
    centres: Float[Tensor, "v 3"]
    """Centres of the training cameras, world."""
    radii: Float[Tensor, "v"]
    """Radii of the balls, world units."""
    every: float = 1 / 70
    """Fraction of the steps between two removals; never less than 50 steps."""

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        def near(gaussians: Gaussians) -> Tensor:
            return too_near(gaussians.means, self.centres, self.radii)

        return Pruning(self.density(steps, scene_extent), steps, self.every, near, "near a camera")

    def shard(self, world: int) -> NearCamera:
        """The settings for one of `world` processes."""
        return replace(self, density=sharded(self.density, world))

    def without_photos(self, left_out: Collection[int]) -> NearCamera:
        """See `pruning.without_photos`."""
        kept = [i for i in range(len(self.centres)) if i not in left_out]
        inner = without_photos(self.density, left_out)
        return replace(self, density=inner, centres=self.centres[kept], radii=self.radii[kept])


def too_near(
    means: Float[Tensor, "n 3"], centres: Float[Tensor, "v 3"], radii: Float[Tensor, "v"]
) -> Bool[Tensor, "n"]:
    """Whether points lie in one of the balls."""
    inside = torch.zeros(len(means), dtype=torch.bool, device=means.device)
    for centre, radius in zip(centres.to(means), radii.tolist(), strict=True):
        inside |= (means - centre).square().sum(1) < radius**2
    return inside
