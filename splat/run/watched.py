"""Another program, run to its end: how it ended, how long it took, and the memory that it and its children filled."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.interrupts import interruptible
from splat.core.printed import last_line

_PROC = Path("/proc")
_PAUSE = 0.1
_GRACE_SECONDS = 20.0


@dataclass(frozen=True)
class Ended:
    code: int
    """Exit code; negative: the signal that ended it."""
    seconds: float
    peak_memory_mb: float | None
    """Highest sum of resident memory over its processes, looked at every tenth of a second; None where the system does
    not say (macOS, Windows)."""
    last_line: str
    """Of what it printed."""


def run_watched(argv: Sequence[str], folder: Path, log: Path, threads: int) -> Ended:
    """Run `argv` in `folder`; what it prints goes to `log`. It is asked to use `threads` threads by OMP_NUM_THREADS.

    Where this process is interrupted, the program and its children are ended first. Raises SplatError where it cannot
    be started.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.monotonic()
    peak: float | None = None
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as e:
            raise SplatError(f"{shown(argv[0])} could not be started ({e.strerror}): correct the command.") from None
        try:
            with interruptible(grace=3 * _GRACE_SECONDS):
                while process.poll() is None:
                    now = _session_mb(process.pid)
                    peak = now if peak is None or (now or 0.0) > peak else peak
                    time.sleep(_PAUSE)
        except BaseException:
            _end(process)
            raise
    return Ended(process.returncode, time.monotonic() - started, peak, last_line(log))


def _session_mb(leader: int) -> float | None:
    """Resident memory of all processes of a session."""
    if not (_PROC / "self" / "stat").exists():
        return None
    pages = 0
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                pages += int(fields[21])
        except (OSError, ValueError, IndexError):  # it has ended meanwhile
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(_GRACE_SECONDS)
            return
        except (ProcessLookupError, PermissionError):
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue
