"""Dense initialization beside sparse points: held-out quality at given steps, with the seconds it took to get there.

    python scripts/edgs_table.py --out runs/edgs [--preset fast] [--scenes kermit,fox] [--fewer] [--ablations]

Cells are those of `splat bench`, and the numbers of finished ones are kept in scripts/results/edgs: the table can be
made in several sittings. All methods of a scene start from the same poses. Seconds are of initialization (matching
included) and training, without the evaluations on the way.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.bench.cells import Cell, Record, Value  # noqa: E402
from splat.bench.engines import Local  # noqa: E402
from splat.bench.protocols import PROTOCOLS, Scene  # noqa: E402
from splat.bench.runner import Table  # noqa: E402
from splat.bench.scenes import traced  # noqa: E402
from splat.core.files import write_atomic  # noqa: E402
from splat.run.console import Console  # noqa: E402

SCENES = ("fox", "banana", "llff_fern", "sceaux_castle", "fountain_P11", "lego_400", "atelier")
STEPS = {"fast": (0, 500, 1000, 2000, 3000), "default": (0, 500, 1000, 3000, 6000)}
METHODS: dict[str, tuple[str, dict[str, Value]]] = {
    "edgs": ("edgs", {}),
    "points": ("points", {}),
    "points, MCMC": ("points", {"train.density": "mcmc"}),
}
FEWER = "edgs, 60 %"
"""With at most 60 % of the Gaussians that sparse points ended with."""
ABLATION_SCENES = ("llff_fern", "atelier")
ABLATIONS: dict[str, tuple[str, dict[str, Value]]] = {
    "edgs": ("edgs", {}),
    # All depths count as measured, and those of the Gaussians are checked against no other photo.
    "no consistency": ("edgs_no_consistency", {"stereo.min-probability": 0.0}),
    "no consistency in stereo": ("edgs", {"stereo.min-probability": 0.0}),
    "no fusion": ("edgs_no_fusion", {}),
    "isotropic": ("edgs_isotropic", {}),
    # As many at the start as there may be at the end, and none after; positions move at a third of the rate.
    "nothing added": ("edgs", {"edgs.init.budget": 55_000, "train.density": "none", "train.rates.means": 1e-4}),
    "flow": ("edgs", {"matcher": "flow"}),
    "published": ("edgs_published", {}),
    "points": ("points", {}),
}


def scenes_of(data: Path, names: list[str], out: Path) -> list[Scene]:
    """Captures of the data folder, and the scene that the project ray-traces itself."""
    found = (
        PROTOCOLS["captures"].select(data, [n for n in names if n != "atelier"]) if set(names) != {"atelier"} else []
    )
    if "atelier" in names:
        found.append(traced("atelier", out / "atelier"))
    return found


def cells_of(
    scenes: list[Scene], methods: dict[str, tuple[str, dict[str, Value]]], preset: str
) -> dict[str, list[Cell]]:
    """By name of the method, one for each scene."""
    at = list(STEPS[preset])
    return {
        name: [
            Cell(s.name, method, {"preset": preset, "renders": False, **s.overrides, "train.evaluate-at": at, **extra})
            for s in scenes
        ]
        for name, (method, extra) in methods.items()
    }


def with_fewer(cells: list[Cell], points: dict[str, Record]) -> list[Cell]:
    """The same with at most 60 % of the Gaussians, for scenes whose `points` are there."""
    counts = {s: r.metrics["num_gaussians"] for s, r in points.items() if r.metrics is not None}
    return [
        replace(c, overrides={**c.overrides, "cap": round(0.6 * counts[c.scene])}) for c in cells if c.scene in counts
    ]


def seconds_at(record: Record, row: dict[str, Any]) -> float:
    """From the first Gaussian on: matching and training until that step."""
    assert record.metrics is not None
    return float(record.metrics["seconds"].get("init", 0.0)) + float(row["seconds"])


def psnr_after(record: Record, seconds: float) -> float:
    """Held-out PSNR once so many seconds have passed, a straight line between the measured steps; the first figure
    before it is there."""
    assert record.metrics is not None
    points = [(seconds_at(record, r), float(r["psnr"])) for r in record.metrics["timeline"]]
    before = [p for p in points if p[0] <= seconds]
    after = [p for p in points if p[0] > seconds]
    if not before or not after:
        return (before or points)[-1][1] if before else points[0][1]
    (t0, p0), (t1, p1) = before[-1], after[0]
    return p0 + (p1 - p0) * (seconds - t0) / (t1 - t0)


def seconds_to(record: Record, psnr: float) -> float | None:
    """When held-out PSNR first reaches that figure (on a straight line between measured steps); None: never."""
    assert record.metrics is not None
    points = [(seconds_at(record, r), float(r["psnr"])) for r in record.metrics["timeline"]]
    if points[0][1] >= psnr:
        return points[0][0]
    for (t0, p0), (t1, p1) in itertools.pairwise(points):
        if p1 >= psnr:
            return t0 + (t1 - t0) * (psnr - p0) / (p1 - p0)
    return None


def lines_of(name: str, records: dict[str, Record], steps: tuple[int, ...]) -> list[str]:
    """A row for each scene: PSNR / SSIM, seconds and thousands of Gaussians at each step."""
    lines = []
    for scene, record in records.items():
        if record.metrics is None:
            lines.append(f"| {scene} | {name} | failed: {record.message} |" + " |" * (len(steps) + 1))
            continue
        by_step = {r["step"]: r for r in record.metrics["timeline"]}
        cells = []
        for step in steps:
            r = by_step.get(step)
            cells.append(
                "-"
                if r is None
                else f"{r['psnr']:.2f} / {r['ssim']:.3f} ({seconds_at(record, r):.0f} s, {r['gaussians'] / 1000:.0f}k)"
            )
        moved = 100 * (record.metrics.get("displacement") or 0.0)
        init = record.metrics["seconds"].get("init", 0.0)
        lines.append(f"| {scene} | {name} | {init:.0f} | {' | '.join(cells)} | {moved:.2f} % |")
    return lines


def comparison(ours: dict[str, Record], theirs: dict[str, Record], name: str) -> list[str]:
    """What the means over scenes say."""
    both = [s for s in ours if s in theirs and ours[s].metrics and theirs[s].metrics]
    if not both:
        return []

    def rows(record: Record) -> list[dict[str, Any]]:
        assert record.metrics is not None
        return list(record.metrics["timeline"])

    first = mean(rows(ours[s])[0]["psnr"] - rows(theirs[s])[0]["psnr"] for s in both)
    last = mean(rows(ours[s])[-1]["psnr"] - rows(theirs[s])[-1]["psnr"] for s in both)
    count = mean(rows(ours[s])[-1]["gaussians"] / rows(theirs[s])[-1]["gaussians"] for s in both)
    shares, alone, never, equal = [], [], [], []
    for s in both:
        end = rows(theirs[s])[-1]
        whole = seconds_at(theirs[s], end)
        reached = seconds_to(ours[s], end["psnr"])
        equal.append(psnr_after(ours[s], whole) - end["psnr"])
        if reached is None:
            never.append(s)
        else:
            init = (ours[s].metrics or {})["seconds"].get("init", 0.0)
            shares.append(reached / whole)
            alone.append(max(0.0, reached - init) / whole)
    travel = [
        (theirs[s].metrics or {})["displacement"] / max(1e-9, (ours[s].metrics or {})["displacement"]) for s in both
    ]
    corrected = mean((ours[s].metrics or {})["cc_psnr"] - (theirs[s].metrics or {})["cc_psnr"] for s in both)
    ssim = mean(rows(ours[s])[-1]["ssim"] - rows(theirs[s])[-1]["ssim"] for s in both)
    out = [
        f"- against {name}, {len(both)} scenes: step 0 {first:+.2f} dB; last step {last:+.2f} dB ({corrected:+.2f} "
        f"with colours corrected), SSIM {ssim:+.3f}, at {count:.2f} of its Gaussians; at its wall time "
        f"{mean(equal):+.2f} dB; Gaussians end {mean(travel):.1f} times nearer to where they, or what they descend "
        "from, started"
    ]
    if shares:
        out.append(
            f"  - its last figure is reached in {100 * mean(shares):.0f} % of its seconds, {100 * mean(alone):.0f} % "
            "without matching" + (f"; never on {', '.join(never)}" if never else "")
        )
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/edgs"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPLAT_DATA", "../shared/data")))
    parser.add_argument("--preset", choices=sorted(STEPS), default="fast")
    parser.add_argument("--scenes", default="", help="comma-separated (default: all of the table)")
    parser.add_argument("--methods", default="", help="comma-separated names of rows (default: all)")
    parser.add_argument("--ablations", action="store_true", help="the table of ablations instead")
    parser.add_argument("--fewer", action="store_true", help="then edgs with 60 %% of the Gaussians of points")
    parser.add_argument("--results", type=Path, default=ROOT / "scripts" / "results" / "edgs")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    a = parser.parse_args()
    methods = ABLATIONS if a.ablations else METHODS
    if a.methods:
        methods = {m: methods[m] for m in a.methods.split(",")}
    names = a.scenes.split(",") if a.scenes else list(ABLATION_SCENES if a.ablations else SCENES)
    scenes = scenes_of(a.data, names, a.out)
    cells = cells_of(scenes, methods, a.preset)
    title = f"EDGS: ablations, preset {a.preset}" if a.ablations else f"EDGS beside sparse points, preset {a.preset}"
    by_scene = tuple(c for row in zip(*cells.values(), strict=True) for c in row)  # poses are found once per scene
    engine = Local(program=(sys.executable, str(ROOT / "scripts" / "edgs_ablations.py"))) if a.ablations else Local()
    table = Table(title, by_scene, {s.name: s.source for s in scenes}, a.out, a.results)

    def records_of(rows: dict[str, list[Cell]]) -> dict[str, dict[str, Record]]:
        return {m: {c.scene: r for c in row if (r := table.records.get(c)) is not None} for m, row in rows.items()}

    with Console() as report:
        if a.dry_run:
            report.info(table.plan().describe())
            return 0
        table.run(report, engine)
        found = records_of(cells)
        if a.fewer:
            fewer = {FEWER: with_fewer(cells["edgs"], found["points"])}
            replace(table, cells=(*table.cells, *fewer[FEWER])).run(report, engine)  # with those whose poses they share
            found |= records_of(fewer)
    head = ["scene", "method", "init s", *(f"step {s}" for s in STEPS[a.preset]), "moved"]
    lines = [f"# {title}", "", "PSNR / SSIM (seconds since the first Gaussian, Gaussians)", ""]
    lines += [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for m, records in found.items():
        lines += lines_of(m, records, STEPS[a.preset])
    lines.append("")
    ours = found.get("edgs", {})
    for m, records in found.items():
        if m not in ("edgs", FEWER):
            lines += comparison(ours, records, m)
    if FEWER in found:
        lines += ["", f"{FEWER}:", *comparison(found[FEWER], found["points"], "points")]
    text = "\n".join(lines) + "\n"
    name = "ablations" if a.ablations else "table"
    write_atomic(a.results / f"{name}_{a.preset}.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
