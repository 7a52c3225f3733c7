"""A cell as a task of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splat.bench.cells import Cell
from splat.bench.engines import Needs, Task
from splat.bench.prediction import POSE_STAGES, Prediction


@dataclass(frozen=True)
class Job:
    """A cell and where it reads and writes."""

    cell: Cell
    source: Path
    run: Path
    """The run folder."""
    log: Path
    """What the process prints."""
    prediction: Prediction | None = None

    def argv(self, program: Sequence[str]) -> list[str]:
        """The command of its process; `program` runs `splat`."""
        return [*program, *self.cell.arguments(self.source, self.run)]

    def task(self, program: Sequence[str], posed: Path | None = None, after: tuple[str, ...] = ()) -> Task:
        """The task that makes the cell. `posed`: a run folder whose poses it starts from. (A run whose settings ask for
        other poses finds its own.) `after`: names of the tasks that it waits for."""
        copies = () if posed is None else tuple((posed / s, self.run / s) for s in POSE_STAGES)
        argv = tuple(self.argv(program))
        p = self.prediction
        needs = Needs() if p is None else Needs(memory_mb=p.later_mb if posed else p.memory_mb, minutes=p.minutes)
        return Task(self.cell.name, argv, self.run, self.log, (self.source,), copies, after, needs)

    def posing(self, program: Sequence[str], run: Path) -> Task:
        """The task that finds the poses of the cell, and of others of its scene and seed, in a run folder of its
        own."""
        argv = (*program, *self.cell.arguments(self.source, run), "--until", "poses")
        log = self.log.with_name(f"{run.name}.log")
        p = self.prediction
        needs = Needs() if p is None else Needs(memory_mb=p.poses_mb, minutes=p.minutes)
        return Task(f"poses of {run.name}", argv, run, log, (self.source,), needs=needs)
