"""A page of pictures: held-out photos beside the renders of every method, with links into the table's folder."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from splat.bench.cells import Record
from splat.bench.sheets import Sheet
from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.foreign import path_inside, read_json

MAX_PHOTOS = 6
"""Of a scene, evenly spread."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 24px; color: #222; background: #fff }
h2 { margin: 40px 0 8px } .row { display: flex; gap: 8px; overflow-x: auto; margin-bottom: 16px }
figure { margin: 0; flex: 1 0 220px; max-width: 380px } img { display: block; width: 100% }
figcaption, .note { font-size: 13px; color: #555; margin: 0 } table { border-collapse: collapse; white-space: nowrap }
td, th { padding: 2px 10px; text-align: right; border-bottom: 1px solid #ddd }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left }
"""


@dataclass(frozen=True)
class Picture:
    caption: str
    path: Path
    """Relative to the page."""


def write_page(
    out: Path, title: str, note: str, sheet: Sheet, footnotes: Sequence[str], records: Sequence[Record]
) -> Path | None:
    """`out/index.html`: the table, then the pictures; None where no run folder below `out` has any."""
    rows = [(scene, name, row) for scene, by_photo in _by_scene(out, records).items() for name, row in by_photo.items()]
    if not rows:
        return None
    parts = [f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"]
    parts += [f"<h1>{html.escape(title)}</h1><p>{_code(note)}</p>", _table(sheet)]
    parts += [f"<p class=note>[{i}] {html.escape(text)}.</p>" for i, text in enumerate(footnotes, 1)]
    before = ""
    for scene, name, pictures in rows:
        if scene != before:
            parts.append(f"<h2>{html.escape(scene)}</h2>")
            before = scene
        parts.append(f"<div>{html.escape(name)}</div><div class=row>{''.join(map(_figure, pictures))}</div>")
    write_atomic(out / "index.html", "\n".join(parts) + "\n")
    return out / "index.html"


def _code(markdown: str) -> str:
    """Text with code between backticks."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(markdown))


def _table(sheet: Sheet) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    rows = [line(sheet.head, "th"), *(line(cells, "td") for cells in sheet.lines)]
    return f"<div class=row><table>{''.join(rows)}</table></div>"


def _by_scene(out: Path, records: Sequence[Record]) -> dict[str, dict[str, list[Picture]]]:
    """Scene -> held-out photo -> the photo, and the render of each method (its first seed)."""
    found: dict[str, dict[str, list[Picture]]] = {}
    seen = set()
    for record in records:
        cell = record.cell
        key = (cell.scene, cell.method, tuple(sorted((k, str(v)) for k, v in cell.plain()["overrides"].items())))
        if record.failed or key in seen:
            continue
        seen.add(key)
        folder = Path("runs") / cell.name / "evaluate"
        views = _views(out / folder / "views.json")
        photos = found.setdefault(cell.scene, {})
        names = list(photos) or [v["name"] for v in _spread(views)]
        for view in views:
            if view["name"] not in names:
                continue
            row = photos.setdefault(view["name"], [Picture("photo", folder / "test" / view["photo"])])
            lpips = "" if view.get("lpips") is None else f", LPIPS {view['lpips']:.3f}"
            caption = f"{cell.method}: {view['psnr']:.2f} dB, SSIM {view['ssim']:.3f}{lpips}"
            row.append(Picture(caption, folder / "test" / view["render"]))
    return {scene: photos for scene, photos in found.items() if photos}


def _views(path: Path) -> list[Mapping[str, Any]]:
    """Held-out views of a run; none where the run folder is not here, or its file is another program's."""
    try:
        views = read_json(path)["test"]
        for view in views:
            for file in ("photo", "render"):
                path_inside(path.parent, view[file])
            float(view["psnr"]), float(view["ssim"])
    except (SplatError, OSError, KeyError, TypeError, ValueError):
        return []
    return list(views)


def _spread(views: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if len(views) <= MAX_PHOTOS:
        return list(views)
    return [views[round(i * (len(views) - 1) / (MAX_PHOTOS - 1))] for i in range(MAX_PHOTOS)]


def _figure(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    source = html.escape(quote(picture.path.as_posix()))
    return f'<figure><img loading=lazy src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
