"""Removes floaters between the photos: Gaussians in space that several photos see through.

Few photos do not contradict what floats before a surface as long as it is aligned with the rays of the photo that it
explains. Depth maps do: where two photos see past a place, it is empty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from splat.core.gaussians import Gaussians
from splat.core.slots import DensityControl, DensitySettings
from splat.geometry.between import surfaces_between
from splat.geometry.floaters import floating, nearest_measured, veiling
from splat.geometry.reproject import PosedDepth
from splat.train.density.pruning import Pruning, sharded, without_photos


@dataclass(frozen=True, eq=False)
class FreeSpace:
    """A density control that wraps another one and also removes what floats (a `DensitySettings`)."""

    density: DensitySettings
    depths: Sequence[PosedDepth]
    """Of training photos, where they are probable; 0 elsewhere."""
    max_free_space: float = 0.05
    """A photo sees past a Gaussian that is nearer than its surface by more than this fraction of its depth."""
    min_views: int = 2
    """So many photos must see past it: one depth map may be wrong."""
    front: float = 0.9
    """What is nearer to a photo than this fraction of the nearest depth that it measured, and veils measured surfaces
    from between the photos (`floaters.veiling`), is removed too."""
    every: float = 1 / 30
    """Fraction of the steps between two removals; never less than 50 steps."""

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        nearest = [self.front * d for d in nearest_measured(self.depths)]
        between = surfaces_between(self.depths)

        def marked(gaussians: Gaussians) -> Bool[Tensor, "n"]:
            means = gaussians.means
            floats = floating(means, self.depths, self.max_free_space, self.min_views)
            return floats | veiling(means, self.depths, nearest, between)

        return Pruning(self.density(steps, scene_extent), steps, self.every, marked, "in free space")

    def shard(self, world: int) -> FreeSpace:
        """The settings for one of `world` processes."""
        return replace(self, density=sharded(self.density, world))

    def without_photos(self, left_out: Collection[int]) -> DensitySettings:
        """See `pruning.without_photos`. One depth map alone says nothing."""
        kept = [d for i, d in enumerate(self.depths) if i not in left_out]
        inner = without_photos(self.density, left_out)
        return replace(self, density=inner, depths=kept) if len(kept) > 1 else inner
