"""How the steps of a run are executed. The default: in one process, eagerly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splat.core.process_group import ALONE, ProcessGroup
from splat.core.slots import Init, Item, Phase
from splat.train.step import Exchange, StepResult, StepState, eager_step


class Execution:
    """Eager execution in one process, and the interface of other kinds of execution (`train.accel.Acceleration`). An
    instance serves one run."""

    group: ProcessGroup = ALONE
    exchange: Exchange = Exchange()
    capacity: int | None = None
    """See `RasterSettings.capacity`."""

    def shard(self, init: Init, phases: tuple[Phase, ...]) -> tuple[Init, tuple[Phase, ...]]:
        """This process's shard of the Gaussians, and the phases that train it."""
        return init, phases

    def step(self, state: StepState, items: Sequence[Item]) -> StepResult:
        """Do a step. The caller then calls `after_update` of density control, unless the result has `replayed`."""
        return eager_step(state, items)

    def state(self) -> dict[str, Any]:
        """State for checkpoints."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        return None
