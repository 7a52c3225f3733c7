"""Where cells run. The local engine runs one after the other, each in a process of its own: memory and time are that
cell's alone, and a crash ends one cell, not the table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from splat.bench.cells import Cell
from splat.bench.source import SourceVersion, source_version


@dataclass(frozen=True)
class Job:
    """A cell and where it reads and writes."""

    cell: Cell
    source: Path
    run: Path
    """The run folder."""
    log: Path
    """What the process prints."""

    def argv(self, program: Sequence[str]) -> list[str]:
        """The command of its process; `program` runs `splat`."""
        return [*program, *self.cell.arguments(self.source, self.run)]


@dataclass(frozen=True)
class Outcome:
    """How the process of a job ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    message: str
    """The last line it printed, or why it was stopped. Empty when it ended well."""
    seconds: float
    peak_memory_mb: float | None
    source: SourceVersion = field(default_factory=SourceVersion)
    """What it ran, as it was found when the process started."""


@runtime_checkable
class Engine(Protocol):
    def __call__(self, jobs: Sequence[Job], ended: Callable[[Job, Outcome], None]) -> None:
        """Run all jobs; call `ended` for each as soon as it is."""
        ...


def this_splat() -> tuple[str, ...]:
    return (sys.executable, "-m", "splat")


@dataclass(frozen=True)
class Local:
    """One job at a time on this machine."""

    program: tuple[str, ...] = field(default_factory=this_splat)
    limit_minutes: float | None = None
    """A cell that takes longer is stopped (it saves what it has) and counts as failed."""
    grace_seconds: float = 60.0
    """What a stopped process may take to save its work before it is killed."""

    def __call__(self, jobs: Sequence[Job], ended: Callable[[Job, Outcome], None]) -> None:
        for job in jobs:
            ended(job, self.run(job))

    def run(self, job: Job) -> Outcome:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        source = source_version()
        started = time.monotonic()
        with job.log.open("a") as log:
            start = log.tell()
            process = subprocess.Popen(
                job.argv(self.program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,  # an interrupt reaches the cell through us, once
            )
            with _terminate_as_interrupt():
                try:
                    late, peak = self._wait(process, started)
                except BaseException:
                    self._stop(process)
                    raise
        seconds = time.monotonic() - started
        code = process.returncode
        if late:
            return Outcome(code, f"stopped after the limit of {self.limit_minutes} minutes", seconds, peak, source)
        return Outcome(code, "" if code == 0 else _last_words(job.log, start, code), seconds, peak, source)

    def _wait(self, process: subprocess.Popen[Any], started: float) -> tuple[bool, float | None]:
        """Until the process has ended: whether it had to be stopped, and its peak memory in MB."""
        late, high_water = False, None
        while True:
            high_water = _high_water_mb(process.pid) or high_water
            ended, peak = _poll(process)
            if ended:
                return late, high_water or peak
            if not late and self.limit_minutes is not None and time.monotonic() - started > 60 * self.limit_minutes:
                late = True
                self._stop(process)
            time.sleep(0.05)

    def _stop(self, process: subprocess.Popen[Any]) -> None:
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)  # SIGINT is ignored by what a shell put in the background
        try:
            process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _high_water_mb(pid: int) -> float | None:
    """Peak resident memory of a running process on Linux. What `wait4` reports afterwards is never less than the memory
    of the parent at the moment of the fork."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def _poll(process: subprocess.Popen[Any]) -> tuple[bool, float | None]:
    """Whether the process has ended and, where the system reports it, its peak memory in MB."""
    if process.returncode is not None:
        return True, None
    if not hasattr(os, "wait4"):
        return process.poll() is not None, None
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if pid == 0:
        return False, None
    process.returncode = os.waitstatus_to_exitcode(status)
    return True, usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def _environment() -> dict[str, str]:
    """The child finds the same `splat` as this process, whatever folder it starts in."""
    home = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))}


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the table as Ctrl-C does, so that the running cell saves its work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_words(log: Path, start: int, code: int) -> str:
    """The last line of this attempt, which for a mistake of the user's is the sentence with the fix."""
    with log.open("rb") as f:
        f.seek(start)
        lines = f.read()[-20_000:].decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else str(-code)
        said = f"ended by {name} ({'out of memory? ' if name == 'SIGKILL' else ''}last line: {said})"
    return said.removeprefix("splat: ")[:300]
