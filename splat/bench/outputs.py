"""What a table leaves in its folder: Markdown, CSV, LaTeX, JSON, plots, and a page of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from splat.bench import plots
from splat.bench.cells import PROGRAM, Record, flags_of
from splat.bench.page import write_page
from splat.bench.protocols.protocol import Protocol
from splat.bench.published import group_means, published_rows
from splat.bench.runner import Table
from splat.bench.sheets import comma_separated, latex, markdown, sheet_of
from splat.bench.tables import Row, rows_of, versions_note
from splat.core.files import write_atomic, write_json
from splat.core.slots import Reporter


def write_outputs(
    table: Table,
    records: list[Record],
    json: Path | None,
    report: Reporter,
    protocol: Protocol | None = None,
    absent: Sequence[str] = (),
) -> str:
    """`table.md`, `.csv`, `.tex` and `.json`, plots and `index.html` in the table's folder; returns the Markdown.
    `protocol`: whose published numbers stand beside ours; `absent`: its scenes that ours lack."""
    protocol = protocol or Protocol("", "")
    rows = rows_of(records)
    means = group_means(protocol, rows)
    published, footnotes = published_rows(protocol, rows, absent)
    note = table_note(table, records)
    text = markdown(table.title, note, rows, [*means, *published], footnotes)
    every = [*rows, *means, *published]
    write_atomic(table.out / "table.md", text)
    write_atomic(table.out / "table.csv", comma_separated(every, footnotes))
    write_atomic(table.out / "table.tex", latex(table.title, note, every, footnotes))
    numbers: dict[str, Any] = {
        "title": table.title,
        "note": note,
        "rows": [r.plain() for r in rows],
        "means": [r.plain() for r in means],
        "published": [r.plain() for r in published],
        "footnotes": footnotes,
        "cells": [r.plain() for r in records],
    }
    for path in filter(None, (table.out / "table.json", json)):
        write_json(path, numbers)
    with_plots = any("psnr" in r.values for r in rows)
    if with_plots and (reason := plots.unavailable()):
        report.info(reason)
        with_plots = False
    if with_plots:
        _plots(table, rows)
    page = write_page(table.out, table.title, note, sheet_of(every), footnotes, records)
    report.info(f"{table.out / 'table.md'}" + ", with plots beside it" * with_plots)
    if page is not None:
        report.info(f"pictures side by side: {page}")
    return text


def table_note(table: Table, records: Sequence[Record]) -> str:
    """What every cell of the table shares."""
    overrides = [c.plain()["overrides"] for c in table.cells]
    shared = {k: v for k, v in overrides[0].items() if all(o.get(k) == v for o in overrides)}
    flags = " ".join(flags_of(shared))
    seeds = sorted({c.seed for c in table.cells})
    heldout = sorted({(r.metrics or {}).get("heldout", "") for r in records} - {""})
    variants = sorted({(r.metrics or {}).get("lpips_variant") or "" for r in records} - {""})
    programs = {c.method: str(c.overrides[PROGRAM]) for c in table.cells if PROGRAM in c.overrides}
    parts = [f"`{flags}`" if flags else "", f"seeds {', '.join(map(str, seeds))}"]
    parts += [f"held-out photos: {', '.join(heldout)}"] * bool(heldout) + variants
    parts += [f"{name}: `{command}`, on our poses" for name, command in programs.items()]
    parts += [machines_note(records), versions_note(records)]
    missing = len(table.cells) - len(records)
    parts += [f"{missing} cells not run yet"] * bool(missing)
    return "; ".join(filter(None, parts)) + "."


def machines_note(records: Sequence[Record]) -> str:
    """What cells ran on, where that was recorded; how many on each where there are several."""
    counts: dict[str, int] = {}
    for r in records:
        found = (r.metrics or {}).get("machine")
        if found:
            cores = "one core" if found.get("cores") == 1 else f"{found.get('cores')} cores"
            name = f"{cores} of {found.get('cpu')}" + (f", {found['gpu']}" if found.get("gpu") else "")
            counts[name] = counts.get(name, 0) + 1
    if len(counts) < 2:
        return "".join(counts)
    return "cells on " + ", ".join(f"{name} ({n})" for name, n in counts.items())


def _plots(table: Table, rows: Sequence[Row]) -> None:
    """`psnr`, `psnr_vs_minutes`, `psnr_vs_gaussians` and, where scenes differ in it, `psnr_vs_views`, each as .png and
    .svg, in the table's folder."""
    scenes = list(dict.fromkeys(r.scene for r in rows))
    by_method: dict[str, list[Row]] = {}
    for r in rows:
        by_method.setdefault(f"{r.method} {r.setting}".strip(), []).append(r)

    def bar(row: Row | None) -> plots.Bar | None:
        psnr = row.values.get("psnr") if row else None
        return None if psnr is None else plots.Bar(psnr.mean, psnr.std)

    found = {name: {r.scene: r for r in mine} for name, mine in by_method.items()}
    psnr = {name: [bar(mine.get(s)) for s in scenes] for name, mine in found.items()}
    quality = "PSNR of held-out photos, dB"
    plots.write(plots.bars(table.title, quality, scenes, psnr), table.out / "psnr.png")

    def against(name: str, title: str, axis: str, of: Callable[[Row], float | None]) -> None:
        points = {
            method: [
                (x, r.values["psnr"].mean, r.scene) for r in mine if "psnr" in r.values and (x := of(r)) is not None
            ]
            for method, mine in by_method.items()
        }
        if len({x for series in points.values() for x, _, _ in series}) > 1 or name == "minutes":
            figure = plots.scatter(f"{table.title}: {title}", axis, quality, points)
            plots.write(figure, table.out / f"psnr_vs_{name}.png")

    def gaussians(r: Row) -> float | None:
        return r.values["num_gaussians"].mean / 1000 if "num_gaussians" in r.values else None

    def minutes(r: Row) -> float | None:
        return r.seconds["total"].mean / 60 if "total" in r.seconds else None

    against("minutes", "quality and time", "minutes from photos to splat", minutes)
    against("gaussians", "quality and size", "thousands of Gaussians", gaussians)
    against("views", "quality and photos", "training photos", lambda r: r.train_photos)
