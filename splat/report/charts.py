"""The geometry of the report's charts: numbers and labels that `templates/charts.html` draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splat.report.data import Curve, Number
from splat.report.templating import short

_WIDTH, _HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 26
"""Margins of the plotted area, px of the view box."""


@dataclass(frozen=True)
class Tick:
    at: float
    """px of the view box, along its axis."""
    label: str


@dataclass(frozen=True)
class Line:
    """One curve, in px of the view box."""

    name: str
    points: tuple[tuple[float, float], ...]
    end: str
    """The last value, with its unit."""
    title: str
    """What a reader sees who points at the line."""


@dataclass(frozen=True)
class CurveChart:
    """Curves over training steps."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    """x of the left end of the grid."""
    right: int = _WIDTH - _RIGHT
    """x of the right end of the grid."""


def curve_chart(title: str, series: Mapping[str, Curve], unit: str = "", log: bool = False) -> CurveChart | None:
    """Curves over steps; None when no series has two finite points. `log`: the axis of values is logarithmic, and
    values that are not positive are left out."""
    finite = {k: [(s, v) for s, v in c if math.isfinite(v) and (v > 0 or not log)] for k, c in series.items()}
    curves = {k: _thinned(c) for k, c in finite.items() if len(c) >= 2}
    if not curves:
        return None
    f = math.log10 if log else float
    values = [f(v) for c in curves.values() for _, v in c]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.5
    low, high = low - pad, high + pad
    if not log and min(values) >= 0:
        low = max(low, 0.0)
    first, last = min(c[0][0] for c in curves.values()), max(c[-1][0] for c in curves.values())

    def x(step: Number) -> float:
        return _LEFT + (step - first) / max(last - first, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: Number) -> float:
        return _HEIGHT - _BOTTOM - (f(value) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    lines = []
    for name, c in curves.items():
        step, value = c[-1]
        end = f"{short(value)}{unit}"
        points = tuple((x(s), y(v)) for s, v in c)
        lines.append(Line(name, points, end, f"{name}: {end} at step {step:,}"))
    x_ticks = tuple(Tick(x(t), short(t)) for t in _ticks(first, last, 4))
    y_ticks = tuple(Tick(y(t), short(t)) for t in (_log_ticks(low, high) if log else _ticks(low, high, 4)))
    return CurveChart(title, tuple(lines), x_ticks, y_ticks)


@dataclass(frozen=True)
class StageBar:
    """One stage of the run."""

    name: str
    seconds: Number
    percent: float
    """Length of the bar, of the longest one's."""


@dataclass(frozen=True)
class StageBars:
    """Time per stage."""

    bars: tuple[StageBar, ...]
    total: Number
    """Seconds."""


def stage_bars(seconds: Mapping[str, Number]) -> StageBars | None:
    """An entry "total" is the sum that is shown; None when there is no stage."""
    stages = {k: v for k, v in seconds.items() if k != "total"}
    if not stages:
        return None
    longest = max(stages.values()) or 1.0
    bars = tuple(StageBar(name, s, 100 * s / longest) for name, s in stages.items())
    return StageBars(bars, seconds.get("total", sum(stages.values())))


def _thinned(curve: Sequence[tuple[int, Number]], max_points: int = 240) -> list[tuple[int, Number]]:
    """At most `max_points` points: means of equal stretches, the last point as it is."""
    if len(curve) <= max_points:
        return list(curve)
    size = len(curve) / max_points
    parts = [curve[int(i * size) : int((i + 1) * size)] for i in range(max_points - 1)]
    means = [(round(sum(s for s, _ in p) / len(p)), sum(v for _, v in p) / len(p)) for p in parts]
    return [*means, curve[-1]]


def _ticks(low: Number, high: Number, about: int) -> list[Number]:
    """Round numbers inside [low, high], about so many."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= about)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the logarithms `low` and `high`; powers alone where that is too many."""
    decades = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [t for t in decades if low <= math.log10(t) <= high]
    return inside if len(inside) <= 5 else [t for t in inside if f"{t:e}".startswith("1.0")] or inside[::2]
