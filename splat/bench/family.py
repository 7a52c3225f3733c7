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
    out, rest = _out_of(argv, Path("runs") / family)
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


def _out_of(argv: Sequence[str], default: Path) -> tuple[Path, list[str]]:
    """What `--out DIR` or `--out=DIR` says, and the other flags."""
    for at, flag in enumerate(argv):
        if flag == "--out" and at + 1 < len(argv):
            return Path(argv[at + 1]), [*argv[:at], *argv[at + 2 :]]
        if flag.startswith("--out="):
            return Path(flag.partition("=")[2]), [*argv[:at], *argv[at + 1 :]]
    return default, list(argv)


def psnr_by_views(tables: dict[int, tuple[str, Path]]) -> dict[str, list[tuple[float, float]]]:
    """Ours by method, then publications that have the same protocol at two numbers of photos or more: (photos, dB).
    Ours is the figure that the protocol compares with theirs, where it was measured. `tables`: photos -> protocol and
    its `table.json`; those that are not there are passed over."""
    ours: dict[str, list[tuple[float, float]]] = {}
    published: dict[str, list[tuple[float, float]]] = {}
    for count, (name, path) in tables.items():
        if not path.is_file():
            continue
        table: dict[str, Any] = read_json(path)
        figure = PROTOCOLS[name].compare.get("psnr", "psnr")
        for row in table["means"] or table["rows"]:
            if (psnr := row.get(figure) or row.get("psnr")) is not None:
                method = f"{row['method']} {row['setting']}".strip()
                ours.setdefault(method, []).append((float(count), float(psnr["mean"])))
        for p in PROTOCOLS[name].published:
            if not p.differs and not p.scene:
                published.setdefault(f"{p.method}, published", []).append((float(count), p.values["psnr"]))
    several = {name: points for name, points in published.items() if len(points) > 1}
    best = sorted(several, key=lambda name: -several[name][0][1])[: max(0, _IN_A_PLOT - len(ours))]
    return ours | {name: several[name] for name in best} if ours else {}
