"""Tasks on machines that may not see the disk of the one that asked: what is there is compared before it is read, and
what is not there is carried over."""

from __future__ import annotations

import io
import os
import signal
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from splat.bench.engines.process import TaskProcess
from splat.bench.engines.task import Outcome, Task
from splat.core.errors import SplatError
from splat.run.fingerprint import fingerprint


@dataclass(frozen=True)
class Assignment:
    """A task and what another machine has to know about the one that asked."""

    task: Task
    """All paths absolute."""
    marker: str
    """A file of this name lies beside `task.folder`, on the disk of the machine that asked, as long as it asks."""
    fingerprints: tuple[tuple[Path, str], ...]
    """Of all that the task reads."""
    python: str
    """The interpreter there; in the command it stands for the one here."""
    cores: int | None
    limit_minutes: float | None
    grace_seconds: float
    shared: bool = True
    """Whether paths may be read where they are, if they hold the same there."""


@dataclass(frozen=True)
class Returned:
    """What comes back: how the task ended, or what it lacks."""

    outcome: Outcome | None
    missing: tuple[Path, ...] = ()
    """What this machine does not see, where it was not given."""
    files: bytes | None = None
    """The task's folder, packed, where the machine that asked does not see it."""
    printed: str = ""
    """What it printed, then too."""


def assignment(
    task: Task,
    marker: str,
    *,
    cores: int | None,
    limit_minutes: float | None,
    grace_seconds: float,
    shared: bool = True,
) -> Assignment:
    """The assignment of a task as the files are now."""
    task = absolute(task)
    reads = dict.fromkeys([*task.inputs, *(source for source, _ in task.copies), task.folder])
    prints = tuple((path, fingerprint_of(path)) for path in reads if path.exists())
    return Assignment(task, marker, prints, sys.executable, cores, limit_minutes, grace_seconds, shared)


def run_assigned(a: Assignment, contents: Mapping[Path, Callable[[], bytes]] | None = None) -> Returned:
    """Run an assigned task on this machine, or say what it lacks. `contents`: what was asked for before, packed;
    maybe by another machine, which lacked other things."""
    task, here = a.task, {Path(a.python): Path(sys.executable)}
    sees_folder = a.shared and (task.folder.parent / a.marker).is_file()
    missing = tuple(
        path
        for path, found in a.fingerprints
        if not (sees_folder if path == task.folder else a.shared and path.exists() and fingerprint_of(path) == found)
    )
    given = contents or {}
    if lacking := tuple(path for path in missing if path not in given):
        return Returned(None, lacking)
    with tempfile.TemporaryDirectory(prefix="splat-task-", ignore_cleanup_errors=True) as scratch:
        if not sees_folder:
            here[task.folder] = Path(scratch) / "out" / task.folder.name
            here[task.log] = Path(scratch) / "log"
        for i, path in enumerate(missing):
            here.setdefault(path, Path(scratch) / str(i) / path.name)
            unpack(given[path](), here[path])
        process = TaskProcess(
            relocated(task, here),
            limit_minutes=a.limit_minutes,
            grace_seconds=a.grace_seconds,
            cores=a.cores,
            orphaned=signal.SIGKILL if sys.platform == "linux" else signal.SIGTERM,  # another attempt begins at once
        )
        asked = a.task.folder.parent / a.marker
        outcome = process.wait(asked.is_file if sees_folder else lambda: True)
        if sees_folder:
            return Returned(outcome)
        printed = here[task.log].read_text(errors="replace")
        return Returned(outcome, files=pack(here[task.folder]), printed=printed)


def take(task: Task, returned: Returned) -> None:
    """Write what came back to where the task was to write it."""
    if returned.files is not None:
        unpack(returned.files, task.folder)
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a") as log:
            log.write(returned.printed)


@contextmanager
def markers(tasks: Sequence[Task]) -> Iterator[str]:
    """The name of a file that lies beside the folder of each task meanwhile."""
    name = f".asked-{uuid4().hex}"
    folders = dict.fromkeys(t.folder.absolute().parent for t in tasks)
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        yield name
    finally:
        for folder in folders:
            with suppress(OSError):
                (folder / name).unlink()


def absolute(task: Task) -> Task:
    """The same task, its paths those of any working folder."""
    paths = [task.folder, task.log, *task.inputs, *(p for pair in task.copies for p in pair)]
    return relocated(task, {p: p.absolute() for p in paths})


def relocated(task: Task, here: Mapping[Path, Path]) -> Task:
    """The task with the paths of `here`, and what is inside them, replaced."""
    longest_first = sorted(here.items(), key=lambda pair: -len(str(pair[0])))

    def moved(text: str) -> str:
        for old, new in longest_first:
            if text == str(old) or text.startswith(f"{old}{os.sep}"):
                return str(new) + text[len(str(old)) :]
        return text

    def place(path: Path) -> Path:
        return Path(moved(str(path)))

    return replace(
        task,
        argv=tuple(moved(a) for a in task.argv),
        folder=place(task.folder),
        log=place(task.log),
        inputs=tuple(place(p) for p in task.inputs),
        copies=tuple((place(source), place(target)) for source, target in task.copies),
    )


def fingerprint_of(path: Path) -> str:
    """A hash of a file, or of all files below a folder: names, sizes, beginnings and ends."""
    return fingerprint((name, file) for name, file in _files(path))


def pack(path: Path) -> bytes:
    """A file, or a folder with all below it, links followed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for name, file in _files(path):
            tar.add(file, name, recursive=False)
    return buffer.getvalue()


def unpack(content: bytes, path: Path) -> None:
    """What `pack` packed, at `path`: each file whole or not at all, and none if something is wrong with one.

    Raises SplatError for content that is cut off, and for files that would lie elsewhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:60]}.", dir=path.parent) as scratch:
        arrived = Path(scratch) / "arrived"
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                members = tar.getmembers()
                if is_file := [m.name for m in members] == ["."]:
                    members[0].name = arrived.name
                else:
                    arrived.mkdir()
                tar.extractall(scratch if is_file else arrived, members, filter="data")
        except tarfile.TarError as e:
            raise SplatError(f"{path} did not arrive whole ({e}): run the same command again.") from None
        if not is_file:
            path.mkdir(exist_ok=True)
        for name, file in list(_files(arrived)):
            place = path if is_file else path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield ".", path
        return
    visited = set[tuple[int, int]]()
    for folder, below, files in os.walk(path, followlinks=True):
        found = Path(folder).stat()
        if (found.st_dev, found.st_ino) in visited:  # a link that leads back
            below.clear()
            continue
        visited.add((found.st_dev, found.st_ino))
        for name in files:
            file = Path(folder) / name
            if file.is_file():
                yield file.relative_to(path).as_posix(), file
