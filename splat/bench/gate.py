"""A table against a baseline: which cells are worse than it allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from splat.bench.quantities import quantity
from splat.bench.tables import Row, Spread
from splat.core.errors import SplatError
from splat.core.foreign import read_json, shown


def fallen(rows: Sequence[Row], baseline: Path) -> list[str]:
    """One sentence per figure that is worse than in `baseline`, a `table.json` of this command, by more than its
    tolerance, and per row of it that is missing or failed.

    The baseline's "tolerances" ({"psnr": 0.2, "seconds": 0.3}) go before the usual ones; null: not looked at. Those of
    seconds, Gaussians and memory are shares. Raises SplatError where it is no such file.
    """
    found = read_json(baseline)
    try:
        wanted = [(_key(r), r) for r in found["rows"]]
        tolerances: Mapping[str, float | None] = found.get("tolerances", {})
        ours = {(r.scene, r.method, r.setting): r for r in rows}
        out = []
        for key, row in wanted:
            out += _compared(key, row, ours.get(key), tolerances)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise SplatError(
            f"{shown(baseline)} is no baseline ({type(e).__name__}): give a table.json that `splat bench` wrote."
        ) from None
    return out


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["scene"], row["method"], row["setting"]


def _compared(
    key: tuple[str, str, str], before: Mapping[str, Any], now: Row | None, tolerances: Mapping[str, float | None]
) -> list[str]:
    name = ", ".join(filter(None, key))
    figures = {k: v["mean"] for k, v in before.items() if isinstance(v, dict) and "mean" in v}
    if "total" in before.get("seconds", {}):
        figures["seconds"] = before["seconds"]["total"]["mean"]
    if not figures:
        return []
    if now is None or not now.values:
        return [f"{name}: the baseline has figures, here {'it failed' if now else 'there are none'}."]
    values: dict[str, Spread | None] = {**now.values, "seconds": now.seconds.get("total")}
    out = []
    for figure, old in figures.items():
        q = quantity(figure)
        allowed = tolerances.get(figure, q.tolerance)
        if allowed is None:
            continue
        new = values.get(figure)
        if new is None:
            out.append(f"{name}: {q.title} of the baseline ({old:.{q.digits}f}) is missing here.")
            continue
        worse = old - new.mean if q.direction == "higher" else new.mean - old
        if worse > (allowed * abs(old) if q.relative else allowed):
            limit = f"{100 * allowed:g} %" if q.relative else f"{allowed:g}{f' {q.unit}' if q.unit else ''}"
            was = f"{old:.{q.digits}f} to {new.mean:.{q.digits}f}{f' {q.unit}' if q.unit else ''}"
            out.append(f"{name}: {q.title} went from {was}, worse by more than {limit}.")
    return out
