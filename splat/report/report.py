"""`report.html`: one file that shows what came out, what went wrong and what to photograph again.

Everything is inside the file (style, pictures, charts), so that it can be sent by mail and opened on a phone. Here its
contents are put together; `templates/report.html` is the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splat.core.files import write_atomic
from splat.report.advice import advice
from splat.report.camera_map import camera_map
from splat.report.charts import curve_chart, stage_bars
from splat.report.data import Floaters, ReportData, ViewScore
from splat.report.pictures import Figure, comparison, figure
from splat.report.templating import decibels, duration, render

_STILL_SIDE = 720
"""Long side of the pictures at the top, px."""
_MAX_HELDOUT, _MAX_TRAINING = 48, 12
"""Photos that are shown beside their renders; the others are listed."""


@dataclass(frozen=True)
class Tile:
    """One figure of the run, printed large."""

    value: str
    label: str


@dataclass(frozen=True)
class Card:
    """One view: its figures and, where they are known, photo, render and difference."""

    score: ViewScore
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class ViewList:
    """Views of one role, worst first."""

    cards: tuple[Card, ...]
    rest: tuple[ViewScore, ...]
    """Those that are listed without pictures."""

    @property
    def count(self) -> int:
        return len(self.cards) + len(self.rest)


def write_report(path: Path, data: ReportData) -> None:
    """Write the page; whole or not at all."""
    # A file name that is not valid UTF-8 costs one character of the page, not the page.
    write_atomic(path, report_html(data).encode("utf-8", "replace"))


def report_html(data: ReportData) -> str:
    """The page. Every value is escaped; pictures that cannot be read are left out."""
    charts = (
        curve_chart("Loss", {"training": data.loss}, log=True),
        curve_chart("PSNR", {"training": data.train_psnr, "held out": data.heldout_psnr}, " dB"),
        curve_chart("Gaussians", {"count": data.gaussian_counts}),
    )
    return render(
        "report.html",
        data=data,
        subtitle=_subtitle(data),
        tiles=_tiles(data),
        stills=[f for f in (figure(p, caption, _STILL_SIDE) for caption, p in data.stills) if f is not None],
        advice=advice(data),
        heldout=_view_list(data.scores("test"), _MAX_HELDOUT),
        training=_view_list(data.scores("train"), _MAX_TRAINING),
        floaters=_floaters(data.floaters),
        camera_map=camera_map(data),
        charts=[c for c in charts if c is not None],
        stage_bars=stage_bars(data.seconds),
    )


def _floaters(found: Floaters | None) -> tuple[Figure, ...]:
    """Pictures of the worst place."""
    if found is None:
        return ()
    shown = ((found.render, "render"), (found.marked, "floaters red"))
    made = [figure(p, caption) for p, caption in shown if p is not None]
    return tuple(f for f in made if f is not None)


def _tiles(data: ReportData) -> list[Tile]:
    used, offered = data.registered
    tiles: list[Tile] = []
    if data.psnr is not None:
        tiles.append(Tile(decibels(data.psnr), "PSNR, held-out photos"))
    if data.ssim is not None:
        tiles.append(Tile(f"{data.ssim:.3f}", "SSIM, held-out photos"))
    if data.lpips is not None:
        tiles.append(Tile(f"{data.lpips:.3f}", f"{data.lpips_title}, held-out photos"))
    tiles.append(Tile(f"{used} of {offered}", "photos registered"))
    if data.num_gaussians:
        tiles.append(Tile(f"{data.num_gaussians:,}", "Gaussians"))
    if data.resolution is not None:
        of = f" (photos: {data.photo_size[0]} x {data.photo_size[1]})" if data.photo_size else ""
        tiles.append(Tile(f"{data.resolution[0]} x {data.resolution[1]}", f"px trained on{of}"))
    if data.seconds:
        total = data.seconds.get("total", sum(data.seconds.values()))
        tiles.append(Tile(duration(total), "from photos to splat"))
    if data.peak_memory_mb is not None:
        tiles.append(Tile(f"{data.peak_memory_mb / 1024:.1f} GB", "memory at most"))
    return tiles


def _subtitle(data: ReportData) -> str:
    parts = [data.method and f"method {data.method}"]
    if data.scores("test"):
        took_part = data.heldout == "posed"
        parts.append("held-out photos took part in finding poses" if took_part else "held-out photos unseen")
        if data.cc_psnr is not None:
            parts.append(f"{data.cc_psnr:.2f} dB after colour correction")
    return " · ".join(p for p in parts if p)


def _view_list(scores: Sequence[ViewScore], max_cards: int) -> ViewList:
    cards = tuple(Card(v, comparison(v)) for v in scores[:max_cards])
    return ViewList(cards, tuple(scores[max_cards:]))
