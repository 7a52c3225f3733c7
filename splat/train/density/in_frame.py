"""Removes Gaussians that no training photo has in its frame.

At the edge of a photo Gaussians grow beyond it, for nothing asks them to end there. With few photos no other one shows
that place, and from beside, at the distance of what stands in the middle, they hide it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import DensityControl, DensitySettings
from splat.train.density.pruning import Pruning, sharded, without_photos


@dataclass(frozen=True, eq=False)
class Frame:
    """Of a training photo."""

    camera: Camera
    cam_from_world: Float[Tensor, "4 4"]

    def shows(self, means: Float[Tensor, "n 3"], margin: float) -> Bool[Tensor, "n"]:
        """Which points are before the camera and in its frame, or beside it by at most `margin` of its size."""
        pose = self.cam_from_world.to(means)
        local = means @ pose[:3, :3].T + pose[:3, 3]
        at = self.camera.project(local)
        size = at.new_tensor([self.camera.width, self.camera.height])
        return (local[:, 2] > 0) & (((at / size - 0.5).abs() <= 0.5 + margin).all(1))


@dataclass(frozen=True, eq=False)
class InFrame:
    """A density control that wraps another one and also removes what no photo shows (a `DensitySettings`)."""

    density: DensitySettings
    frames: tuple[Frame, ...]
    margin: float = 0.15
    """Beside a frame, as a fraction of its size."""
    every: float = 1 / 70
    """Fraction of the steps between two removals; never less than 50 steps."""

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        def outside(gaussians: Gaussians) -> Bool[Tensor, "n"]:
            seen = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
            for frame in self.frames:
                seen |= frame.shows(gaussians.means, self.margin)
            return ~seen

        return Pruning(self.density(steps, scene_extent), steps, self.every, outside, "outside all photos")

    def shard(self, world: int) -> InFrame:
        """The settings for one of `world` processes."""
        return replace(self, density=sharded(self.density, world))

    def without_photos(self, left_out: Collection[int]) -> InFrame:
        """See `pruning.without_photos`."""
        kept = tuple(f for i, f in enumerate(self.frames) if i not in left_out)
        return replace(self, density=without_photos(self.density, left_out), frames=kept)
