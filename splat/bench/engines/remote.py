"""What the engines have in common whose tasks run on other machines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from splat.bench.engines.shipping import Assignment, assignment
from splat.bench.engines.task import Task, this_splat

QUIET_SECONDS = 600.0
"""After so long without an end it is said what is waited for."""


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Remote:
    """Settings of an engine that a cluster runs tasks for."""

    program: tuple[str, ...] = field(default_factory=this_splat)
    limit_minutes: float | None = None
    """A task that takes longer is stopped (it saves what it has) and counts as failed. Waiting for a place does not
    count."""
    grace_seconds: float = 60.0
    """What a stopped process may take to save its work before it is killed."""
    workers: int | None = None
    """Tasks that the cluster has at a time, at most (default: all, or what the engine says of this machine)."""
    cores: int | None = None
    """Of a task (default: what the engine says)."""
    gpus: float = 0.0
    retries: int = 3
    """How often a task is run again whose worker was lost."""
    notify: Callable[[str], None] = to_stderr
    """Called with a sentence when nothing has ended for ten minutes: a cluster may be busy for days."""

    def assign(self, task: Task, marker: str, cores: int, shared: bool = True) -> Assignment:
        """See `shipping.assignment`. `cores`: of a task that does not say how many it needs."""
        return assignment(
            task,
            marker,
            cores=task.needs.cores or cores,
            limit_minutes=self.limit_minutes,
            grace_seconds=self.grace_seconds,
            shared=shared,
        )


class StallNotice:
    """Notices that nothing ends, and says so once in QUIET_SECONDS."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.notify = notify
        self._progress = self._notified = time.monotonic()

    def progress(self) -> None:
        """Something has been started or has ended."""
        self._progress = self._notified = time.monotonic()

    def check(self, tasks: Sequence[Task], about: Callable[[], str]) -> None:
        """`tasks`: those the cluster has; `about`: what it says of itself, asked for only when there is a notice."""
        now = time.monotonic()
        if not tasks or now - self._notified < QUIET_SECONDS:
            return
        self._notified = now
        names = ", ".join(t.name for t in tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
        self.notify(f"nothing has ended for {(now - self._progress) / 60:.0f} min: waiting for {names} ({about()})")
