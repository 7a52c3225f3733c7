"""How a run's steps are carried out: here plainly, in one process, one kernel after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splat.core.process_group import ALONE, ProcessGroup
from splat.core.slots import Init, Item, Phase
from splat.train.step import Exchange, StepResult, StepState, eager_step


class Execution:
    """The plain way, and what other ways (`train.accel.Acceleration`) may do differently. One serves one run."""

    group: ProcessGroup = ALONE
    exchange: Exchange = Exchange()
    capacity: int | None = None
    """See `RasterSettings.capacity`."""

    def shard(self, init: Init, phases: tuple[Phase, ...]) -> tuple[Init, tuple[Phase, ...]]:
        """This process's share of the Gaussians, and phases for it."""
        return init, phases

    def step(self, state: StepState, items: Sequence[Item]) -> StepResult:
        """Do a step; whatever density control does after it is the caller's, but where the result says `replayed`."""
        return eager_step(state, items)

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        return None
