"""Whether two checkouts reconstruct bit for bit the same splats: three scenes, two methods, one thread.

    python scripts/compare_splats.py --out runs/splats_before --tree ../before > before.txt
    python scripts/compare_splats.py --out runs/splats --against before.txt

Prints a line `scene method hash` for each, with the first 16 digits of the SHA-256 of `export/splat.ply`. With
`--against`, ends with code 1 where a hash differs from that of an earlier output, or none is in both. On another
machine or with other versions of libraries hashes may differ although the code is the same.

The captures kermit and llff_fern are read from the data folder (SPLAT_DATA) and left out where they are not there;
atelier is ray-traced. Finished runs are listed in OUT/hashes.txt and not repeated. Takes about fifteen minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.bench.scenes import load_scenes  # noqa: E402
from splat.core.errors import SplatError  # noqa: E402

CAPTURES = ("kermit", "llff_fern")
TRACED = "atelier"
METHODS = ("points", "edgs")
FLAGS = ("--preset", "fast", "--threads", "1", "--no-renders", "--quiet")
SOURCES = frozenset({".py", ".h", ".cpp", ".cu", ".cuh"})

Hashes = dict[tuple[str, str], str]
"""(scene, method) -> hash."""


@dataclass(frozen=True)
class Source:
    """What is reconstructed."""

    scene: str
    photos: Path
    flags: tuple[str, ...] = ()


def sources_of(names: list[str], data: Path, out: Path) -> list[Source]:
    """The named scenes that are there; those that are not are named on stderr."""
    found = []
    for name in names:
        if name == TRACED:
            load_scenes().make(TRACED, out / TRACED)
            found.append(Source(TRACED, out / TRACED / "images", ("--ignore-poses",)))
        elif (data / name).is_dir():
            found.append(Source(name, data / name))
        else:
            print(f"{name} is left out: it is not in {data} (set SPLAT_DATA).", file=sys.stderr)
    return found


def code_of(tree: Path) -> str:
    """A hash of the sources of a checkout's package."""
    if not (tree / "splat" / "__main__.py").is_file():
        raise SplatError(f"{tree} has no splat/__main__.py: give --tree a checkout of this project.")
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.glob("splat/**/*") if p.suffix in SOURCES):
        digest.update(f"{path.relative_to(tree)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def reconstruct(tree: Path, source: Source, method: str, run: Path) -> str:
    """Runs the `splat` of a checkout; the hash of the splat. Raises SplatError where it fails."""
    shutil.rmtree(run, ignore_errors=True)  # an interrupted run starts again: the whole of it is compared
    log = run.with_name(f"{run.name}.log")
    command = [sys.executable, "-m", "splat", "reconstruct", str(source.photos.resolve()), "--out", str(run.resolve())]
    with log.open("w") as f:
        # `python -m` imports from the working directory first.
        done = subprocess.run(
            [*command, "--method", method, *FLAGS, *source.flags],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree.resolve())},
            stdin=subprocess.DEVNULL,
            stdout=f,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        raise SplatError(f"{source.scene} {method} ended with code {done.returncode}: see {log}.")
    return hashlib.sha256((run / "export" / "splat.ply").read_bytes()).hexdigest()[:16]


def read_hashes(path: Path) -> Hashes:
    """Of the lines that this script prints."""
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except OSError as e:
        raise SplatError(f"{path} cannot be read: give the output of an earlier call.") from e
    if any(len(row) != 3 for row in rows):
        raise SplatError(f"{path} has lines other than `scene method hash`: give the output of an earlier call.")
    return {(scene, method): digest for scene, method, digest in rows}


def differences(now: Hashes, before: Hashes) -> list[str]:
    """A sentence for each hash that differs; one where nothing can be compared."""
    both = [key for key in now if key in before]
    if not both:
        return ["No scene and method is in both: nothing is shown."]
    return [f"{' '.join(key)} differs: {now[key]}, before {before[key]}." for key in both if now[key] != before[key]]


def hashes_of(tree: Path, names: list[str], data: Path, out: Path) -> Hashes:
    """Of the named scenes, printed as they are there; those that `out` has are not run again."""
    out.mkdir(parents=True, exist_ok=True)
    kept, code_file, code = out / "hashes.txt", out / "code.txt", code_of(tree)
    if code_file.exists() and code_file.read_text() != code:
        raise SplatError(f"{out} was made with other code than that of {tree}: give another --out.")
    code_file.write_text(code)
    done = read_hashes(kept) if kept.exists() else {}
    found: Hashes = {}
    for source in sources_of(names, data, out):
        for method in METHODS:
            key = source.scene, method
            new = key not in done
            found[key] = reconstruct(tree, source, method, out / "-".join(key)) if new else done[key]
            line = f"{source.scene} {method} {found[key]}"
            if new:
                with kept.open("a") as f:
                    f.write(line + "\n")
            print(line, flush=True)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/splats"), help="of one state of one checkout")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout whose splat runs (default: this one)")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPLAT_DATA", "../shared/data")))
    parser.add_argument("--scenes", default=",".join((*CAPTURES, TRACED)), help="comma-separated (default: all)")
    parser.add_argument("--against", type=Path, help="compare with this earlier output")
    a = parser.parse_args(argv)
    try:
        before = None if a.against is None else read_hashes(a.against)
        found = hashes_of(a.tree, a.scenes.split(","), a.data, a.out)
    except SplatError as e:
        print(e, file=sys.stderr)
        return 2
    if before is None:
        return 0
    lines = differences(found, before)
    print("\n".join(lines) or f"All {len(found.keys() & before.keys())} are the same.", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
