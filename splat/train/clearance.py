"""No haze before the lens: Gaussians far nearer to a camera than anything it is known to see are removed.

A training photo is explained as well by a veil just before its camera as by what is behind, and few photos cannot tell;
from between the cameras the veil hides everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.slots import DensityControl, Parameterization, Render
from splat.train.density import DensitySettings, Replayed


@dataclass(frozen=True, eq=False)
class Clearance:
    """Another density control that also keeps balls around the cameras empty (a `DensitySettings`)."""

    density: DensitySettings
    centres: Float[Tensor, "v 3"]
    """Of the training cameras, world."""
    radii: Float[Tensor, "v"]
    """Of the balls, world units."""
    every: float = 1 / 70
    """Fraction of the steps between two removals; never less than 50 steps."""

    def __call__(self, first_step: int, steps: int, scene_extent: float) -> DensityControl:
        return _clearing(self, self.density(first_step, steps, scene_extent), first_step, steps)


def too_near(
    means: Float[Tensor, "n 3"], centres: Float[Tensor, "v 3"], radii: Float[Tensor, "v"]
) -> Bool[Tensor, "n"]:
    """Which points lie in one of the balls."""
    inside = torch.zeros(len(means), dtype=torch.bool, device=means.device)
    for centre, radius in zip(centres.to(means), radii.tolist(), strict=True):
        inside |= (means - centre).square().sum(1) < radius**2
    return inside


def _clearing(settings: Clearance, inner: DensityControl, first_step: int, steps: int) -> DensityControl:
    kind = _ReplayedClearing if isinstance(inner, Replayed) else _Clearing
    return kind(settings, inner, first_step, steps)


class _Clearing:
    def __init__(self, settings: Clearance, inner: DensityControl, first_step: int, steps: int) -> None:
        self.settings, self.inner, self.first_step = settings, inner, first_step
        self.every = max(min(50, steps), round(settings.every * steps))

    def wants_absgrad(self, step: int) -> bool:
        return self.inner.wants_absgrad(step)

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None:
        self.inner.after_backward(step, ids, render, camera)

    def after_update(self, step: int, model: Parameterization, generator: torch.Generator) -> str | None:
        line = self.inner.after_update(step, model, generator)
        if not self._is_due(step):
            return line
        near = too_near(model.gaussians(step).means, self.settings.centres, self.settings.radii)
        removed = int(near.sum())
        if removed == 0 or removed == len(near):
            return line
        model.edit(~near, None)
        self.inner.forget()
        return f"{line}; " * (line is not None) + f"removed {removed} before a lens"

    def _is_due(self, step: int) -> bool:
        return (step - self.first_step + 1) % self.every == 0

    def forget(self) -> None:
        self.inner.forget()

    def state(self) -> dict[str, Any]:
        return self.inner.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.inner.load_state(state)


class _ReplayedClearing(_Clearing):
    """Of a control whose steps can be replayed: those of both can."""

    inner: Any

    @property
    def generators(self) -> Sequence[torch.Generator]:
        generators: Sequence[torch.Generator] = self.inner.generators
        return generators

    def recorded(self, step: int, count: int, device: torch.device) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self.inner.recorded(step, count, device)
        return None if self._is_due(step) else found

    def numbers(self, step: int, model: Parameterization, generator: torch.Generator) -> list[float]:
        numbers: list[float] = self.inner.numbers(step, model, generator)
        return numbers

    def replayed_update(self, step: int, model: Parameterization, numbers: Tensor) -> None:
        self.inner.replayed_update(step, model, numbers)
