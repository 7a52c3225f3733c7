"""Dense first Gaussians on odd captures: two photos, a blank wall, sky, a moved object, ... beside sparse points.

    python scripts/odd_captures.py --out runs/odd [--captures sky,blank_wall]

The captures are made out of this project's own scene (`scenes/odd.py`): poses are exact and the same for both methods.
Cells are those of `splat bench`; the numbers of finished ones are kept in scripts/results/odd: the table can be made in
several sittings. Ends with code 1 where `edgs` is worse than `points` by more than BOUND on any capture.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.bench.cells import Cell, Record  # noqa: E402
from splat.bench.protocols import Scene  # noqa: E402
from splat.bench.runner import Table  # noqa: E402
from splat.bench.scenes import load_scenes  # noqa: E402
from splat.core.files import write_atomic, write_json  # noqa: E402
from splat.run.console import Console  # noqa: E402

METHODS = ("edgs", "points")
BOUND = 0.2
"""How many dB of held-out PSNR `edgs` may be below `points`."""
HEAD = (
    "capture", "method", "PSNR", "PSNR, colours corrected", "SSIM", "Gaussians", "seconds, init", "seconds, training",
    "peak MB", "predicted MB",
)  # fmt: skip


def captures_of(names: list[str], out: Path) -> list[Scene]:
    """The captures in `out/captures`, made where they are not there yet."""
    scenes = load_scenes()
    odd = importlib.import_module("splat.scenes.odd")
    truth = scenes.make("atelier", out / "atelier", scale=odd.SCALE)
    return [Scene(n, odd.make(n, truth, out / "captures" / n)) for n in names or odd.CAPTURES]


def cells_of(captures: list[Scene], preset: str, seed: int) -> list[Cell]:
    """Both methods of one capture after each other: poses and sparse points are found once."""
    return [
        Cell(s.name, method, {"preset": preset, "renders": False, **s.overrides}, seed)
        for s in captures
        for method in METHODS
    ]


def predicted_mb(log: Path) -> float | None:
    """What a run foretold of its peak memory, by its `log.jsonl`; None where it does not say."""
    try:
        lines = [json.loads(line).get("message", "") for line in log.read_text().splitlines()]
    except (OSError, ValueError):
        return None
    said = [m for m in lines if m.startswith("expected: ") and " GB" in m]
    return 1000 * float(said[-1].split(" GB")[0].split()[-1]) if said else None


def predictions(table: Table, kept: Path) -> dict[str, float]:
    """By name of the cell: those kept from earlier sittings, and of the run folders that are there."""
    found: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    for cell in table.cells:
        if (mb := predicted_mb(table.out / "runs" / cell.name / "log.jsonl")) is not None:
            found[cell.name] = mb
    write_json(kept, dict(sorted(found.items())))
    return found


def line_of(record: Record, predicted: float | None) -> str:
    name = f"| {record.cell.scene} | {record.cell.method} |"
    m = record.metrics
    if m is None:
        return f"{name} failed: {record.message} |" + " |" * (len(HEAD) - 3)
    peak = "-" if record.peak_memory_mb is None else f"{record.peak_memory_mb:.0f}"
    return (
        f"{name} {m['psnr']:.2f} | {m['cc_psnr']:.2f} | {m['ssim']:.3f} | {m['num_gaussians']} | "
        f"{m['seconds'].get('init', 0.0):.0f} | {m['seconds'].get('train', 0.0):.0f} | {peak} | "
        f"{'-' if predicted is None else f'{predicted:.0f}'} |"
    )


def differences(records: list[Record]) -> dict[str, float | None]:
    """By capture, PSNR of `edgs` - `points` in dB; None where one of them failed or has not run."""
    psnr = {(r.cell.scene, r.cell.method): r.metrics["psnr"] for r in records if r.metrics is not None}
    captures = dict.fromkeys(r.cell.scene for r in records)
    both = {c: (psnr.get((c, "edgs")), psnr.get((c, "points"))) for c in captures}
    return {c: None if e is None or p is None else e - p for c, (e, p) in both.items()}


def verdict(found: dict[str, float | None]) -> tuple[str, bool]:
    """The last line of the table, and whether the bound holds."""
    missing = [c for c, d in found.items() if d is None]
    if missing or not found:
        return f"No figures of both methods for {', '.join(missing) or 'any capture'}: nothing is shown.", False
    worst, difference = min(((c, d) for c, d in found.items() if d is not None), key=lambda item: item[1])
    within = difference >= -BOUND
    below = [f"{c} {d:+.2f}" for c, d in found.items() if d is not None and d < -BOUND]
    return (
        f"Worst difference edgs - points: {difference:+.2f} dB ({worst}); never below by more than {BOUND} dB: "
        f"{'holds' if within else 'does not hold (' + ', '.join(below) + ')'}.",
        within,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/odd"))
    parser.add_argument("--preset", choices=("fast", "default"), default="fast")
    parser.add_argument("--captures", default="", help="comma-separated (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=ROOT / "scripts" / "results" / "odd")
    parser.add_argument("--retry-failed", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    a = parser.parse_args()
    captures = captures_of([n for n in a.captures.split(",") if n], a.out)
    cells = cells_of(captures, a.preset, a.seed)
    title = f"Odd captures, preset {a.preset}, seed {a.seed}"
    table = Table(title, tuple(cells), {s.name: s.source for s in captures}, a.out, a.results)
    with Console() as report:
        if a.dry_run:
            report.info(table.plan(a.retry_failed).describe())
            return 0
        records = table.run(report, retry_failed=a.retry_failed)
    foretold = predictions(table, a.results / "predicted_mb.json")
    last, within = verdict(differences(records))
    lines = [f"# {title}", "", f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    lines += [line_of(r, foretold.get(r.cell.name)) for r in records]
    lines += ["", last]
    text = "\n".join(lines) + "\n"
    name = f"table_{a.preset}" + (f"_seed{a.seed}" if a.seed else "")
    if not a.captures:
        write_atomic(a.results / f"{name}.md", text)
    print(text)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
