"""`report.html`: one file that tells what came out, what went wrong and what to shoot again.

Everything is inside the file (style, pictures, charts), so that it can be sent by mail and opened on a phone.
"""

from __future__ import annotations

import base64
import math
from html import escape
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.export.advice import advice, thumbnail
from splat.export.report_charts import camera_map, curve_chart, duration, stage_bars
from splat.export.report_data import Picture, ReportData, ViewScore
from splat.export.report_style import CSS

_SIDE = 440
"""Long side of the thumbnails in px: three of them make about 60 kB."""
_MOST_HELDOUT, _MOST_TRAINING = 48, 12
_FULL_DIFFERENCE = 0.25
"""Absolute difference (of 1) that is drawn in the brightest colour."""


def write_report(path: Path, data: ReportData) -> None:
    """Write the page; whole or not at all."""
    write_atomic(path, report_html(data))


def report_html(data: ReportData) -> str:
    """The page. Text of the run is escaped; pictures that cannot be read are left out."""
    sections = [
        _head(data),
        _stills(data),
        _advice(data),
        _warnings(data),
        _views(data),
        _photos(data),
        _training(data),
        _files(data),
        _settings(data),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(data.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(s for s in sections if s)
        + "\n</body>\n</html>\n"
    )


def _head(data: ReportData) -> str:
    used, offered = data.registered
    tiles: list[tuple[str, str]] = []
    if data.psnr is not None:
        tiles.append((f"{data.psnr:.2f} dB", "PSNR, held-out photos"))
    if data.ssim is not None:
        tiles.append((f"{data.ssim:.3f}", "SSIM, held-out photos"))
    if data.lpips is not None:
        tiles.append((f"{data.lpips:.3f}", "LPIPS, held-out photos"))
    tiles.append((f"{used} of {offered}", "photos registered"))
    if data.num_gaussians:
        tiles.append((f"{data.num_gaussians:,}", "Gaussians"))
    if data.resolution is not None:
        of = f" (photos: {data.photo_size[0]} x {data.photo_size[1]})" if data.photo_size else ""
        tiles.append((f"{data.resolution[0]} x {data.resolution[1]}", f"px trained on{of}"))
    if data.seconds:
        total = data.seconds.get("total", sum(data.seconds.values()))
        tiles.append((duration(total), "from photos to splat"))
    if data.peak_memory_mb is not None:
        tiles.append((f"{data.peak_memory_mb / 1024:.1f} GB", "memory at most"))
    shown = "".join(f'<div class="tile"><b>{escape(v)}</b><span>{escape(label)}</span></div>' for v, label in tiles)
    sub = [data.method and f"method {data.method}"]
    if data.scores("test"):
        sub.append(
            "held-out photos took part in finding poses" if data.heldout == "posed" else "held-out photos unseen"
        )
        if data.cc_psnr is not None:
            sub.append(f"{data.cc_psnr:.2f} dB after colour correction")
    line = " · ".join(escape(s) for s in sub if s)
    return f'<h1>{escape(data.title)}</h1>\n<p class="soft">{line}</p>\n<div class="tiles">{shown}</div>'


def _stills(data: ReportData) -> str:
    figures = "".join(_figure(picture, caption, 720) for caption, picture in data.stills)
    return f'<div class="stills">{figures}</div>' if figures else ""


def _advice(data: ReportData) -> str:
    lines = advice(data)
    if not lines:
        nothing = "Nothing stands out: no photo and no direction is missing."
        return f'<h2>What to shoot again</h2>\n<p class="good">{nothing}</p>'
    items = "".join(f"<li><b>{escape(a.todo)}</b><br><small>{escape(a.because)}</small></li>" for a in lines)
    return f'<h2>What to shoot again</h2>\n<div class="card"><ul class="plain">{items}</ul></div>'


def _warnings(data: ReportData) -> str:
    if not data.warnings:
        return ""
    return "<h2>Warnings</h2>\n" + "".join(f'<p class="warn">{escape(w)}</p>' for w in data.warnings)


def _views(data: ReportData) -> str:
    tests, trains = data.scores("test"), data.scores("train")
    parts = []
    if tests:
        parts.append("<h2>Held-out photos, worst first</h2>")
        parts += [_card(v) for v in tests[:_MOST_HELDOUT]]
        parts.append(_rest(tests[_MOST_HELDOUT:]))
    if trains:
        cards = "".join(_card(v) for v in trains[:_MOST_TRAINING]) + _rest(trains[_MOST_TRAINING:])
        if tests:
            parts.append(
                f"<details><summary>Training photos, worst first ({len(trains)} measured)</summary>{cards}</details>"
            )
        else:
            parts.append(f"<h2>Training photos, worst first</h2>{cards}")
    return "\n".join(p for p in parts if p)


def _card(v: ViewScore) -> str:
    figures = [f"<b>{_db(v.psnr)}</b>"]
    if v.ssim is not None:
        figures.append(f"SSIM <b>{v.ssim:.3f}</b>")
    if v.lpips is not None:
        figures.append(f"LPIPS <b>{v.lpips:.3f}</b>")
    if v.cc_psnr is not None:
        figures.append(f"{_db(v.cc_psnr)} colour-corrected")
    head = f"<h3>{escape(v.name)}{''.join(f'<span>{f}</span>' for f in figures)}</h3>"
    pictures = _trio(v)
    return f'<div class="card">{head}{pictures}</div>'


def _trio(v: ViewScore) -> str:
    if v.photo is None or v.render is None:
        return ""
    try:
        photo, render = thumbnail(v.photo, _SIDE), thumbnail(v.render, _SIDE)
    except SplatError:
        return ""
    if photo.shape != render.shape:
        render = cv2.resize(render, (photo.shape[1], photo.shape[0]), interpolation=cv2.INTER_AREA)
    trio = ((photo, "photo"), (render, "render"), (difference(photo, render), "difference"))
    return f'<div class="trio">{"".join(_figure(p, c, _SIDE) for p, c in trio)}</div>'


def difference(photo: np.ndarray, render: np.ndarray) -> np.ndarray:
    """uint8 RGB: the mean absolute difference of the channels, black (none) to yellow (a quarter of full scale)."""
    error = np.abs(photo.astype(np.float32) - render.astype(np.float32)).mean(2) / 255
    level = (np.clip(error / _FULL_DIFFERENCE, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _rest(scores: list[ViewScore]) -> str:
    if not scores:
        return ""
    rows = "".join(
        f"<tr><th>{escape(v.name)}</th><td class=num>{_db(v.psnr)}</td>"
        f"<td class=num>{'' if v.ssim is None else f'{v.ssim:.3f}'}</td></tr>"
        for v in scores
    )
    return f"<details><summary>{len(scores)} more</summary><table>{rows}</table></details>"


def _photos(data: ReportData) -> str:
    used, offered = data.registered
    parts = [f"<h2>Photos</h2>\n<p>{used} of {offered} registered.</p>"]
    if data.dropped:
        rows = "".join(
            f"<tr><th>{escape(n)}</th><td>{escape(why)}</td></tr>" for n, why in sorted(data.dropped.items())
        )
        parts.append(f'<div class="card"><h3>Not used</h3><table class="dropped">{rows}</table></div>')
    parts.append(camera_map(data))
    return "\n".join(p for p in parts if p)


def _training(data: ReportData) -> str:
    charts = [
        curve_chart("Loss", {"training": data.loss}, log=True),
        curve_chart("PSNR", {"training": data.train_psnr, "held out": data.heldout_psnr}, " dB"),
        curve_chart("Gaussians", {"count": data.gaussian_counts}),
    ]
    bars = stage_bars(data.seconds)
    shown = "".join(c for c in charts if c)
    if bars:
        shown += f'<figure class="chart"><figcaption>Time per stage</figcaption>{bars}</figure>'
    return f'<h2>Training</h2>\n<div class="charts">{shown}</div>' if shown else ""


def _files(data: ReportData) -> str:
    if not data.files:
        return ""
    items = "".join(
        f'<li><a href="{escape(quote(path))}">{escape(path)}</a> <small>{escape(what)}</small></li>'
        for what, path in data.files
    )
    return f'<h2>Files</h2>\n<div class="card"><ul class="plain">{items}</ul></div>'


def _settings(data: ReportData) -> str:
    if not data.settings:
        return ""
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in data.settings.items())
    return f"<h2>How it was made</h2>\n<details><summary>Settings</summary><table>{rows}</table></details>"


def _figure(picture: Picture, caption: str, side: int) -> str:
    try:
        pixels = thumbnail(picture, side)
    except SplatError:  # a picture that is gone: the figures still tell
        return ""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    ok, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not ok:
        return ""
    data = base64.b64encode(encoded.tobytes()).decode()
    size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
    image = f'<img alt="{escape(caption)}" {size} src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _db(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else "exact"
