"""A pool on this machine, bounded by its cores and its memory. Memory and time are each task's alone, and a crash ends
one task, not the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from splat.bench.engines.process import POLL_SECONDS, TaskProcess
from splat.bench.engines.schedule import run_tasks
from splat.bench.engines.task import Ended, Outcome, Task, this_splat
from splat.core.machine import MAX_SHARE, available_cores, available_memory_gb

CORES_OF_A_TASK = 8
"""More cores make a run of this program little faster: from twice as many on, two tasks run at the same time."""


def cores_of_a_task(workers: int | None) -> int:
    """What each of so many tasks at a time has of this machine; None: as many as `Local` runs by itself."""
    return max(1, available_cores() // _at_once(workers))


def _at_once(workers: int | None) -> int:
    cores = available_cores()
    return max(1, min(cores, workers or cores // CORES_OF_A_TASK))


@dataclass(frozen=True)
class Local:
    """Several tasks at a time where cores and memory allow, else one after the other."""

    program: tuple[str, ...] = field(default_factory=this_splat)
    limit_minutes: float | None = None
    """A task that takes longer is stopped (it saves what it has) and counts as failed."""
    grace_seconds: float = 60.0
    """What a stopped process may take to save its work before it is killed."""
    workers: int | None = None
    """Tasks at a time, at most one a core, each with its share of the cores (default: one for every 8 cores)."""
    memory_gb: float | None = None
    """What all tasks together may fill (default: 85 % of what is free). A task of unknown need runs alone, and so does
    one that needs more than there is."""

    def __call__(self, tasks: Sequence[Task], ended: Ended) -> None:
        run_tasks(tasks, _Pool(self), ended)


class _Pool:
    def __init__(self, local: Local) -> None:
        self.local = local
        self.workers = _at_once(local.workers)
        self.cores_each = None if self.workers == 1 else cores_of_a_task(local.workers)
        free = available_memory_gb()
        gigabytes = local.memory_gb or (None if free is None else MAX_SHARE * free)
        self.max_mb = float("inf") if gigabytes is None else gigabytes * 1e9 / 2**20
        self.processes: list[TaskProcess] = []

    def admits(self, task: Task, running: Sequence[Task]) -> bool:
        if not running:
            return True
        needs = [t.needs.memory_mb for t in (task, *running)]
        known = [mb for mb in needs if mb is not None]
        return len(running) < self.workers and len(known) == len(needs) and sum(known) <= self.max_mb

    def start(self, task: Task) -> None:
        s = self.local
        process = TaskProcess(task, limit_minutes=s.limit_minutes, grace_seconds=s.grace_seconds, cores=self.cores_each)
        self.processes.append(process)

    def ended(self) -> list[tuple[Task, Outcome]]:
        found = [(p, outcome) for p in self.processes if (outcome := p.poll()) is not None]
        self.processes = [p for p in self.processes if all(p is not q for q, _ in found)]
        return [(p.task, outcome) for p, outcome in found]

    def stop(self) -> None:
        for process in self.processes:
            process.ask()
        while self.processes:
            self.ended()
            time.sleep(POLL_SECONDS)
