"""Reads damaged files through every reader and codec, and lists what is neither accepted nor a clean error.

    python scripts/fuzz_readers.py [TARGET ...] [--count 1000] [--first 1] [--json FILE]
    python scripts/fuzz_readers.py spz --seed 123 [--keep FOLDER]

A mutant is a small valid input with a few changes that depend on its target and seed alone, so a seed reproduces it.
Clean is a SplatError of one line that names a file; everything else is a fault: any other exception, a crash, more than
10 s, more than 500 MB. With --seed one mutant is read in this process, with its stack; --keep writes its files.
Targets and mutations: tests/fuzz. Exit code 1 where there are faults.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from fuzz.campaign import HEAD, chosen, fuzz, rows, working_folder  # noqa: E402
from fuzz.mutate import write_tree  # noqa: E402
from fuzz.targets import Target  # noqa: E402
from fuzz.worker import DEFAULT, FOLDER, Limits, mutant_of, tree_of  # noqa: E402
from noting import Noting  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", help="a target, or a part of the names of several (default: all)")
    parser.add_argument("--count", type=int, default=1000, help="mutants of each target")
    parser.add_argument("--first", type=int, default=1, help="seed of the first one")
    parser.add_argument("--jobs", type=int, default=1, help="targets at the same time")
    parser.add_argument("--seed", type=int, help="this one alone, with its stack")
    parser.add_argument("--keep", type=Path, help="with --seed: write the files of the mutant here")
    parser.add_argument("--seconds", type=float, default=DEFAULT.seconds, help="limit for one mutant")
    parser.add_argument("--megabytes", type=float, default=DEFAULT.megabytes, help="limit for one mutant")
    parser.add_argument("--json", type=Path, help="write the results here, after every target")
    options = parser.parse_args()
    torch.set_num_threads(1)  # and none that a forked child would miss
    targets = chosen(options.target)
    if options.seed is not None:
        keep = options.keep and options.keep.resolve()
        with working_folder():
            return read_one(targets[0], options.seed, keep)
    seeds = range(options.first, options.first + options.count)
    work = partial(fuzz, seeds=seeds, limits=Limits(options.seconds, options.megabytes))
    results = []
    print(HEAD, flush=True)
    with ProcessPoolExecutor(options.jobs, get_context("fork"), max_tasks_per_child=None) as pool:
        for done in as_completed([pool.submit(work, t.name) for t in targets]):
            results.append(done.result())
            print(rows(results[-1]), flush=True)
            if options.json:
                found = [asdict(r) | {"faults": [asdict(f) for f in r.faults.values()]} for r in results]
                options.json.write_text(json.dumps(found, indent=1))
    faults = sum(r.fault_count for r in results)
    mutants = sum(r.mutants for r in results)
    print(f"{mutants} mutants of {len(results)} targets, seeds {seeds.start} to {seeds.stop - 1}: {faults} faults")
    return int(faults > 0)


def read_one(target: Target, seed: int, keep: Path | None) -> int:
    """Read one mutant in this process; returns the exit code."""
    tree = mutant_of(target, tree_of(target), seed)
    write_tree(Path(FOLDER), tree)
    if keep:
        write_tree(keep, tree)
    report = Noting()
    try:
        target.read(Path(FOLDER), report)
        print("accepted")
    finally:
        print("\n".join(["messages:", *report.warnings, *report.lines]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
