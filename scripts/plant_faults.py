"""Plant known faults in copies of this repository, one at a time, and see whether the tests that must notice do.

    python scripts/plant_faults.py [--only NAME ...] [--everything] [--check]

`faults.toml` lists them: the file, the text that becomes another, and the tests that must then fail. All of those tests
are run without a fault first. Results are kept in `--results`, so that a run that was stopped goes on, and a fault is
planted again when its file, its tests or its entry has changed. Exits with 1 where a fault was not found, or its text
is not where it was (the table must be kept true). Faults marked `unseen` change nothing that a test could see; they are
only checked to be there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("faults.toml")
COMPILED = {".cpp", ".h"}


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    """Below the repository's root."""
    text: str
    """What the file must have exactly once."""
    planted: str
    """What it becomes."""
    tests: tuple[str, ...] = ()
    """Files of tests, or single tests (`file::name`), of which one must fail."""
    unseen: str = ""
    """Why no test can see it."""

    def count(self) -> int:
        """How often the text occurs."""
        path = ROOT / self.file
        return path.read_text().count(self.text) if path.is_file() else 0

    def hash(self) -> str:
        """Of everything that decides the result."""
        files = [self.file, *sorted({t.split("::")[0] for t in self.tests})]
        contents = [(ROOT / f).read_bytes() for f in files if (ROOT / f).is_file()]
        return hashlib.sha256(b"\0".join([repr(self).encode(), *contents])).hexdigest()[:16]


def read_table() -> list[Fault]:
    entries = tomllib.loads(TABLE.read_text())["fault"]
    return [Fault(**{**e, "tests": tuple(e.get("tests", ()))}) for e in entries]


def copy_tree(folder: Path) -> None:
    """The files that git knows or would add, as they are now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in names:
        if name and not name.startswith("scripts/results/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def run_tests(copy: Path, tests: Iterable[str], seconds: float, cache: Path | None) -> tuple[str, str]:
    """ "passed", "failed", "hung" or "broken", and the end of what was printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    if "SPLAT_DATA" not in env:
        env["SPLAT_DATA"] = str(ROOT.parent / "shared" / "data")
    if cache is not None:
        env["XDG_CACHE_HOME"] = str(cache)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "hung", ""
    words = {0: "passed", 1: "failed", 2: "failed"}  # 2: a module that cannot be imported
    return words.get(done.returncode, "broken"), (done.stdout + done.stderr)[-2000:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="faults whose names contain one of these")
    parser.add_argument("--everything", action="store_true", help="run all tests, not only those that must notice")
    parser.add_argument("--check", action="store_true", help="only see whether the table is true")
    parser.add_argument("--seconds", type=float, default=600, help="after which tests count as hung (which is noticed)")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "planted_faults.json")
    options = parser.parse_args()

    table = read_table()
    astray = [f for f in table if f.count() != 1]
    for f in astray:
        print(f"does not apply   {f.name}: {f.file} has its text {f.count()} times")
    chosen = [f for f in table if f not in astray and (not options.only or any(o in f.name for o in options.only))]
    if options.check:
        return int(bool(astray))

    known = json.loads(options.results.read_text()) if options.results.is_file() else {}
    unseen = [f for f in chosen if f.unseen]
    wanted = [f for f in chosen if not f.unseen]
    kind = "everything" if options.everything else "named"
    hashes = {f.name: f.hash() for f in wanted}  # of what is copied, whatever is edited meanwhile
    left = [f for f in wanted if known.get(f"{f.name} ({kind})", {}).get("hash") != hashes[f.name]]
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy, cache = Path(folder) / "copy", Path(folder) / "cache"
        if left:
            copy_tree(copy)
            tests = ["tests"] if options.everything else sorted({t for f in left for t in f.tests})
            word, tail = run_tests(copy, tests, 30 * options.seconds, None)
            if word != "passed":
                print(f"without a fault the tests do not pass ({word}):\n{tail}")
                return 1
        for f in left:
            path, original = copy / f.file, (copy / f.file).read_text()
            path.write_text(original.replace(f.text, f.planted))
            own_cache = cache if path.suffix in COMPILED else None
            word, tail = run_tests(copy, ["tests"] if options.everything else f.tests, options.seconds, own_cache)
            path.write_text(original)
            lines = [line for line in tail.splitlines() if line.startswith(("FAILED", "ERROR"))]
            known[f"{f.name} ({kind})"] = {"hash": hashes[f.name], "result": word, "by": lines[:1]}
            options.results.write_text(json.dumps(known, indent=1))
            print(f"{word:16} {f.name} {' '.join(lines[:1])[:150]}", flush=True)
    results = {f.name: known[f"{f.name} ({kind})"]["result"] for f in wanted}
    found = [name for name, word in results.items() if word in ("failed", "hung")]
    for name, word in results.items():
        if name not in found:
            print(f"not found        {name} ({word})")
    print(f"{len(found)} of {len(results)} faults found; {len(unseen)} change nothing; {len(astray)} do not apply")
    return int(len(found) < len(results) or bool(astray))


if __name__ == "__main__":
    sys.exit(main())
