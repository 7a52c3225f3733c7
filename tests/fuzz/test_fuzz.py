"""Damaged inputs end in what they still hold or in one sentence, for every reader and codec; the fuzzer finds faults.

The mutants are read by `scripts/fuzz_readers.py`, in processes of their own: a hang or a crash must not take the tests
along, and no hook that checks types is between a reader and what it is given. SPLAT_FUZZ sets the number of mutants of
the slow test.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.campaign import Result, fuzz, rows
from fuzz.mutate import KINDS, write_tree
from fuzz.targets import TARGETS, Target
from fuzz.worker import Limits, message_problem, mutant_of

from splat.core.errors import SplatError

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | Path, timeout: float) -> tuple[list[dict], str]:
    """The results of the script, and what it printed."""
    command = [sys.executable, str(ROOT / "scripts" / "fuzz_readers.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    file = Path(arguments[arguments.index("--json") + 1])
    return json.loads(file.read_text()) if file.exists() else [], done.stdout + done.stderr


def test_a_few_mutants_of_every_reader_are_accepted_or_a_sentence(tmp_path: Path):
    results, text = run("--count", "25", "--json", tmp_path / "results.json", timeout=300)
    assert {r["target"] for r in results} == set(TARGETS), text
    assert not [r for r in results if r["faults"]], text
    assert not [r for r in results if r["unavailable"]], text
    assert all(r["mutants"] == 25 and r["accepted"] + r["errors"] == 25 for r in results), text


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_mutants_are_accepted_or_a_sentence(target: str, tmp_path: Path):
    count = os.environ.get("SPLAT_FUZZ", "10000")
    results, text = run(target, "--count", count, "--json", tmp_path / "results.json", timeout=3600)
    print(text)
    assert results and results[0]["mutants"] == int(count) and not results[0]["faults"], text


# -------------------------------------------------------------------------------------------------- the fuzzer judged


def numbers(root: Path) -> None:
    (root / "a.json").write_text('{"a": 1, "b": [1.5, 2.5], "name": "x.png"}')


def read_with(fault: Callable[[bytes], object], seeds: range, seconds: float = 5.0) -> Result:
    """A reader that calls `fault` with the bytes of its file, wherever they differ from the valid ones."""

    def consume(root: Path, report: object) -> None:
        path = root / "a.json"
        data = path.read_bytes() if path.is_file() and 0 < path.stat().st_size < 10**6 else b""  # no device
        if not data.startswith(b'{"a": 1, "b"'):
            fault(data)

    return fuzz(Target("planted", numbers, consume), seeds, Limits(seconds, 100))


def raising(error: BaseException) -> Callable[[bytes], object]:
    def fault(_: bytes) -> None:
        raise error

    return fault


def touch(size: int) -> None:
    """Fill `size` bytes of memory that the process did not have: what others freed before does not serve."""
    with mmap.mmap(-1, size) as fresh:
        view = memoryview(fresh)
        for at in range(0, size, 4096):
            view[at] = 1
        view.release()


PLANTED: dict[str, tuple[Callable[[bytes], object], str]] = {
    "an exception": (raising(ValueError("x")), "ValueError"),
    "running out of memory": (lambda _: bytearray(1 << 44), "MemoryError"),
    "a hang": (lambda _: time.sleep(30), "hang"),
    "a crash": (lambda _: os.abort(), "SIGABRT"),
    "an end of the process": (lambda _: os._exit(3), "exit 3"),
    "much memory": (lambda _: touch(130_000_000), "memory"),
    "a message that moves the cursor": (raising(SplatError("mutant_input \x1b[2J")), "message has control characters"),
    "a message of two lines": (raising(SplatError("mutant_input\nx")), "message has control characters"),
    "a message that names no file": (raising(SplatError("The file is damaged.")), "message names no file"),
    "a wrong result": (raising(AssertionError("not finite")), "AssertionError"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_and_the_next_mutants_are_read(name: str):
    fault, kind = PLANTED[name]
    count = 3 if kind == "hang" else 15
    result = read_with(fault, range(1, 1 + count), 0.3 if kind == "hang" else 5.0)
    assert {f.kind for f in result.faults.values()} == {kind}, rows(result)
    assert result.mutants == count
    seeds = [s for f in result.faults.values() for s in f.seeds]
    assert len(seeds) == result.fault_count == result.mutants - result.accepted > 1


def test_clean_errors_are_no_faults():
    result = read_with(raising(SplatError("mutant_input/a.json is damaged: copy it again.")), range(1, 60))
    assert not result.faults and result.errors > 5 and result.accepted > 0


def test_a_seed_gives_the_same_mutant_again_and_others_differ():
    target = Target("planted", numbers, lambda root, report: None)
    tree = {"a.json": b'{"a": 1, "b": [1.5, 2.5], "name": "x.png"}', "b.png": b"\x89PNG\r\n\x1a\n"}
    mutants = [mutant_of(target, tree, seed) for seed in range(200)]
    assert mutants[0] == tree
    assert mutants == [mutant_of(target, tree, seed) for seed in range(200)]
    assert len({repr(m) for m in mutants}) > 100


def test_what_is_no_file_is_written_as_such(tmp_path: Path):
    write_tree(tmp_path / "x", {kind: kind for kind in KINDS})
    x = tmp_path / "x"
    assert (x / "folder").is_dir() and (x / "pipe").is_fifo() and (x / "sparse").stat().st_size > 10**10
    assert (x / "loop").is_symlink() and (x / "nowhere").is_symlink() and not (x / "nowhere").exists()


def test_messages_are_judged_as_people_see_them():
    assert message_problem("scan/a.ply is cut short: copy it again.", {"a.ply"}) is None
    assert message_problem("a.ply \x07", {"a.ply"}) == "has control characters"
    assert message_problem("a.ply \ud800", {"a.ply"}) == "has control characters"
    assert message_problem("a.ply" * 1000, {"a.ply"}) == "is too long"
    assert message_problem("it is damaged", {"a.ply"}) == "names no file"
    assert message_problem("a note without files", None) is None


def test_a_mutant_that_cannot_be_made_is_a_fault_and_no_endless_loop():
    def broken(data: bytes, rng: object) -> bytes:
        raise RuntimeError("the fuzzer is wrong")

    result = fuzz(Target("planted", numbers, lambda root, report: None, mutation=broken), range(1, 8))
    assert result.mutants == 7 and {f.kind for f in result.faults.values()} == {"exit 99"}
    assert all("the fuzzer is wrong" in f.text for f in result.faults.values())
