"""The loop that all engines share: tasks start when what they wait for has ended and there is place for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from splat.bench.engines.process import POLL_SECONDS, terminate_as_interrupt
from splat.bench.engines.task import Ended, Outcome, Task
from splat.core.errors import SplatError


@runtime_checkable
class Backend(Protocol):
    """Where tasks run."""

    def admits(self, task: Task, running: Sequence[Task]) -> bool:
        """Whether a task may start beside those that run."""
        ...

    def start(self, task: Task) -> None: ...

    def ended(self) -> list[tuple[Task, Outcome]]:
        """The started tasks that have ended since the last call."""
        ...

    def stop(self) -> None:
        """End all that runs: processes save their work first."""
        ...


def run_tasks(tasks: Sequence[Task], backend: Backend, ended: Ended) -> None:
    """As `Engine.__call__`. Raises SplatError for tasks of one name, or that wait for what is not there or for each
    other."""
    waiting = {t.name: t for t in tasks}
    if len(waiting) < len(tasks):
        raise SplatError("two tasks have the same name: give each its own.")
    _check_after(waiting)
    running: dict[str, Task] = {}
    outcomes: dict[str, Outcome] = {}
    with terminate_as_interrupt():
        try:
            while waiting or running:
                for task in list(waiting.values()):
                    before = [outcomes.get(name) for name in task.after]
                    failed = next((o for o in before if o is not None and o.code != 0), None)
                    if failed is not None:
                        del waiting[task.name]
                        outcomes[task.name] = Outcome(failed.code, failed.message, 0.0, None, failed.source)
                        ended(task, outcomes[task.name])
                    elif None not in before and backend.admits(task, list(running.values())):
                        running[task.name] = waiting.pop(task.name)
                        backend.start(task)
                for task, outcome in backend.ended():
                    del running[task.name]
                    outcomes[task.name] = outcome
                    ended(task, outcome)
                if running:
                    time.sleep(POLL_SECONDS)
        except BaseException:
            backend.stop()
            raise


def _check_after(tasks: dict[str, Task]) -> None:
    for task in tasks.values():
        for name in task.after:
            if name not in tasks:
                raise SplatError(f"task {task.name} waits for {name}, which is none of the tasks: add it.")
    settled: set[str] = set()
    while ready := [t.name for t in tasks.values() if t.name not in settled and settled.issuperset(t.after)]:
        settled.update(ready)
    if len(settled) < len(tasks):
        raise SplatError(f"tasks {', '.join(sorted(set(tasks) - settled))} wait for each other.")
