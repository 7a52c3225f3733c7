"""Removes Gaussians that no training photo has in its frame.

At the edge of a photo Gaussians grow beyond it, for nothing asks them to end there. With few photos no other one shows
that place, and from beside, at the distance of what stands in the middle, they hide it. What is small and near the edge
stays, for it hides little, and other views may want it.
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

_LARGE = 0.1
"""Standard deviation, as a fraction of the frame's size, from which a Gaussian has no margin: where its centre lies
outside, more than half of it was seen by nobody, and one of that size hides the scene by itself (55 % of a photo of
kermit)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Of a training photo."""

    camera: Camera
    cam_from_world: Float[Tensor, "4 4"]

    def shows(self, gaussians: Gaussians, margin: float) -> Bool[Tensor, "n"]:
        """Which Gaussians have their centre before the camera and in its frame; or, of those that are not `_LARGE`,
        beside it by at most `margin` of its size."""
        means, pose = gaussians.means, self.cam_from_world.to(gaussians.means)
        local = means @ pose[:3, :3].T + pose[:3, 3]
        at = self.camera.project(local)
        size = at.new_tensor([self.camera.width, self.camera.height])
        focal = at.new_tensor([self.camera.fx, self.camera.fy])
        spread = focal / size * (gaussians.scales.amax(1) / local[:, 2].clamp_min(1e-9))[:, None]
        beside = (at / size - 0.5).abs() - 0.5
        return (local[:, 2] > 0) & (beside <= torch.where(spread < _LARGE, margin, 0.0)).all(1)


@dataclass(frozen=True, eq=False)
class InFrame:
    """A density control that wraps another one and also removes what no photo shows (a `DensitySettings`)."""

    density: DensitySettings
    frames: tuple[Frame, ...]
    margin: float = 0.15
    """Beside a frame, as a fraction of its size, for small Gaussians."""
    every: float = 1 / 70
    """Fraction of the steps between two removals; never less than 50 steps."""

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        def outside(gaussians: Gaussians) -> Bool[Tensor, "n"]:
            seen = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
            for frame in self.frames:
                seen |= frame.shows(gaussians, self.margin)
            return ~seen

        return Pruning(self.density(steps, scene_extent), steps, self.every, outside, "outside all photos")

    def shard(self, world: int) -> InFrame:
        """The settings for one of `world` processes."""
        return replace(self, density=sharded(self.density, world))

    def without_photos(self, left_out: Collection[int]) -> InFrame:
        """See `pruning.without_photos`."""
        kept = tuple(f for i, f in enumerate(self.frames) if i not in left_out)
        return replace(self, density=without_photos(self.density, left_out), frames=kept)
