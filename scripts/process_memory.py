"""What the processes of `splat reconstruct` below this one fill in memory, by run folder, while they work (Linux)."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.1
"""Seconds between two looks. Peaks of all memory are the kernel's own and miss nothing; those of anonymous memory are
the largest of these samples."""


@dataclass
class Filled:
    """MB of one process. Anonymous memory is its own; the rest are pages of files, mostly libraries, that all processes
    of a machine share."""

    imports: float = 0.0
    """When its imports were done and its log began."""
    imports_anonymous: float = 0.0
    peak: float = 0.0
    peak_anonymous: float = 0.0

    def plain(self) -> dict[str, float]:
        return {f"{name}_mb": round(value, 1) for name, value in vars(self).items()}


@dataclass
class Watch:
    """Context manager: `found` has every run folder that a process below this one works in."""

    found: dict[Path, Filled] = field(default_factory=dict)

    def __enter__(self) -> Watch:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._stop.wait(EVERY):
            for pid, folder in _runs_below(os.getpid()).items():
                with suppress(OSError, ValueError, KeyError):
                    self._look(pid, folder)

    def _look(self, pid: int, folder: Path) -> None:
        mb = _status(pid)
        log = folder / "log.jsonl"
        if not log.is_file() or not log.stat().st_size:
            return
        filled = self.found.setdefault(folder, Filled(mb["VmRSS"], mb["RssAnon"]))
        filled.peak = max(filled.peak, mb["VmHWM"])
        filled.peak_anonymous = max(filled.peak_anonymous, mb["RssAnon"])


def _status(pid: int) -> dict[str, float]:
    """MB by name, of /proc/PID/status."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines if len(words) == 3 and words[2] == "kB"}


def _runs_below(root: int) -> dict[int, Path]:
    """Process -> run folder, of the processes below `root` that reconstruct."""
    parents, commands = dict[int, int](), dict[int, list[str]]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                pid = int(entry.name)
                parents[pid] = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                commands[pid] = entry.joinpath("cmdline").read_text().split("\0")
    out = {}
    for pid, words in commands.items():
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root and pid != root and "reconstruct" in words and "--out" in words:
            out[pid] = Path(words[words.index("--out") + 1])
    return out
