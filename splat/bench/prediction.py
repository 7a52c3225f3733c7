"""What cells are expected to take, beside what they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from splat.bench.cells import Cell, Record

MAX_ERROR = 0.3
"""A prediction is right where what happened is within this share of it."""


@dataclass(frozen=True)
class Prediction:
    """Of one cell, its poses included."""

    minutes: float
    poses_mb: float
    """Peak while photos are read and poses found."""
    later_mb: float
    """Peak of the stages after the poses."""
    factor: float = 1.0
    """What finished cells corrected the minutes by."""

    @property
    def memory_mb(self) -> float:
        return max(self.poses_mb, self.later_mb)

    def plain(self) -> dict[str, float]:
        return {
            "minutes": round(self.minutes, 3),
            "memory_mb": round(self.memory_mb, 1),
            "factor": round(self.factor, 3),
        }

    def describe(self) -> str:
        learned = "" if self.factor == 1.0 else ", as finished cells say"
        return f"about {self.minutes:.1f} min and {self.memory_mb:.0f} MB{learned}"


def corrected(cell: Cell, prediction: Prediction, history: Sequence[Record]) -> Prediction:
    """The prediction, its minutes by the mean ratio of the finished cells most like it that were predicted too."""
    for alike in alike_cells(cell, history):
        ratios = [r for record in alike if (r := _ratio(record)) is not None]
        if ratios:
            factor = mean(ratios)
            return replace(prediction, minutes=prediction.minutes * factor, factor=factor)
    return prediction


def alike_cells(cell: Cell, history: Sequence[Record]) -> list[list[Record]]:
    """Records of cells like this one, those most like it first."""
    preset = cell.overrides.get("preset", "default")
    same_preset = [r for r in history if r.cell.overrides.get("preset", "default") == preset]
    return [
        [r for r in same_preset if (r.cell.scene, r.cell.method) == (cell.scene, cell.method)],
        [r for r in same_preset if r.cell.scene == cell.scene],
        [r for r in same_preset if r.cell.method == cell.method],
        same_preset,
    ]


def seconds_of(record: Record) -> float:
    """Seconds of the whole run, over all its attempts where it was resumed, the poses included."""
    total = (record.metrics or {}).get("seconds", {}).get("total")
    return float(total) if total is not None else record.wall_seconds


def _ratio(record: Record) -> float | None:
    """Seconds over those that were predicted without any correction."""
    p = record.predicted
    if record.failed or not p or not p.get("minutes"):
        return None
    return seconds_of(record) / (60 * p["minutes"] / p.get("factor", 1.0))


def errors(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each cell that was predicted and has ended well: minutes and MB as predicted and as they were."""
    rows = []
    for r in records:
        if r.failed or not r.predicted:
            continue
        minutes, memory = seconds_of(r) / 60, r.peak_memory_mb
        rows.append(
            {
                "cell": r.cell.name,
                "minutes": minutes,
                "predicted_minutes": r.predicted["minutes"],
                "memory_mb": memory,
                "predicted_memory_mb": r.predicted["memory_mb"],
            }
        )
    return rows


def share_within(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[int, int]:
    """How many predictions of `key` (`minutes` or `memory_mb`) were right, and of how many."""
    pairs = [(r[key], r[f"predicted_{key}"]) for r in rows if r[key] is not None]
    return sum(abs(real - predicted) <= MAX_ERROR * predicted for real, predicted in pairs), len(pairs)


def error_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: predicted and real, cell by cell, and how many predictions were right."""
    lines = ["| cell | minutes, predicted | minutes | MB, predicted | MB |", "|---|---|---|---|---|"]
    for r in rows:
        memory = "" if r["memory_mb"] is None else f"{r['memory_mb']:.0f}"
        lines.append(
            f"| {r['cell']} | {r['predicted_minutes']:.2f} | {r['minutes']:.2f} "
            f"| {r['predicted_memory_mb']:.0f} | {memory} |"
        )
    for name, key in (("time", "minutes"), ("memory", "memory_mb")):
        right, of = share_within(rows, key)
        lines += ["", f"{name}: {right} of {of} predictions within {MAX_ERROR:.0%}"]
    return "\n".join(lines) + "\n"
