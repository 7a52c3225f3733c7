"""Removes floaters in front of the training cameras: Gaussians much closer to a camera than all that it is known to
see.

A floater just in front of a camera can explain its photo as well as the scene behind, and with few photos nothing
contradicts it; in views from other positions it occludes the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.slots import DensityControl, DensitySettings, Parameterization, Render


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
        return _NearCamera(self, self.density(steps, scene_extent), steps)

    def shard(self, world: int) -> NearCamera:
        """The settings for one of `world` processes."""
        share = getattr(self.density, "shard", None)
        return self if share is None else replace(self, density=share(world))


def too_near(
    means: Float[Tensor, "n 3"], centres: Float[Tensor, "v 3"], radii: Float[Tensor, "v"]
) -> Bool[Tensor, "n"]:
    """Whether points lie in one of the balls."""
    inside = torch.zeros(len(means), dtype=torch.bool, device=means.device)
    for centre, radius in zip(centres.to(means), radii.tolist(), strict=True):
        inside |= (means - centre).square().sum(1) < radius**2
    return inside


class _NearCamera(DensityControl):
    def __init__(self, settings: NearCamera, inner: DensityControl, steps: int) -> None:
        self.settings, self.inner = settings, inner
        self.every = max(min(50, steps), round(settings.every * steps))

    def wants_absgrad(self, step: int) -> bool:
        return self.inner.wants_absgrad(step)

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None:
        self.inner.after_backward(step, ids, render, camera)

    def after_update(
        self, step: int, model: Parameterization, means_rate: float, generator: torch.Generator
    ) -> str | None:
        line = self.inner.after_update(step, model, means_rate, generator)
        if not self._is_due(step):
            return line
        near = too_near(model.gaussians().means, self.settings.centres, self.settings.radii)
        pruned = int(near.sum())
        if pruned == 0 or pruned == len(near):
            return line
        model.edit(~near, None)
        self.inner.reset_statistics()
        return f"{line}; " * (line is not None) + f"pruned {pruned} near a camera"

    def _is_due(self, step: int) -> bool:
        return (step + 1) % self.every == 0

    def reset_statistics(self) -> None:
        self.inner.reset_statistics()

    def state(self) -> dict[str, Any]:
        return self.inner.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.inner.load_state(state)

    # Steps can be recorded where those of the inner control can.

    def changes_rows(self, step: int) -> bool:
        return self._is_due(step) or self.inner.changes_rows(step)

    def prepare_replay(self, step: int, count: int, device: torch.device) -> None:
        self.inner.prepare_replay(step, count, device)

    def places(self, step: int) -> tuple[Any, ...]:
        return self.inner.places(step)

    def generators(self) -> Sequence[torch.Generator]:
        return self.inner.generators()

    def begin_replay(self, means_rate: float, generator: torch.Generator) -> list[float]:
        return self.inner.begin_replay(means_rate, generator)

    def replayed_update(self, model: Parameterization, numbers: Float[Tensor, "k"]) -> None:
        self.inner.replayed_update(model, numbers)
