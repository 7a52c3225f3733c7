"""Protocols that differ in the number of training photos alone, run one after the other, and their one plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from splat.bench import plots
from splat.bench.protocols import PROTOCOLS
from splat.core.foreign import read_json

_IN_A_PLOT = 10
"""Lines that can be told apart."""


def run_family(
    main: Callable[[list[str]], int], family: str, counts: Sequence[int], argv: Sequence[str], results: Path
) -> int:
    """`splat bench FAMILY-N` for each count, below the folder of --out (default: runs/FAMILY), with the flags `argv`;
    then `psnr_vs_views` there, of what has been run. `main` runs a command line of splat. Returns the highest exit
    code."""
    rest, out = list(argv), Path("runs") / family
    if "--out" in rest[:-1]:
        at = rest.index("--out")
        out = Path(rest[at + 1])
        del rest[at : at + 2]
    names = {count: f"{family}-{count}" for count in counts}
    codes = [
        main(["bench", name, "--out", str(out / name), "--results", str(results), *rest]) for name in names.values()
    ]
    series = psnr_by_views({count: (name, out / name / "table.json") for count, name in names.items()})
    if series and plots.unavailable() is None:
        title = f"{family}: quality and number of training photos"
        figure = plots.curves(title, "training photos", "mean PSNR of held-out photos, dB", series, log=False)
        plots.write(figure, out / "psnr_vs_views.png")
    return max(codes)


def psnr_by_views(tables: dict[int, tuple[str, Path]]) -> dict[str, list[tuple[float, float]]]:
    """Ours by method, then publications that have the same protocol at two numbers of photos or more: (photos, dB).
    `tables`: photos -> protocol and its `table.json`; those that are not there are passed over."""
    ours: dict[str, list[tuple[float, float]]] = {}
    published: dict[str, list[tuple[float, float]]] = {}
    for count, (name, path) in tables.items():
        if not path.is_file():
            continue
        table: dict[str, Any] = read_json(path)
        for row in table["means"] or table["rows"]:
            if "psnr" in row:
                method = f"{row['method']} {row['setting']}".strip()
                ours.setdefault(method, []).append((float(count), float(row["psnr"]["mean"])))
        for p in PROTOCOLS[name].published:
            if not p.differs and not p.scene:
                published.setdefault(f"{p.method}, published", []).append((float(count), p.values["psnr"]))
    several = {name: points for name, points in published.items() if len(points) > 1}
    best = sorted(several, key=lambda name: -several[name][0][1])[: max(0, _IN_A_PLOT - len(ours))]
    return ours | {name: several[name] for name in best} if ours else {}
