"""What cells are expected to take, beside what they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from splat.bench.cells import Cell, Record

POSE_STAGES = ("ingest", "poses")
"""What cells of one scene and seed share: methods are compared on the same poses, found once."""
MAX_ERROR = 0.3
"""A prediction is right where what happened is within this share of it."""


@dataclass(frozen=True)
class Prediction:
    """Of one cell, its poses included."""

    seconds: Mapping[str, float]
    """By stage, as the sizes of its photos and the speed of the machine have it."""
    poses_mb: float
    """Peak while photos are read and poses found."""
    later_mb: float
    """Peak of the stages after the poses."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """What finished cells correct the seconds of a stage by."""
    known: Mapping[str, float] = field(default_factory=dict)
    """Seconds of stages that were there when the cell began: poses that it shares with others."""

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of every stage, by all that is known."""
        return {n: self.known.get(n, s * self.factors.get(n, 1.0)) for n, s in self.seconds.items()}

    @property
    def minutes(self) -> float:
        return sum(self.stages.values()) / 60

    @property
    def memory_mb(self) -> float:
        return max(self.poses_mb, self.later_mb)

    def plain(self) -> dict[str, Any]:
        """`seconds` are those of sizes and speed alone, without correction: what later cells are corrected by."""
        seconds = {stage: round(s, 2) for stage, s in self.seconds.items()}
        return {"minutes": round(self.minutes, 3), "memory_mb": round(self.memory_mb, 1), "seconds": seconds}

    def describe(self) -> str:
        learned = ", as finished cells say" if self.factors else ""
        stages = ", ".join(f"{stage} {s:.0f} s" for stage, s in self.stages.items() if s >= 0.5)
        return f"about {self.minutes:.1f} min and {self.memory_mb:.0f} MB{learned} ({stages})"


def corrected(cell: Cell, prediction: Prediction, history: Sequence[Record]) -> Prediction:
    """The prediction, each stage by the mean ratio of the finished cells most like it that were predicted too."""
    factors: dict[str, float] = {}
    for stage in prediction.seconds:
        for alike in alike_cells(cell, history, poses=stage in POSE_STAGES):
            ratios = [r for record in alike if (r := _ratio(record, stage)) is not None]
            if ratios:
                factors[stage] = mean(ratios)
                break
    return replace(prediction, factors=factors)


def alike_cells(cell: Cell, history: Sequence[Record], poses: bool = False) -> list[list[Record]]:
    """Records of cells like this one, those most like it first. `poses`: as far as its poses go, for which the scene
    counts; else the method counts more."""
    preset = cell.overrides.get("preset", "default")
    same_preset = [r for r in history if r.cell.overrides.get("preset", "default") == preset]
    same_scene = [r for r in same_preset if r.cell.scene == cell.scene]
    both = [r for r in same_scene if r.cell.method == cell.method]
    same_method = [r for r in same_preset if r.cell.method == cell.method]
    return [same_scene, same_preset] if poses else [both, same_method, same_scene, same_preset]


def seconds_of(record: Record) -> float:
    """Seconds of the whole run, over all its attempts where it was resumed, the poses included."""
    total = (record.metrics or {}).get("seconds", {}).get("total")
    return float(total) if total is not None else record.wall_seconds


def _ratio(record: Record, stage: str) -> float | None:
    """Seconds of a stage over those that were predicted."""
    predicted = (record.predicted or {}).get("seconds", {}).get(stage)
    real = (record.metrics or {}).get("seconds", {}).get(stage)
    return None if not predicted or real is None else float(real) / float(predicted)


def errors(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each cell that was predicted and has ended well: minutes and MB as predicted and as they were.
    `minutes_before`: as predicted from sizes and the speed of the machine, before any cell had run."""
    rows = []
    for r in records:
        if r.failed or not r.predicted:
            continue
        minutes, memory = seconds_of(r) / 60, r.peak_memory_mb
        rows.append(
            {
                "cell": r.cell.name,
                "minutes": minutes,
                "minutes_before": minutes,
                "predicted_minutes": r.predicted["minutes"],
                "predicted_minutes_before": sum(r.predicted["seconds"].values()) / 60,
                "memory_mb": memory,
                "predicted_memory_mb": r.predicted["memory_mb"],
            }
        )
    return rows


def share_within(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[int, int]:
    """How many predictions of `key` (`minutes`, `minutes_before` or `memory_mb`) were right, and of how many."""
    pairs = [(r[key], r[f"predicted_{key}"]) for r in rows if r[key] is not None]
    return sum(abs(real - predicted) <= MAX_ERROR * predicted for real, predicted in pairs), len(pairs)


def error_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: predicted and real, cell by cell, and how many predictions were right."""
    head = ("cell", "minutes, before any had run", "as it began", "minutes", "MB, predicted", "MB")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for r in rows:
        memory = "" if r["memory_mb"] is None else f"{r['memory_mb']:.0f}"
        lines.append(
            f"| {r['cell']} | {r['predicted_minutes_before']:.2f} | {r['predicted_minutes']:.2f} | {r['minutes']:.2f} "
            f"| {r['predicted_memory_mb']:.0f} | {memory} |"
        )
    asked = (("time, before any cell had run", "minutes_before"), ("time, as each cell began", "minutes"))
    for name, key in (*asked, ("memory", "memory_mb")):
        right, of = share_within(rows, key)
        lines += ["", f"{name}: {right} of {of} predictions within {MAX_ERROR:.0%}"]
    return "\n".join(lines) + "\n"
