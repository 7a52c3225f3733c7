"""Plots of a table, as PNG and SVG: bars, points in the plane, and curves. The one door to matplotlib.

Figures are made and drawn without pyplot: there is no window, no state that plots share, and nothing to close.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from splat.core.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#787878")
"""Okabe and Ito, "Color Universal Design" (2008): told apart also by readers who confuse red and green."""
_MARKERS, _HATCHES = "osD^vX", ("", "///", "...", "xxx")
"""A second cue beside the colour: 6 markers and 7 colours repeat together after 42 series; hatches when colours do."""
_INK, _GRID = "#282828", "#e1e1e1"
_WIDTH = 8.6
"""Inches; at `_DPI` 1,290 px."""
_DPI = 150
_STYLE: Any = {
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#a0a0a0",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "grid.color": _GRID,
    "text.parse_math": False,  # a scene's name may hold a dollar
    "svg.hashsalt": "splat",  # the same numbers give the same file
}


@dataclass(frozen=True)
class Bar:
    value: float
    error: float | None = None
    """Half length of the error bar."""


def unavailable() -> str | None:
    """Why nothing can be drawn here, with the fix; None where it can."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as e:
        return f'No plots, for they need matplotlib ({e}): `pip install "splat3d[bench]"`.'
    return None


def bars(title: str, axis: str, groups: Sequence[str], series: Mapping[str, Sequence[Bar | None]]) -> Figure:
    """Horizontal bars: one group per scene, one bar per method, the value at its end; None leaves the place empty.
    `axis` names the quantity and its unit."""
    rows = len(groups) * max(1, len(series))
    with _axes(title, axis, "", height=1.7 + 0.24 * rows + 0.12 * len(groups)) as axes:
        axes.grid(axis="x")
        thick = 0.82 / max(1, len(series))
        for j, (name, row) in enumerate(series.items()):
            hatch = _HATCHES[j // len(PALETTE) % len(_HATCHES)]
            style: Any = {"color": PALETTE[j % len(PALETTE)], "hatch": hatch, "edgecolor": "white"}
            known = [(i + (j + 0.5) * thick - 0.41, bar) for i, bar in enumerate(row) if bar is not None]
            axes.barh([y for y, _ in known], [b.value for _, b in known], thick * 0.9, label=name, **style)
            for y, bar in known:
                if bar.error is not None:
                    axes.errorbar(bar.value, y, xerr=bar.error, ecolor=_INK, elinewidth=1.2, capsize=2.5, fmt="none")
                end = (bar.value + (bar.error or 0), y)
                axes.annotate(f"{bar.value:.2f}", end, (4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(groups)), groups)
        axes.set_ylim(max(1, len(groups)) - 0.5, -0.5)  # the first scene on top
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(*_bar_limits([b for row in series.values() for b in row if b is not None]))
        return _with_legend(axes)


def scatter(title: str, x_axis: str, y_axis: str, series: Mapping[str, Sequence[tuple[float, float, str]]]) -> Figure:
    """Points (x, y, label), one colour and marker per series; x from zero, y over one unit at least. Points of the same
    label are joined, and it stands once, at the rightmost."""
    with _axes(title, x_axis, y_axis) as axes:
        axes.grid()
        for j, (name, row) in enumerate(series.items()):
            style: Any = {"color": PALETTE[j % len(PALETTE)], "marker": _MARKERS[j % len(_MARKERS)]}
            axes.scatter([p[0] for p in row], [p[1] for p in row], 36, label=name, **style)
        points = sorted(p for row in series.values() for p in row)
        rightmost = {label: i for i, (_, _, label) in enumerate(points)}
        lines = [[p[:2] for p in points if p[2] == label] for label in rightmost if label]
        for line in lines:
            axes.plot([x for x, _ in line], [y for _, y in line], color="#b4b4b4", linewidth=1, zorder=1)
        axes.margins(0.08)
        axes.set_xlim(0.0, 1.12 * max((p[0] for p in points), default=1.0) or 1.0)
        low, high = axes.get_ylim()
        spare = max(0.0, 1 - (high - low)) / 2
        axes.set_ylim(low - spare, high + spare)
        figure = _with_legend(axes)
        _label_points(axes, [(x, y, t if rightmost[t] == i else "") for i, (x, y, t) in enumerate(points)], lines)
        return figure


def curves(
    title: str, x_axis: str, y_axis: str, series: Mapping[str, Sequence[tuple[float, float]]], log: bool = True
) -> Figure:
    """Lines through points (x, y), each point with its y; logarithmic axes (both positive), or linear ones."""
    with _axes(title, x_axis, y_axis) as axes:
        axes.grid()
        _tick_marks(axes, log)
        for j, (name, row) in enumerate(series.items()):
            x, y = [p[0] for p in sorted(row)], [p[1] for p in sorted(row)]
            style: Any = {"color": PALETTE[j % len(PALETTE)], "marker": _MARKERS[j % len(_MARKERS)]}
            axes.plot(x, y, linewidth=1.8, markersize=5, label=name, **style)
        axes.margins(0.08)
        figure = _with_legend(axes)
        lines = [sorted(row) for row in series.values()]
        _label_points(axes, [(x, y, f"{y:.3g}") for row in lines for x, y in row], lines)
        return figure


def write(figure: Figure, path: Path) -> None:
    """`path` with .png and with .svg in place of its suffix; each appears whole or not at all."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        for kind, options in (("png", {"dpi": _DPI}), ("svg", {"metadata": {"Date": None}})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, **options)
            write_atomic(path.with_suffix(f".{kind}"), buffer.getvalue())


@contextmanager
def _axes(title: str, x_axis: str, y_axis: str, height: float = 5.4) -> Iterator[Axes]:
    """Axes of a new figure in this file's style; `height` in inches."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, pad=12)
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        yield axes


def _with_legend(axes: Axes) -> Figure:
    """The figure, laid out, with a legend below the axes, where it covers no data."""
    figure: Any = axes.figure
    handles, names = axes.get_legend_handles_labels()
    if handles:
        columns = min(len(names), max(1, 84 // (6 + max(map(len, names)))))
        figure.legend(handles, names, loc="outside lower left", ncols=columns, frameon=False)
    figure.draw_without_rendering()
    return figure


def _bar_limits(known: Sequence[Bar]) -> tuple[float, float]:
    """Decibels have no zero that matters, but bars must not exaggerate: from half of the smallest value."""
    low = min((b.value - (b.error or 0) for b in known), default=0.0)
    high = max((b.value + (b.error or 0) for b in known), default=1.0)
    start = min(0.0, low) if low <= 0 else low / 2
    return start, high + 0.12 * ((high - start) or 1.0)  # room for the figure at the bar's end


def _tick_marks(axes: Axes, log: bool) -> None:
    """Short numbers on both axes; logarithmic ones have them at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if log:
        axes.set_xscale("log")
        axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        if log:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


_Place = tuple[int, int, str, str]
_PLACES: tuple[_Place, ...] = (
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (6, 6, "left", "bottom"),
    (6, -6, "left", "top"),
    (-6, 6, "right", "bottom"),
    (-6, -6, "right", "top"),
)
"""Where a label may stand beside its point, best first: offset in points of type, and its alignment there."""


def _label_points(
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
) -> None:
    """Each label at the place beside its point where it covers least of other points, of lines, and of labels that
    were put down before it."""
    figure: Any = axes.figure
    renderer = figure.canvas.get_renderer()
    at = [axes.transData.transform(p[:2]) for p in points]
    taken = [(x - 10, y - 10, x + 10, y + 10) for x, y in at]
    for start, end in (pair for line in lines for pair in itertools.pairwise(axes.transData.transform(line))):
        count = max(2, round(float(np.hypot(*(end - start))) / 6))
        taken += [(x - 3, y - 3, x + 3, y + 3) for x, y in np.linspace(start, end, count)]
    for i, (x, y, text) in enumerate(points):
        if not text:
            continue
        others = np.array([box for k, box in enumerate(taken) if k != i]).reshape(-1, 4)
        label = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=8.5, annotation_clip=False)

        def moved(place: _Place, label: Any = label) -> Bbox:
            label.set_position(place[:2])
            label.set(ha=place[2], va=place[3])
            return label.get_window_extent(renderer)

        inside = axes.get_window_extent(renderer)
        moved(min(_PLACES, key=_cost(moved, others, inside)))
        taken.append(label.get_window_extent(renderer).extents)


def _cost(moved: Callable[[_Place], Bbox], others: np.ndarray, inside: Bbox) -> Callable[[_Place], float]:
    """Area in px² of the label that is covered by `others` [n, 4] (left, bottom, right, top) or outside of the axes."""

    def covered(box: np.ndarray, by: np.ndarray) -> float:
        sides = np.minimum(box[2:], by[:, 2:]) - np.maximum(box[:2], by[:, :2])
        return float(sides.clip(0).prod(1).sum())

    def cost(place: _Place) -> float:
        box, frame = np.array(moved(place).extents), np.array(inside.extents)
        outside = float((box[2:] - box[:2]).prod()) - covered(box, frame[None])
        return outside + covered(box, others)

    return cost
