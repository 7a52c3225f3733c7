"""Mutants of one target read one after the other in a child process that may hang, crash or fill the memory.

The child is forked (everything is imported by then, so a new one costs milliseconds) and reports each mutant on a pipe;
who waits for it (`campaign`) ends it and starts another one behind the mutant that was its last.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from fuzz.mutate import Tree, mutant, read_tree, write_tree
from fuzz.targets import Target
from noting import Noting

from splat.core.errors import SplatError

FOLDER = "mutant_input"
"""Of the input, in the working folder of the child. Paths in messages begin with it."""
_ADDRESS_SPACE = 6 * 2**30
"""What a child may ask for on top of what it has: one that wants more gets MemoryError, not the machine's memory."""
_PACKAGE = f"{os.sep}splat{os.sep}"


class Watching(Noting):
    """Keeps for each message the line of code that reported it."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[str, str]] = []
        """(message, file:line function)."""

    def warn(self, message: str) -> None:
        super().warn(message)
        self._keep(message)

    def info(self, message: str) -> None:
        super().info(message)
        self._keep(message)

    def _keep(self, message: str) -> None:
        frame = sys._getframe(2)
        self.places.append((message, f"{_short(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}"))


class Limits(NamedTuple):
    seconds: float = 10.0
    """For one mutant."""
    megabytes: float = 500.0
    """Peak of one mutant above what the process had before."""


DEFAULT = Limits()


def tree_of(target: Target) -> Tree:
    """The files of the target's valid input. Makes them in the working folder, under the path that mutants have."""
    root = Path(FOLDER)
    write_tree(root, {})
    target.make(root)
    return read_tree(root)


def mutant_of(target: Target, tree: Tree, seed: int) -> Tree:
    """Mutant number `seed`; 0 is the valid input itself."""
    return tree if seed == 0 else mutant(tree, target.is_focus, Random(f"{target.name} {seed}"), target.mutation)


def run_child(target: Target, tree: Tree, seeds: range, limits: Limits, pipe: int, stacks: int) -> None:
    """Body of the child: reads the mutants `seeds` and writes a line of JSON before and after each. Never returns.

    `stacks`: file descriptor that the stack of a hang or crash goes to.
    """
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)  # decoders and pycolmap write there
    faulthandler.enable(stacks)
    if (used := _memory("VmSize")) > 0:
        resource.setrlimit(resource.RLIMIT_AS, (int(used * 2**20) + _ADDRESS_SPACE,) * 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    out = os.fdopen(pipe, "w")
    for seed in seeds:
        names = write_mutant(target, tree, seed)
        print(json.dumps({"seed": seed}), file=out, flush=True)
        print(json.dumps({"seed": seed, **read_mutant(target, names, limits, stacks)}), file=out, flush=True)
    os._exit(0)


def write_mutant(target: Target, tree: Tree, seed: int) -> set[str]:
    """Write a mutant's files; returns the names that a message about it may give."""
    files = mutant_of(target, tree, seed)
    write_tree(Path(FOLDER), files)
    return {FOLDER, *(Path(n).name for n in files)}


def read_mutant(target: Target, names: set[str], limits: Limits, stacks: int | None = None) -> dict[str, Any]:
    """Read the mutant that is there, whose files are called `names`.

    {"outcome": "accepted" | "error" | "fault", "kind", "place", "text", "seconds", "megabytes"}
    """
    root, report = Path(FOLDER), Watching()
    before, started = _memory("VmRSS"), time.perf_counter()
    high_before = _memory("VmHWM")
    if stacks is not None:
        os.ftruncate(stacks, 0)
        faulthandler.dump_traceback_later(limits.seconds * 0.95, file=stacks)
    result: dict[str, Any] = {"outcome": "accepted"}
    try:
        target.read(root, report)
        result["text"] = ""
    except SplatError as e:
        result = {"outcome": "error", "text": str(e)}
        if problem := message_problem(str(e), names):
            result = {"outcome": "fault", "kind": f"message {problem}", "place": _place(e), "text": str(e)}
    except BaseException as e:  # what a user would see as a stack trace
        result = {"outcome": "fault", "kind": _kind(e), "place": _place(e), "text": str(e)[:300]}
    for line, place in report.places:
        if problem := message_problem(line, None):
            result = {"outcome": "fault", "kind": f"warning {problem}", "place": place, "text": line}
    if stacks is not None:
        faulthandler.cancel_dump_traceback_later()
    seconds, high = time.perf_counter() - started, _memory("VmHWM")
    megabytes = max(0.0, high - before) if high > high_before else 0.0
    if result["outcome"] != "fault":
        if megabytes > limits.megabytes:
            result |= {"outcome": "fault", "kind": "memory", "place": result["text"][:60]}
        elif seconds > limits.seconds:
            result |= {"outcome": "fault", "kind": "slow", "place": result["text"][:60]}
    return result | {"seconds": round(seconds, 3), "megabytes": round(megabytes)}


def message_problem(text: str, names: set[str] | None) -> str | None:
    """What is wrong with a message for a person, None where it is good: one line without control characters that names
    one of the files `names`, not longer than people read."""
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text):
        return "has control characters"
    if len(text) > 2000:
        return "is too long"
    if names is not None and not any(n in text for n in names if n):
        return "names no file"
    return None


def _kind(error: BaseException) -> str:
    t = type(error)
    return t.__name__ if t.__module__ == "builtins" else f"{t.__module__}.{t.__name__}"


def _place(error: BaseException) -> str:
    """file:line of the innermost frame inside the package, with its function; the last frame where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if _PACKAGE in f.filename]
    frame = (inside or frames or [None])[-1]
    return "?" if frame is None else f"{_short(frame.filename)}:{frame.lineno} {frame.name}"


def place_in(stack: str) -> str:
    """The same of a stack that faulthandler wrote (innermost frame first)."""
    for line in stack.splitlines():
        if line.startswith("  File ") and _PACKAGE in line:
            file, number, name = (
                line.strip().removeprefix("File ").split(", line ")[0],
                *line.split(", line ")[1].split(" in "),
            )
            return f"{_short(file.strip(chr(34)))}:{number} {name}"
    return "?"


def _short(file: str) -> str:
    at = file.rfind(_PACKAGE)
    return file[at + 1 :] if at >= 0 else Path(file).name


def _memory(key: str) -> float:
    """MB of this process from Linux: VmRSS (now), VmHWM (the highest so far), VmSize (addresses). 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return float(line.split()[1]) / 1024
    return 0.0


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("the fuzzer needs fork and pipes")
