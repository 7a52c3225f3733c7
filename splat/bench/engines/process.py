"""The process of one task: started, watched, asked to save its work, and ended with its parent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from splat.bench.engines.task import Outcome, Task
from splat.bench.source import source_version
from splat.core.printed import last_line

POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0
_GUARD = """
import ctypes, os, sys
parent, number, *argv = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() == int(parent):
    os.execvp(argv[0], argv)
"""
"""Becomes the command, once the system will signal it when its parent is no more (PR_SET_PDEATHSIG)."""


class TaskProcess:
    """A task that runs. `cores`: how many it is to use, None: all it finds. `orphaned`: the signal that ends it where
    this process is killed."""

    def __init__(
        self,
        task: Task,
        *,
        limit_minutes: float | None = None,
        grace_seconds: float = 60.0,
        cores: int | None = None,
        orphaned: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.task, self.limit_minutes, self.grace_seconds = task, limit_minutes, grace_seconds
        task.log.parent.mkdir(parents=True, exist_ok=True)
        copy_folders(task)
        self._source, self._started = source_version(), time.monotonic()
        self._high_water: float | None = None
        self._asked: float | None = None
        self._late = False
        with task.log.open("a") as log:
            self._start = log.tell()
            self._process: subprocess.Popen[Any] = subprocess.Popen(
                _guarded(task.argv, orphaned),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(cores),
                start_new_session=True,  # an interrupt reaches the task through us, once
            )

    def poll(self) -> Outcome | None:
        """None while it runs. One that is over its limit is asked to save its work, and killed where it takes long."""
        process, now = self._process, time.monotonic()
        # a run that measures its stages sets its own mark back between them
        self._high_water = max(filter(None, (self._high_water, _high_water_mb(process.pid))), default=None)
        has_ended, peak = _poll(process)
        if has_ended:
            return self._outcome(self._high_water or peak)
        if self._asked is not None and now - self._asked > self.grace_seconds:
            self._kill()
        elif self.limit_minutes is not None and now - self._started > 60 * self.limit_minutes and not self._late:
            self._late = True
            self.ask()
        return None

    def ask(self) -> None:
        """Ask it to save its work and to end; `poll` kills it when it has had its time for that."""
        if self._asked is None and self._process.poll() is None:
            self._asked = time.monotonic()
            self._process.send_signal(signal.SIGTERM)  # SIGINT is ignored by what a shell put in the background

    def _kill(self) -> None:
        """It and what it started: it leads a session of its own, and cannot end its children itself any more."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def wait(self, wanted: Callable[[], bool] = lambda: True) -> Outcome:
        """Until it has ended; where this is interrupted, or it is `wanted` no more, it is asked to end."""
        try:
            return self._waited(wanted)
        except BaseException:
            self.ask()
            self._waited(wanted)
            raise

    def _waited(self, wanted: Callable[[], bool]) -> Outcome:
        looked = time.monotonic()
        while (outcome := self.poll()) is None:
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                if not wanted():
                    self.ask()
            time.sleep(POLL_SECONDS)
        return outcome

    def _outcome(self, peak: float | None) -> Outcome:
        code = self._process.returncode
        if self._late:
            message = f"stopped after the limit of {self.limit_minutes} minutes"
        else:
            message = "" if code == 0 else _failure(self.task.log, self._start, code)
        return Outcome(code, message, time.monotonic() - self._started, peak, self._source)


def copy_folders(task: Task) -> None:
    """Make what the task starts from; a copy that was cut off is not taken for a whole one."""
    for source, target in task.copies:
        if source.is_dir() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in target.parent.glob(f".{target.name}.partial-*"):  # by a worker that was lost
                shutil.rmtree(left, ignore_errors=True)
            partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
            shutil.copytree(source, partial)
            partial.rename(target)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, so that running tasks save their work."""
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


def _guarded(argv: tuple[str, ...], orphaned: signal.Signals) -> list[str]:
    if not sys.platform.startswith("linux"):
        return list(argv)
    return [sys.executable, "-ISc", _GUARD, str(os.getpid()), str(int(orphaned)), *argv]


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


def _environment(cores: int | None) -> dict[str, str]:
    """The child finds the same `splat` as this process, whatever folder it starts in, and uses `cores` cores."""
    home = str(Path(__file__).resolve().parents[3])
    own = {"PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))}
    return {**os.environ, **own, **({} if cores is None else {"SPLAT_CORES": str(cores)})}


def _failure(log: Path, start: int, code: int) -> str:
    """The last line of this attempt, which for a mistake of the user's is the sentence with the fix."""
    said = last_line(log, start)
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else str(-code)
        said = f"ended by {name} ({'out of memory? ' if name == 'SIGKILL' else ''}last line: {said})"
    return said.removeprefix("splat: ")[:300]
