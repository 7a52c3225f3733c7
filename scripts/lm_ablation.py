"""What each part of LM-Gaussian is good for: its ablation, part by part, on captures of 8 to 16 photos.

    python scripts/lm_ablation.py --data DIR --out runs/lm [--scenes horse16,banana] [--seeds 0] [--preset fast]
                                  [--rows dense,views] [--depth anything] [--dry-run]

`--data` (default: the folder named by SPLAT_DATA) holds the captures. Rows, each with the parts of those before it:
sparse points, dense first Gaussians, background and sky, depth and normals as losses, views between the photos, renders
that the refiner has corrected. `NAME8`: eight training photos of a capture.
`--depth`: a prior for the rows from the second on (as the flag of `splat reconstruct`); without it depth is that of
matching.

Cells are those of `splat bench`; the numbers of finished ones are kept in scripts/results/lm, so that a table can be
made in several sittings. The paper's gains (16 photos of Horse, dB): dense +3.70, background +0.92, depth +1.70 and
normals +0.28, views between +1.30.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from few_table import scene_of  # noqa: E402

from splat.bench.cells import Cell, Record, Value  # noqa: E402
from splat.bench.protocols import Scene  # noqa: E402
from splat.bench.runner import Table  # noqa: E402
from splat.core.files import write_atomic  # noqa: E402
from splat.run.console import Console  # noqa: E402

SCENES = ("fountain_P11", "kermit", "atelier8")
NO_LOSSES: dict[str, Value] = {
    "losses.pearson": 0.0,
    "losses.pearson-patches": 0.0,
    "losses.normal-l1": 0.0,
    "losses.normal-cosine": 0.0,
}
NO_VIEWS: dict[str, Value] = {"lm.points.every": 0}
NO_BACKGROUND: dict[str, Value] = {"lm.init.background": 0.0}


@dataclass(frozen=True)
class Row:
    """A variant: what it has beyond the row before."""

    about: str
    method: str
    flags: dict[str, Value]


ROWS: dict[str, Row] = {
    "sparse": Row("sparse points", "points", {}),
    "dense": Row("+ dense first Gaussians", "lm", {**NO_BACKGROUND, **NO_LOSSES, **NO_VIEWS}),
    "background": Row("+ background and sky", "lm", {**NO_LOSSES, **NO_VIEWS}),
    "losses": Row("+ normals as losses, and depth where a prior gives it", "lm", {**NO_VIEWS}),
    "views": Row("+ views between the photos", "lm", {}),
    "refined": Row("+ refined renders", "lm", {"lm.refiner": "scene"}),
}


def scene(name: str, data: Path, out: Path) -> Scene:
    """As `few_table.scene_of`; NAME8 trains on eight photos of NAME and is judged by those that NAME holds out."""
    if not name.endswith("8"):
        return scene_of(name, data, out)
    whole = scene_of(name.removesuffix("8"), data, out)
    return Scene(name, whole.source, {**whole.overrides, "train-photos": 8})


def cells_of(
    scenes: dict[str, Scene], seeds: list[int], preset: str, depth: str | None, rows: Sequence[str] = tuple(ROWS)
) -> list[Cell]:
    """Every scene, seed and row."""
    cells = []
    for scene in scenes.values():
        for seed in seeds:
            for row in (ROWS[name] for name in rows):
                prior: dict[str, Value] = {"depth": depth} if depth and row.method == "lm" else {}
                flags: dict[str, Value] = {"preset": preset, "renders": False, **scene.overrides, **prior, **row.flags}
                cells.append(Cell(scene.name, row.method, flags, seed))
    return cells


def row_of(cell: Cell) -> str:
    """The name of a cell's row."""
    own = {n for r in ROWS.values() for n in r.flags}
    flags = {n: v for n, v in cell.overrides.items() if n in own}
    return next(name for name, r in ROWS.items() if r.method == cell.method and r.flags == flags)


def table(records: list[Record]) -> str:
    """Markdown: means over seeds, the standard deviation over them, and the gain of each row over the one before."""
    found: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        if r.metrics is not None:
            found.setdefault((r.cell.scene, row_of(r.cell)), []).append(r)
    head = "| scene | parts | seeds | PSNR | deviation | gain, dB | SSIM | Gaussians | training s |"
    lines = [head, "|" + " --- |" * 9]
    for scene in dict.fromkeys(s for s, _ in found):
        before: float | None = None
        for name, row in ROWS.items():
            if (scene, name) not in found:
                continue
            metrics = [r.metrics for r in found[scene, name] if r.metrics is not None]
            psnr, ssim = (mean(m[k] for m in metrics) for k in ("psnr", "ssim"))
            gain = "" if before is None else f"{psnr - before:+.2f}"
            count = round(mean(m["num_gaussians"] for m in metrics))
            seconds = mean(m["seconds"]["train"] for m in metrics)
            spread = f"{stdev(m['psnr'] for m in metrics):.2f}" if len(metrics) > 1 else ""
            quality = f"{len(metrics)} | {psnr:.2f} | {spread} | {gain} | {ssim:.3f}"
            lines.append(f"| {scene} | {row.about} | {quality} | {count:,} | {seconds:.0f} |")
            before = psnr
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPLAT_DATA", "data")))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--depth")
    parser.add_argument("--results", type=Path, default=ROOT / "scripts" / "results" / "lm")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument("--table", action="store_true", help="run nothing: the table of what has been run")
    a = parser.parse_args(arguments)
    a.out.mkdir(parents=True, exist_ok=True)
    scenes = {name: scene(name, a.data, a.out) for name in a.scenes.split(",")}
    cells = cells_of(scenes, [int(s) for s in a.seeds.split(",")], a.preset, a.depth, a.rows.split(","))
    sources = {n: s.source for n, s in scenes.items()}
    runs = Table(f"LM-Gaussian part by part, preset {a.preset}", tuple(cells), sources, a.out, a.results)
    with Console() as report:
        if a.dry_run:
            report.info(runs.plan().describe())
            return 0
        if not a.table:
            runs.run(report)
    text = f"# {runs.title}\n\n{table(list(runs.records.of(cells)))}"
    write_atomic(a.results / "ablation.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
