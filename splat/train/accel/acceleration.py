"""Execution of steps by the parts of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from splat.core.process_group import ALONE, ProcessGroup
from splat.core.slots import Init, Item, Phase, Reporter
from splat.train.accel.graph import Mode, Recorder, Replays
from splat.train.accel.pair_capacity import PairCapacity
from splat.train.accel.processes import GroupExchange, shard_init, shard_phase
from splat.train.execution import Execution
from splat.train.step import Exchange, ItemGradients, StepResult, StepState, eager_step


class Acceleration(Execution):
    """The `acceleration` of `train.loop.train`. An instance serves one run."""

    def __init__(
        self,
        device: torch.device,
        report: Reporter,
        capacity: int | None = None,
        graph: Mode = "auto",
        group: ProcessGroup = ALONE,
        recorder: Recorder | None = None,
    ) -> None:
        """`capacity`: initial capacity of (tile, Gaussian) pairs (None: count the pairs in every step). `graph`:
        whether to capture and replay steps; auto: where possible. `group`: the processes that train together; the
        rasterizer must draw the Gaussians of all. `recorder`: replaces the capture of CUDA graphs, for tests."""
        self.report, self.group = report, group
        self.exchange = Exchange() if group.world == 1 else GroupExchange(group)
        self.pairs = PairCapacity(capacity, device)
        self.replays = Replays(device, graph, report, self.pairs, recorder)

    @property
    def capacity(self) -> int | None:  # type: ignore[override]
        return self.pairs.capacity

    def shard(self, init: Init, phases: tuple[Phase, ...]) -> tuple[Init, tuple[Phase, ...]]:
        if self.group.world == 1:
            return init, phases
        return shard_init(init, self.group), tuple(shard_phase(p, self.group) for p in phases)

    def step(self, state: StepState, items: Sequence[Item]) -> StepResult:
        def after_item(item: Item, gradients: ItemGradients | None = None) -> None:
            if gradients is not None:
                self.pairs.record(gradients.overflow)
            if line := self.pairs.check(item.camera):
                self.report.info(f"step {state.number}: {line}")

        result = self.replays.step(state, items)
        if result is None:
            return eager_step(state, items, after_item)
        after_item(items[0])
        return result

    def state(self) -> dict[str, Any]:
        return {"capacity": self.pairs.capacity}

    def load_state(self, state: dict[str, Any]) -> None:
        if self.pairs.capacity is not None:
            self.pairs.capacity = max(self.pairs.capacity, state.get("capacity") or 0)
