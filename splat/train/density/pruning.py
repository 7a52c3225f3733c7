"""Removal of Gaussians from space that is known to be empty, beside another density control."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import DensityControl, DensitySettings, Parameterization, Render


def sharded(settings: DensitySettings, world: int) -> DensitySettings:
    """The settings for one of `world` processes."""
    share = getattr(settings, "shard", None)
    return settings if share is None else share(world)  # type: ignore[no-any-return]


def with_innermost(settings: DensitySettings, innermost: DensitySettings) -> DensitySettings:
    """The same removals around another density control."""
    inner = getattr(settings, "density", None)
    if inner is None:
        return innermost
    return replace(settings, density=with_innermost(inner, innermost))  # type: ignore[type-var]


def without_photos(settings: DensitySettings, left_out: Collection[int]) -> DensitySettings:
    """The settings without what they know from some of the training photos."""
    without = getattr(settings, "without_photos", None)
    return settings if without is None else without(left_out)  # type: ignore[no-any-return]


class Pruning(DensityControl):
    """Another density control, and the removal of the Gaussians that `forbidden` marks."""

    def __init__(
        self,
        inner: DensityControl,
        steps: int,
        every: float,
        forbidden: Callable[[Gaussians], Bool[Tensor, "n"]],
        where: str,
    ) -> None:
        """`every`: fraction of the steps between two removals; never less than 50 steps. `where`: for the log."""
        self.inner, self.forbidden, self.where = inner, forbidden, where
        self.every = max(min(50, steps), round(every * steps))

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
        marked = self.forbidden(model.gaussians())
        pruned = int(marked.sum())
        if pruned == 0 or pruned == len(marked):
            return line
        model.edit(~marked, None)
        self.inner.reset_statistics()
        return f"{line}; " * (line is not None) + f"pruned {pruned} {self.where}"

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
