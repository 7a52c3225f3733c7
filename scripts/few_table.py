"""The tables of few photos: methods beside each other on two to a dozen photos.

    python scripts/few_table.py GROUP --out runs/few [--seeds 0] [--methods coherent,edgs] [--scenes kermit] [--dry-run]

Groups: `fern` (LLFF protocol, three views, preset default), `views` (2, 3, 6 and 9 views of fern, preset fast),
`captures` (3 and 6 photos of five captures, fast; poses from all photos), `weights` (three photos, with the weights
that SPLAT_WEIGHTS or installed packages have), `whole` (captures of 7 to 14 photos, preset default: as trained now,
and with the steps, dropout and harmonics of many photos), `rings` (16 photos of a ring: floaters).

Cells are those of `splat bench`; the numbers of finished ones are kept in scripts/results/few, so that a table can be
made in several sittings. LLFF: every eighth photo is held out, all pixels count, photos of 504 px.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, pstdev

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.bench.cells import Cell, Record, Value  # noqa: E402
from splat.bench.protocols import PROTOCOLS, Scene  # noqa: E402
from splat.bench.runner import Table  # noqa: E402
from splat.bench.scenes import traced  # noqa: E402
from splat.core.files import write_atomic  # noqa: E402
from splat.run.console import Console  # noqa: E402

METHODS = ("coherent", "edgs", "points")
LLFF: dict[str, Value] = {"max-resolution": 504}
AS_MANY: dict[str, Value] = {"iterations": 6000, "train.dropout.rate": 0.0, "train.free-space": 0.0, "sh-degree": 3}
"""How captures of any number of photos were trained before few ones were told apart."""


@dataclass(frozen=True)
class Group:
    """Cells: every scene, number of training photos (0: all) and variant."""

    about: str
    scenes: tuple[str, ...]
    photos: tuple[int, ...]
    preset: str
    methods: tuple[str, ...] = METHODS
    flags: dict[str, Value] = field(default_factory=dict)
    variants: dict[str, dict[str, Value]] = field(default_factory=lambda: {"": {}})


FIVE = ("kermit", "fountain_P11", "sceaux_castle", "banana", "atelier")
GROUPS = {
    "fern": Group("LLFF protocol, 3 views", ("llff_fern",), (3,), "default", ("coherent", "edgs"), LLFF),
    "views": Group("LLFF protocol", ("llff_fern",), (2, 3, 6, 9), "fast", METHODS, LLFF),
    "captures": Group("few photos of captures", FIVE, (3, 6), "fast"),
    "weights": Group("three photos with weights", FIVE, (3,), "fast", ("coherent",), {"known.matches": "disk"}),
    "whole": Group(
        "captures of 7 to 14 photos",
        ("kermit", "sceaux_castle", "fountain_P11", "banana", "horse16", "monstree_exif"),
        (0,),
        "default",
        ("coherent", "edgs"),
        {},
        {"": {}, "as many photos": AS_MANY},
    ),
    "rings": Group(
        "16 photos round an object",
        ("banana", "horse16", "fox16", "orbit16"),
        (0,),
        "fast",
        ("coherent", "edgs"),
        {},
        {"": {}, "as many photos": AS_MANY | {"iterations": 3000}},
    ),
}


def scene_of(name: str, data: Path, out: Path) -> Scene:
    """A capture of the data folder; one that `scenes/` makes; or 16 photos of either (`NAME16`)."""
    if name != "horse16" and name.endswith("16"):
        whole = scene_of(name.removesuffix("16"), data, out)
        return Scene(name, every_nth(whole.source, out / name, 16), whole.overrides)
    if name in ("atelier", "shelf", "orbit"):
        return traced(name, out / name)
    if name == "llff_fern":
        return Scene(name, data / name)  # with the poses that it brings, as the protocol has it
    return PROTOCOLS["captures"].select(data, [name])[0]


def every_nth(source: Path, folder: Path, count: int) -> Path:
    """A folder of links to `count` photos, evenly spread by name."""
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        photo = found[round(k * (len(found) - 1) / (count - 1))]
        if not (folder / photo.name).exists():
            (folder / photo.name).symlink_to(photo.resolve())
    return folder


def cells_of(group: Group, scenes: dict[str, Scene], methods: tuple[str, ...], seeds: list[int]) -> list[Cell]:
    cells = []
    for scene in scenes.values():
        for seed in seeds:
            for photos in group.photos:
                for method in methods:
                    for extra in group.variants.values():
                        if extra and method != "edgs":
                            continue  # what was done before, and it was edgs that did it
                        few: dict[str, Value] = {"train-photos": photos} if photos else {}
                        flags = {"preset": group.preset, "renders": False, **scene.overrides, **few}
                        cells.append(Cell(scene.name, method, {**flags, **group.flags, **extra}, seed))
    return cells


def rows_of(group: Group, records: list[Record]) -> list[str]:
    """Means over seeds with their spread."""
    groups: dict[tuple[str, int, str], list[Record]] = {}
    for r in records:
        o = r.cell.overrides
        few = int(o.get("train-photos", 0))  # type: ignore[arg-type]
        variant = next((n for n, f in group.variants.items() if f and all(o.get(k) == v for k, v in f.items())), "")
        label = f"{r.cell.method}, {variant}" if variant else r.cell.method
        groups.setdefault((r.cell.scene, few, label), []).append(r)
    lines = ["| scene | photos | method | PSNR | SSIM | LPIPS | floaters % | holes % | Gaussians | training s | s |"]
    lines.append("|" + " --- |" * 11)
    for (scene, few, label), found in groups.items():
        good = [r.metrics for r in found if r.metrics is not None]
        if not good:
            lines.append(f"| {scene} | {few or 'all'} | {label} | failed: {found[0].message} |" + " |" * 7)
            continue

        def shown(key: str, digits: int, scale: float = 1.0, good: list = good) -> str:  # type: ignore[type-arg]
            values = [scale * m[key] for m in good if m.get(key) is not None]
            if not values:
                return "-"
            spread = f" ± {pstdev(values):.{digits}f}" if len(values) > 1 else ""
            return f"{mean(values):.{digits}f}{spread}"

        train = mean(m["seconds"].get("train", 0.0) for m in good)
        total = mean(m["seconds"].get("total", 0.0) for m in good)
        holes = [v["holes_percent"] for m in good for v in m.get("views", ()) if v.get("holes_percent") is not None]
        lines.append(
            f"| {scene} | {few or 'all'} | {label} | {shown('psnr', 2)} | {shown('ssim', 3)} | {shown('lpips', 3)} "
            f"| {shown('floaters', 2, 100)} | {mean(holes) if holes else 0:.1f} "
            f"| {mean(m['num_gaussians'] for m in good) / 1000:.0f}k | {train:.0f} | {total:.0f} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=sorted(GROUPS))
    parser.add_argument("--out", type=Path, default=Path("runs/few"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPLAT_DATA", "../shared/data")))
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--methods", default="", help="comma-separated (default: those of the group)")
    parser.add_argument("--scenes", default="", help="comma-separated (default: those of the group)")
    parser.add_argument("--results", type=Path, default=ROOT / "scripts" / "results" / "few")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument("--table", action="store_true", help="run nothing: the table of what has been run")
    a = parser.parse_args()
    group = GROUPS[a.group]
    names = a.scenes.split(",") if a.scenes else list(group.scenes)
    scenes = {n: scene_of(n, a.data, a.out) for n in names}
    methods = tuple(a.methods.split(",")) if a.methods else group.methods
    cells = cells_of(group, scenes, methods, [int(s) for s in a.seeds.split(",")])
    table = Table(
        f"{group.about}, preset {group.preset}",
        tuple(cells),
        {n: s.source for n, s in scenes.items()},
        a.out,
        a.results,
    )
    with Console() as report:
        if a.dry_run:
            report.info(table.plan().describe())
            return 0
        if not a.table:
            table.run(report)
    records = table.records.of(cells_of(group, scenes, group.methods, [0, 1, 2]))
    lines = [f"# {table.title}", "", *rows_of(group, records)]
    text = "\n".join(lines) + "\n"
    write_atomic(a.results / f"{a.group}.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
