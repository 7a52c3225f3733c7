"""Charts of the report as inline SVG: no script, no font, no request; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import torch
from jaxtyping import Float
from torch import Tensor

from splat.export.report_data import Curve, Number, ReportData
from splat.geometry.layout import horizon, layout_of

_W, _H = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 26


def curve_chart(title: str, series: Mapping[str, Curve], unit: str = "", log: bool = False) -> str:
    """Lines over steps. Empty when no series has two finite points. `log`: logarithmic values (all positive)."""
    clean = {k: [(s, v) for s, v in c if math.isfinite(v) and (v > 0 or not log)] for k, c in series.items()}
    clean = {k: _thinned(c) for k, c in clean.items() if len(c) >= 2}
    if not clean:
        return ""
    f = math.log10 if log else float
    values = [f(v) for c in clean.values() for _, v in c]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.5
    low, high = low - pad, high + pad
    if not log and min(values) >= 0:
        low = max(low, 0.0)
    first, last = min(c[0][0] for c in clean.values()), max(c[-1][0] for c in clean.values())

    def x(step: Number) -> float:
        return _LEFT + (step - first) / max(last - first, 1) * (_W - _LEFT - _RIGHT)

    def y(value: Number) -> float:
        return _H - _BOTTOM - (f(value) - low) / (high - low) * (_H - _TOP - _BOTTOM)

    parts = []
    ticks = _log_ticks(low, high) if log else _ticks(low, high, 4)
    for t in ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{short(t)}</text>')
    for t in _ticks(first, last, 4):
        parts.append(f'<text class="tick" x="{x(t):.1f}" y="{_H - 8}" text-anchor="middle">{short(t)}</text>')
    for i, (name, c) in enumerate(clean.items()):
        points = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in c)
        end = c[-1]
        label = f"{name}: {short(end[1])}{unit} at step {end[0]:,}"
        parts.append(f'<polyline class="line s{i}" points="{points}"><title>{escape(label)}</title></polyline>')
        parts.append(f'<circle class="dot s{i}" cx="{x(end[0]):.1f}" cy="{y(end[1]):.1f}" r="3.5"/>')
    legend = "".join(
        f'<span class="key"><i class="s{i}"></i>{escape(name)} <b>{short(c[-1][1])}{escape(unit)}</b></span>'
        for i, (name, c) in enumerate(clean.items())
    )
    svg = f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<figure class="chart"><figcaption>{escape(title)} {legend}</figcaption>{svg}</figure>'


def stage_bars(seconds: Mapping[str, Number]) -> str:
    """Horizontal bars, one per stage, as a table that reads well without its style."""
    stages = {k: v for k, v in seconds.items() if k != "total"}
    if not stages:
        return ""
    longest = max(stages.values()) or 1.0
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td class=bar><i style='width:{100 * s / longest:.1f}%'></i></td>"
        f"<td class=num>{duration(s)}</td></tr>"
        for name, s in stages.items()
    )
    total = seconds.get("total", sum(stages.values()))
    rows += f"<tr class=sum><th>total</th><td></td><td class=num>{duration(total)}</td></tr>"
    return f"<table class=bars>{rows}</table>"


def camera_map(data: ReportData) -> str:
    """The capture seen from above: cameras with their viewing directions, shaded by PSNR where it was measured."""
    capture = data.capture
    if capture is None or not any(v.world_from_cam is not None for v in capture.views):
        return ""
    layout = layout_of(capture)
    east, north = horizon(layout.up)
    posed = [(v, v.world_from_cam) for v in capture.views if v.world_from_cam is not None]
    centres = torch.stack([pose.translation for _, pose in posed]).double()
    flat = torch.stack([centres @ east, -(centres @ north)], 1)
    corner, scale, width, height = _frame(flat, torch.stack([layout.focus @ east, -(layout.focus @ north)]))

    def at(p: torch.Tensor) -> tuple[float, float]:
        return scale * (float(p @ east) - corner[0]), scale * (-float(p @ north) - corner[1])

    parts = []
    if capture.points is not None:
        positions = capture.points.positions.double()
        for p in positions[:: max(1, len(positions) // 700)]:
            px, py = at(p)
            if 0 < px < width and 0 < py < height:
                parts.append(f'<circle class="speck" cx="{px:.0f}" cy="{py:.0f}" r="1"/>')
    psnr = {v.name: v.psnr for v in data.views if math.isfinite(v.psnr)}
    low, high = (min(psnr.values()), max(psnr.values())) if psnr else (0.0, 1.0)
    for view, pose in posed:
        px, py = at(pose.translation)
        look = torch.stack([pose.rotation[:, 2].double() @ east, -(pose.rotation[:, 2].double() @ north)])
        along = torch.nn.functional.normalize(look, dim=0) if float(look.norm()) > 0.05 else look
        dx, dy = 11 * float(along[0]), 11 * float(along[1])
        corners = ((px, py), (px + dx - dy / 2, py + dy + dx / 2), (px + dx + dy / 2, py + dy - dx / 2))
        wing = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        known = psnr.get(view.name)
        shade = "" if known is None else f' style="--q:{100 * (min(known, high) - low) / max(high - low, 1e-6):.0f}%"'
        what = f"{view.name} ({view.role})" + (f", {known:.1f} dB" if known is not None else "")
        css = f"cam {view.role}" + (" measured" if known is not None else "")
        parts.append(f'<polygon class="{css}"{shade} points="{wing}"><title>{escape(what)}</title></polygon>')
    caption = "Cameras from above"
    if psnr:
        ends = f"{low:.1f} dB<span class=ramp></span>{high:.1f} dB"
        caption += f' <span class="key">{ends}</span><span class="key">outlined: held out</span>'
    svg = (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="Cameras from above">{"".join(parts)}</svg>'
    )
    return f'<figure class="chart map"><figcaption>{caption}</figcaption>{svg}</figure>'


def _frame(cameras: Float[Tensor, "n 2"], focus: Float[Tensor, "2"]) -> tuple[tuple[float, float], float, float, float]:
    """Left top corner, px per unit, width and height in px of a map of all cameras, and of the focus if it is near."""
    reach = float((cameras - cameras.mean(0)).norm(dim=1).max()) or 1.0
    near = float((focus - cameras.mean(0)).norm()) < 4 * reach
    shown = torch.cat([cameras, focus[None]]) if near else cameras
    low, high = shown.amin(0), shown.amax(0)
    span = max(float((high - low).max()), 1e-9)
    low, high = low - 0.12 * span, high + 0.12 * span
    across, down = (float(v) for v in high - low)
    scale = min(360 / across, 320 / down)
    return (float(low[0]), float(low[1])), scale, scale * across, scale * down


def _thinned(curve: Sequence[tuple[int, Number]], most: int = 240) -> list[tuple[int, Number]]:
    """At most `most` points: means of equal stretches, the last point as it is."""
    if len(curve) <= most:
        return list(curve)
    size = len(curve) / most
    parts = [curve[int(i * size) : int((i + 1) * size)] for i in range(most - 1)]
    means = [(round(sum(s for s, _ in p) / len(p)), sum(v for _, v in p) / len(p)) for p in parts]
    return [*means, curve[-1]]


def _ticks(low: Number, high: Number, about: int) -> list[Number]:
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= about)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [t for t in decades if low <= math.log10(t) <= high]
    return inside if len(inside) <= 5 else [t for t in inside if f"{t:e}".startswith("1.0")] or inside[::2]


def short(value: Number) -> str:
    """1234567 -> 1.23M, 0.0312 -> 0.031."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2g}"


def duration(seconds: Number) -> str:
    """75 -> 1 min 15 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
