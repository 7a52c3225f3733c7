"""From records to rows: means over seeds, means over scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from splat.bench.cells import PROGRAM, Record
from splat.bench.quantities import QUALITY, quantity
from splat.core.lpips import metric_title

_OF_THE_SCENE = {"ignore-poses", "images", PROGRAM}
"""Overrides that belong to a scene, or to what a method's name says already."""

_STAGES = {"capture": "ingest"}
"""Stages by the names they had when older cells were made -> their names now."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds or scenes, with its sample standard deviation where there are several values."""

    mean: float
    std: float | None
    n: int

    @staticmethod
    def of(values: Sequence[float | int | None]) -> Spread | None:
        known = [float(v) for v in values if v is not None and math.isfinite(v)]
        if not known:
            return None
        return Spread(mean(known), stdev(known) if len(known) > 1 else None, len(known))

    def text(self, digits: int) -> str:
        spread = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True)
class Row:
    """One scene, method and setting, over its seeds."""

    scene: str
    method: str
    setting: str
    """What sets this row's cells apart from others of the table; empty where nothing does."""
    seeds: int
    failed: tuple[str, ...] = ()
    """Messages of the seeds that failed."""
    values: dict[str, Spread] = field(default_factory=dict)
    seconds: dict[str, Spread] = field(default_factory=dict)
    """Per stage, and `total`."""
    registered: tuple[int, int] | None = None
    """The seed with the fewest photos registered."""
    resolution: tuple[int, int] | None = None
    held_out: int | None = None
    """Photos that figures are of."""
    marks: tuple[int, ...] = ()
    """Numbers of footnotes."""
    published: bool = False

    @property
    def train_photos(self) -> int | None:
        """Photos with a pose that are not held out."""
        return None if self.registered is None or self.held_out is None else self.registered[0] - self.held_out

    def plain(self) -> dict[str, Any]:
        def spread(s: Spread) -> dict[str, Any]:
            return {"mean": s.mean, "std": s.std, "n": s.n}

        return {
            "scene": self.scene,
            "method": self.method,
            "setting": self.setting,
            "seeds": self.seeds,
            "failed": list(self.failed),
            **{k: spread(v) for k, v in self.values.items()},
            "seconds": {k: spread(v) for k, v in self.seconds.items()},
            "registered": None if self.registered is None else list(self.registered),
            "resolution": None if self.resolution is None else list(self.resolution),
            **({"published": True} if self.published else {}),
        }


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Group records by scene, method and overrides; seeds of a group become one row."""
    common = _common_overrides(records)
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for r in records:
        own = {k: v for k, v in r.cell.plain()["overrides"].items() if k not in common}
        setting = " ".join(f"{k}={v}" for k, v in own.items() if k not in _OF_THE_SCENE)
        groups.setdefault((r.cell.scene, r.cell.method, setting), []).append(r)
    return [_row(*key, group) for key, group in groups.items()]


def _common_overrides(records: Sequence[Record]) -> set[str]:
    """Names whose value is the same in every record."""
    all_of = [r.cell.plain()["overrides"] for r in records]
    return {k for k in (all_of[0] if all_of else {}) if all(o.get(k) == all_of[0][k] for o in all_of)}


def _row(scene: str, method: str, setting: str, group: Sequence[Record]) -> Row:
    done = [r.metrics for r in group if r.metrics is not None]
    more = dict.fromkeys(name for m in done for name in m.get("figures") or ())
    values: dict[str, Spread | None] = {k: Spread.of([_figure(m, k) for m in done]) for k in (*QUALITY, *more)}
    values["floaters"] = Spread.of([m.get("floaters") for m in done])
    values["num_gaussians"] = Spread.of([m.get("num_gaussians") for m in done])
    values["peak_memory_mb"] = Spread.of([_peak_mb(r, r.metrics) for r in group if r.metrics is not None])
    spent = [{_STAGES.get(k, k): s for k, s in m.get("seconds", {}).items()} for m in done]
    stages = list(dict.fromkeys(k for s in spent for k in s))
    seconds = {k: Spread.of([s.get(k) for s in spent]) for k in stages}
    registered = [tuple(m["registered"]) for m in done if m.get("registered")]
    sizes = [tuple(m["resolution"]) for m in done if m.get("resolution")]
    return Row(
        scene=scene,
        method=method,
        setting=setting,
        seeds=len(group),
        failed=tuple(r.message for r in group if r.failed),
        values={k: v for k, v in values.items() if v is not None},
        seconds={k: v for k, v in seconds.items() if v is not None},
        registered=min(registered) if registered else None,
        resolution=sizes[0] if sizes else None,
        held_out=max((len(m.get("views") or ()) for m in done), default=None),
    )


def _figure(metrics: Mapping[str, Any], name: str) -> Any:
    """A figure of `QUALITY`. What metrics.json has under "lpips" may be of another metric, with a column of its own."""
    if name not in ("lpips", "stlpips"):
        return metrics.get(name, (metrics.get("figures") or {}).get(name))
    own = metric_title(metrics.get("lpips_variant")) == quantity(name).title
    return metrics.get("lpips") if own else None


def _peak_mb(record: Record, metrics: Mapping[str, Any]) -> float | None:
    """Of the process that trained: where another program did, its own."""
    program = metrics.get("program") or {}
    peak: float | None = program.get("peak_memory_mb") or record.peak_memory_mb or metrics.get("peak_memory_mb")
    return peak


def means_of(rows: Sequence[Row], label: str = "") -> list[Row]:
    """Per method and setting, the mean over scenes of the rows' means; a scene that failed is left out and counted.
    `label`: what the scenes are together."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.setting), []).append(row)
    out = []
    for (method, setting), group in groups.items():
        names = dict.fromkeys(k for row in group for k in row.values)
        spreads = {k: [row.values[k].mean for row in group if k in row.values] for k in names}
        stages = dict.fromkeys(k for row in group for k in row.seconds)
        seconds = {k: [row.seconds[k].mean for row in group if k in row.seconds] for k in stages}
        done = sum(bool(row.values) for row in group)
        out.append(
            Row(
                scene=f"{label + ': ' if label else ''}mean of {done}"
                + (f" (of {len(group)})" if done < len(group) else ""),
                method=method,
                setting=setting,
                seeds=max(row.seeds for row in group),
                # A deviation over scenes says nothing about the method, so means carry none.
                values={k: Spread(mean(v), None, len(v)) for k, v in spreads.items()},
                seconds={k: Spread(mean(v), None, len(v)) for k, v in seconds.items()},
            )
        )
    return out


def versions_note(records: Sequence[Record]) -> str:
    """Of finished cells made by different code: how many by which; empty where one code made them all."""
    groups: dict[str, list[Record]] = {}
    for r in records:
        if not r.failed:
            groups.setdefault(r.code or r.commit or f"version {r.version}", []).append(r)
    if len(groups) < 2:
        return ""
    names = {key: _version_name(group) for key, group in groups.items()}
    parts = []
    for key, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        alike = list(names.values()).count(names[key]) > 1
        parts.append(f"{len(group)} of {names[key]}" + (f" (code {key[:6]})" if alike else ""))
    return f"cells of {len(groups)} versions of the code: {', '.join(parts)}"


def _version_name(group: Sequence[Record]) -> str:
    """A commit that has this code, without changes if there is one; else the version of the package."""
    commits = sorted({r.commit for r in group if r.commit}, key=lambda c: c.endswith("-dirty"))
    if not commits:
        return f"version {group[0].version}"
    commit, dash, dirty = commits[0].partition("-")
    return commit[:7] + dash + dirty
