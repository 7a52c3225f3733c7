"""What engines run: tasks, what each needs, and how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from splat.bench.source import SourceVersion


def this_splat() -> tuple[str, ...]:
    """The command that runs this `splat`."""
    return (sys.executable, "-m", "splat")


@dataclass(frozen=True)
class Needs:
    """What a task takes of a machine. None: nobody knows, and the engine decides."""

    cores: int | None = None
    memory_mb: float | None = None
    gpus: float = 0.0
    minutes: float | None = None


@dataclass(frozen=True)
class Task:
    """One process: a command, what it reads, and the folder that it writes to."""

    name: str
    """Unique among the tasks of one call."""
    argv: tuple[str, ...]
    """The whole command. On a machine that does not see the paths of this one, arguments that are `folder`, one of
    `inputs`, or inside them, are replaced by where these are there."""
    folder: Path
    """Everything that is kept of the task is in here."""
    log: Path
    """What the process prints is added to this file."""
    inputs: tuple[Path, ...] = ()
    """Files and folders that the command reads; outputs of the tasks it waits for may be among them."""
    copies: tuple[tuple[Path, Path], ...] = ()
    """(folder, folder inside `folder`): copied before the process starts, where the first exists and the second does
    not."""
    after: tuple[str, ...] = ()
    """Names of tasks that must have ended well; where one did not, this one fails with its message and is not run."""
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True)
class Outcome:
    """How the process of a task ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    message: str
    """The last line it printed, or why it was stopped. Empty when it ended well."""
    seconds: float
    peak_memory_mb: float | None
    source: SourceVersion = field(default_factory=SourceVersion)
    """What it ran, as it was found when the process started."""


Ended = Callable[[Task, Outcome], None]


@runtime_checkable
class Engine(Protocol):
    """Runs tasks, each in a process of its own."""

    @property
    def program(self) -> tuple[str, ...]:
        """The command that runs `splat`, for the `argv` of tasks."""
        ...

    def __call__(self, tasks: Sequence[Task], ended: Ended) -> None:
        """Run all tasks, those that wait for others after them; call `ended` for each as soon as it has ended, in this
        process and one at a time. An interrupt (or SIGTERM) stops all processes, which save their work, and is raised.

        Raises SplatError where the engine cannot run here.
        """
        ...
