"""A run that goes on counts what density control has changed from where it was."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from splat.core.errors import Interrupted
from splat.core.slots import DensityControl, Parameterization, Step


class TwoChanges(DensityControl):
    """Appends copies of some rows at two steps."""

    def changes_rows(self, step: int) -> bool:
        return step in (2, 9)

    def after_update(
        self, step: int, model: Parameterization, means_rate: float, generator: torch.Generator
    ) -> str | None:
        if not self.changes_rows(step):
            return None
        rows = model.gaussians()
        parents = torch.tensor([30, 4, 17])
        model.edit(torch.ones(len(rows), dtype=torch.bool), rows[parents].clone(), parents)
        return "added 3"


@dataclass(frozen=True)
class Twice:
    """A `slots.DensitySettings`."""

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        return TwoChanges()

    def shard(self, world: int) -> Twice:
        return self


def test_rows_are_sorted_after_the_same_changes_whether_or_not_it_was_stopped(world, tmp_path: Path) -> None:
    """They are sorted after the first change, and not again after the second."""
    stop_at = -1

    def losses(step: Step) -> tuple[torch.Tensor, dict[str, float]]:
        if step.number == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return (step.rgb - step.target).abs().mean(), {}

    straight = world.train(12, density=Twice(), losses=losses).gaussians
    stop_at = 5
    with pytest.raises(Interrupted):
        world.train(12, density=Twice(), losses=losses, checkpoint_dir=tmp_path)
    stop_at = -1
    resumed = world.train(12, density=Twice(), losses=losses, checkpoint_dir=tmp_path).gaussians
    assert len(straight) == 46 and torch.equal(straight.means, resumed.means)
