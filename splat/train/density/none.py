"""No density control, except for the removal of Gaussians of low opacity."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splat.core.slots import DensityControl, Parameterization


@dataclass(frozen=True)
class NoDensity:
    """Adds nothing. Gaussians of low opacity may be removed now and then."""

    prune_opacity: float = 0.0
    """Remove Gaussians of lower opacity; 0 = never."""
    prune_every: float = 1 / 70
    """Fraction of the steps between two removals."""

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        return _PruneOnly(self, steps)

    def shard(self, world: int) -> NoDensity:
        """The settings for one of `world` processes."""
        return self


class _PruneOnly(DensityControl):
    def __init__(self, settings: NoDensity, steps: int) -> None:
        self.settings = settings
        self.every = max(1, round(settings.prune_every * steps))

    def changes_rows(self, step: int) -> bool:
        return self.settings.prune_opacity > 0 and (step + 1) % self.every == 0

    def after_update(
        self, step: int, model: Parameterization, means_rate: float, generator: torch.Generator
    ) -> str | None:
        if not self.changes_rows(step):
            return None
        keep = model.gaussians().opacities >= self.settings.prune_opacity
        pruned = len(keep) - int(keep.sum())
        if pruned == 0:
            return None
        model.edit(keep, None)
        return f"pruned {pruned}"
