"""Many mutants of many targets: children are watched, replaced where they hang or crash, and faults are collected."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.targets import TARGETS, Target
from fuzz.worker import DEFAULT, Limits, place_in, run_child, tree_of

_MUTANTS_PER_CHILD = 2500
"""A child is replaced after so many, so that what libraries leak does not add up."""


_TO_MAKE_ONE = 60.0
"""Seconds for a mutant to be made: some are gigabytes before they are compressed."""


@dataclass
class Fault:
    kind: str
    """The exception, "hang", "memory", the signal of a crash, or what is wrong with a message."""
    place: str
    """file:line function, innermost of the package."""
    seeds: list[int] = field(default_factory=list)
    text: str = ""


@dataclass
class Result:
    """Of one target."""

    target: str
    mutants: int = 0
    accepted: int = 0
    errors: int = 0
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, 0)
    """Seconds and seed."""
    largest: tuple[float, int] = (0.0, 0)
    """Megabytes and seed."""
    unavailable: str = ""
    """Why the valid input is not read: a part that this machine does not have."""

    def add(self, seed: int, record: dict[str, Any]) -> None:
        self.mutants += 1
        self.slowest = max(self.slowest, (record.get("seconds", 0.0), seed))
        self.largest = max(self.largest, (record.get("megabytes", 0.0), seed))
        match record["outcome"]:
            case "accepted":
                self.accepted += 1
            case "error":
                self.errors += 1
            case _:
                key = record["kind"], record["place"]
                fault = self.faults.setdefault(key, Fault(*key, text=record.get("text", "")))
                fault.seeds.append(seed)

    @property
    def fault_count(self) -> int:
        return sum(len(f.seeds) for f in self.faults.values())


def fuzz(target: Target | str, seeds: range, limits: Limits = DEFAULT) -> Result:
    """Read the mutants `seeds` of a target."""
    target = TARGETS[target] if isinstance(target, str) else target
    result, started = Result(target.name), time.perf_counter()
    with working_folder():
        tree = tree_of(target)
        valid = next(iter(_records(target, tree, range(1), limits)))[1]
        if valid["outcome"] != "accepted":
            result.unavailable = f"{valid.get('kind', '')} {valid.get('text', '')}".strip()
            return result
        at = seeds.start
        while at < seeds.stop:
            for seed, record in _records(target, tree, range(at, min(at + _MUTANTS_PER_CHILD, seeds.stop)), limits):
                if record.get("kind") == "hang" and not _known(result, record):
                    # a busy machine may delay one mutant: again, alone
                    record = next(iter(_records(target, tree, range(seed, seed + 1), limits)))[1]
                result.add(seed, record)
                at = seed + 1
    result.seconds = time.perf_counter() - started
    return result


def _known(result: Result, record: dict[str, Any]) -> bool:
    return (record["kind"], record["place"]) in result.faults


def _records(target: Target, tree: Any, seeds: range, limits: Limits) -> Iterator[tuple[int, dict[str, Any]]]:
    """(seed, what became of it) from one child, which ends with the seeds or with the first fault that ends it."""
    with tempfile.TemporaryFile() as stacks:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                run_child(target, tree, seeds, limits, writing, stacks.fileno())
            except BaseException:  # of the fuzzer itself
                os.write(stacks.fileno(), traceback.format_exc().encode("utf-8", "replace"))
            finally:
                os._exit(99)
        os.close(writing)
        current, reported, lines, ended = None, True, b"", False
        try:
            while not ended:
                ready = select.select([reading], [], [], _TO_MAKE_ONE if reported else 1.1 * limits.seconds + 0.2)[0]
                if not ready:
                    break
                data = os.read(reading, 1 << 16)
                ended = not data
                *complete, lines = (lines + data).split(b"\n")
                for record in map(json.loads, complete):
                    current, reported = record["seed"], "outcome" in record
                    if reported:
                        yield current, record
                        if record.get("kind") == "memory":
                            return  # its memory may stay: the next mutant gets another process
        finally:
            status = _reap(pid, 5.0 if ended else 0.0)
            os.close(reading)
        # the mutant that was being read, or made, when the child ended
        seed = seeds.start if current is None else current + reported
        if seed < seeds.stop:
            kind = "hang" if not ended else _end(status)
            stacks.seek(0)
            stack = stacks.read().decode("utf-8", "replace")
            seconds = limits.seconds if kind == "hang" else 0.0
            text = stack[-300:] if ended else ""
            fault = {"outcome": "fault", "kind": kind, "place": place_in(stack), "text": text, "seconds": seconds}
            yield seed, fault


def _reap(pid: int, patience: float) -> int:
    """The exit status of a child, which is ended where it does not end within `patience` seconds."""
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _end(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """A folder in memory where the machine has one, as the working folder."""
    memory = Path("/dev/shm")
    before = Path.cwd()
    with tempfile.TemporaryDirectory(
        prefix="splat-fuzz-", dir=memory if os.access(memory, os.W_OK) else None
    ) as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def chosen(patterns: list[str]) -> list[Target]:
    """Targets that are called as one of the patterns, or contain it where none is; all without patterns. Raises
    SystemExit where none does."""
    found = dict[str, Target]()
    for pattern in patterns or [""]:
        names = [pattern] if pattern in TARGETS else [n for n in TARGETS if pattern in n]
        if not names:
            raise SystemExit(f"no target is called {pattern}; there are {', '.join(TARGETS)}")
        found |= {n: TARGETS[n] for n in names}
    return list(found.values())


HEAD = f"{'target':<16}{'mutants':>8}{'accepted':>9}{'errors':>8}{'faults':>8}{'s':>7}{'worst s':>9}{'worst MB':>9}"


def rows(r: Result) -> str:
    """The line of a target below `HEAD`, then each kind of fault with its first seeds."""
    if r.unavailable:
        return f"{r.target:<16} not read here: {r.unavailable[:120]}"
    row = f"{r.target:<16}{r.mutants:>8}{r.accepted:>9}{r.errors:>8}{r.fault_count:>8}{r.seconds:>7.1f}"
    lines = [f"{row}{r.slowest[0]:>9.2f}{r.largest[0]:>9.0f}"]
    for f in sorted(r.faults.values(), key=lambda f: -len(f.seeds)):
        some = ", ".join(map(str, f.seeds[:5])) + (", ..." if len(f.seeds) > 5 else "")
        lines.append(f"  {r.target}: {len(f.seeds)} x {f.kind} at {f.place!a} (seeds {some}): {f.text[:160]!a}")
    return "\n".join(lines)
