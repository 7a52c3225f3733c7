"""Plots as PNG, drawn with Pillow alone: grouped bars, and points in the plane."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_INK, _GRID, _PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
# Okabe & Ito's colours, told apart by everyone.
PALETTE = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (120, 120, 120))
_OVER = 2
"""Drawn this much larger and averaged down: smooth edges."""


@dataclass(frozen=True)
class Bar:
    value: float
    error: float | None = None
    """Half length of the error bar."""


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high]."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


class _Canvas:
    """An image with a plot area and text that is drawn larger and shrunk at the end."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (width * _OVER, height * _OVER), _PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(size=13 * _OVER)

    def line(
        self, x0: float, y0: float, x1: float, y1: float, colour: tuple[int, int, int], width: float = 1.0
    ) -> None:
        ends = [(x0 * _OVER, y0 * _OVER), (x1 * _OVER, y1 * _OVER)]
        self.draw.line(ends, fill=colour, width=max(1, round(width * _OVER)))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: tuple[int, int, int]) -> None:
        self.draw.rectangle([x0 * _OVER, y0 * _OVER, x1 * _OVER, y1 * _OVER], fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        box = [(x - radius) * _OVER, (y - radius) * _OVER, (x + radius) * _OVER, (y + radius) * _OVER]
        self.draw.ellipse(box, fill=colour)

    def text(self, x: float, y: float, text: str, anchor: str = "lm", colour: tuple[int, int, int] = _INK) -> None:
        self.draw.text((x * _OVER, y * _OVER), text, fill=colour, font=self.font, anchor=anchor)

    def text_width(self, text: str) -> float:
        return self.draw.textlength(text, font=self.font) / _OVER

    def legend(self, x: float, y: float, names: Sequence[str]) -> None:
        for i, name in enumerate(names):
            self.box(x, y - 5, x + 10, y + 5, PALETTE[i % len(PALETTE)])
            self.text(x + 15, y, name)
            x += 32 + self.text_width(name)

    def pixels(self) -> np.ndarray:
        small = self.image.resize((self.width, self.height), Image.Resampling.BOX)
        return np.asarray(small)


def bars(title: str, unit: str, groups: Sequence[str], series: Mapping[str, Sequence[Bar | None]]) -> np.ndarray:
    """Horizontal bars: one group per scene, one bar per method; None leaves the place empty. uint8 [h w 3]."""
    thick, gap = 16.0, 12.0
    group_height = thick * max(1, len(series)) + gap
    top, bottom, right = 64.0, 30.0, 70.0
    canvas = _Canvas(860, round(top + bottom + group_height * max(1, len(groups))))
    left = 20.0 + max([canvas.text_width(g) for g in groups], default=0)
    known = [b for row in series.values() for b in row if b is not None]
    marks = _axis_from(known)
    x = _scale(marks[0], marks[-1], left, canvas.width - right)
    canvas.text(12.0, 18.0, title)
    canvas.legend(12.0, 42.0, list(series))
    for t in marks:
        canvas.line(x(t), top, x(t), canvas.height - bottom, _GRID)
        canvas.text(x(t), canvas.height - bottom + 12, f"{t:g}", "mm")
    canvas.text(canvas.width - 8.0, canvas.height - bottom + 12, unit, "rm")
    for i, group in enumerate(groups):
        y0 = top + i * group_height + gap / 2
        canvas.text(left - 8, y0 + (group_height - gap) / 2, group, "rm")
        for j, row in enumerate(series.values()):
            bar, y = row[i], y0 + j * thick
            if bar is None:
                continue
            canvas.box(left, y + 1, x(bar.value), y + thick - 2, PALETTE[j % len(PALETTE)])
            end = bar.value
            if bar.error is not None:
                mid, end = y + thick / 2, bar.value + bar.error
                canvas.line(x(bar.value - bar.error), mid, x(end), mid, _INK, 1.5)
            canvas.text(x(end) + 5, y + thick / 2, f"{bar.value:.2f}")
    return canvas.pixels()


def scatter(
    title: str, x_title: str, y_title: str, series: Mapping[str, Sequence[tuple[float, float, str]]]
) -> np.ndarray:
    """Points (x, y, label), one colour per series. uint8 [h w 3]."""
    canvas = _Canvas(860, 560)
    left, right, top, bottom = 70.0, 110.0, 84.0, 52.0
    points = [p for row in series.values() for p in row]
    x_marks = ticks(0.0, max((p[0] for p in points), default=1.0))
    y_marks = ticks(min((p[1] for p in points), default=0.0), max((p[1] for p in points), default=1.0))
    x = _scale(x_marks[0], x_marks[-1], left, canvas.width - right)
    y = _scale(y_marks[0], y_marks[-1], canvas.height - bottom, top)
    canvas.text(12.0, 18.0, title)
    canvas.legend(12.0, 42.0, list(series))
    for t in x_marks:
        canvas.line(x(t), top, x(t), canvas.height - bottom, _GRID)
        canvas.text(x(t), canvas.height - bottom + 12, f"{t:g}", "mm")
    for t in y_marks:
        canvas.line(left, y(t), canvas.width - right, y(t), _GRID)
        canvas.text(left - 8, y(t), f"{t:g}", "rm")
    canvas.text((left + canvas.width - right) / 2, canvas.height - 14.0, x_title, "mm")
    canvas.text(left - 8, top - 14, y_title, "lm")
    for j, row in enumerate(series.values()):
        for px, py, label in row:
            canvas.dot(x(px), y(py), 5.0, PALETTE[j % len(PALETTE)])
            canvas.text(x(px) + 9, y(py), label)
    return canvas.pixels()


def curves(title: str, x_title: str, y_title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> np.ndarray:
    """Lines through points (x, y), both positive, on logarithmic axes, each point with its y. uint8 [h w 3]."""
    canvas = _Canvas(860, 560)
    left, right, top, bottom = 70.0, 60.0, 84.0, 52.0
    points = [p for row in series.values() for p in row] or [(1.0, 1.0)]
    x_marks, y_marks = (_decades([p[i] for p in points]) for i in (0, 1))
    x_line = _scale(math.log10(x_marks[0]), math.log10(x_marks[-1]), left, canvas.width - right)
    y_line = _scale(math.log10(y_marks[0]), math.log10(y_marks[-1]), canvas.height - bottom, top)
    canvas.text(12.0, 18.0, title)
    canvas.legend(12.0, 42.0, list(series))
    for t in x_marks:
        at = x_line(math.log10(t))
        canvas.line(at, top, at, canvas.height - bottom, _GRID)
        canvas.text(at, canvas.height - bottom + 12, _short(t), "mm")
    for t in y_marks:
        at = y_line(math.log10(t))
        canvas.line(left, at, canvas.width - right, at, _GRID)
        canvas.text(left - 8, at, _short(t), "rm")
    canvas.text((left + canvas.width - right) / 2, canvas.height - 14.0, x_title, "mm")
    canvas.text(left - 8, top - 14, y_title, "lm")
    for j, row in enumerate(series.values()):
        colour = PALETTE[j % len(PALETTE)]
        at = [(x_line(math.log10(px)), y_line(math.log10(py))) for px, py in sorted(row)]
        for (x0, y0), (x1, y1) in itertools.pairwise(at):
            canvas.line(x0, y0, x1, y1, colour, 2.0)
        for (px, py), (_, value) in zip(at, sorted(row)):
            canvas.dot(px, py, 4.0, colour)
            canvas.text(px, py - 12, f"{value:.3g}", "mm")
    return canvas.pixels()


def _decades(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten, just enough to cover the values; never fewer than two."""
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    marks = [f * 10.0**e for e in powers for f in (1, 2, 5)]
    first = max(i for i, m in enumerate(marks) if m <= low * (1 + 1e-9))
    last = min(i for i, m in enumerate(marks) if m >= high * (1 - 1e-9))
    return marks[first : max(last, first + 1) + 1]


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _axis_from(known: Sequence[Bar]) -> list[float]:
    """Bars of decibels need not start at zero, but must not exaggerate: from half of the smallest value."""
    low = min((b.value - (b.error or 0) for b in known), default=0.0)
    high = max((b.value + (b.error or 0) for b in known), default=1.0)
    return ticks(min(0.0, low) if low <= 0 else low / 2, high)


def _scale(low: float, high: float, start: float, end: float):  # -> Callable[[float], float]
    return lambda value: start + (value - low) / (high - low) * (end - start)
