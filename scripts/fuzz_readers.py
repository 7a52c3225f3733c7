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
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from fuzz.campaign import chosen, fuzz, table, working_folder  # noqa: E402
from fuzz.mutate import write_tree  # noqa: E402
from fuzz.targets import Target  # noqa: E402
from fuzz.worker import FOLDER, Limits, mutant_of, tree_of  # noqa: E402
from noting import Noting  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", help="part of a target's name (default: all)")
    parser.add_argument("--count", type=int, default=1000, help="mutants of each target")
    parser.add_argument("--first", type=int, default=1, help="seed of the first one")
    parser.add_argument("--seed", type=int, help="this one alone, with its stack")
    parser.add_argument("--keep", type=Path, help="with --seed: write the files of the mutant here")
    parser.add_argument("--seconds", type=float, default=Limits().seconds)
    parser.add_argument("--megabytes", type=float, default=Limits().megabytes)
    parser.add_argument("--json", type=Path, help="write the results here, after every target")
    options = parser.parse_args()
    torch.set_num_threads(1)  # and none that a child would miss
    keep, written = (p and p.resolve() for p in (options.keep, options.json))
    with working_folder():
        if options.seed is not None:
            return read_one(chosen(options.target)[0], options.seed, keep)
        results = []
        for target in chosen(options.target):
            seeds = range(options.first, options.first + options.count)
            results.append(fuzz(target, seeds, Limits(options.seconds, options.megabytes)))
            print("\n".join(table(results[-1:]).split("\n")[len(results) > 1 :]), flush=True)
            if written:
                rows = [asdict(r) | {"faults": [asdict(f) for f in r.faults.values()]} for r in results]
                written.write_text(json.dumps(rows, indent=1))
    print(f"\n{table(results)}")
    return int(any(r.faults for r in results))


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
