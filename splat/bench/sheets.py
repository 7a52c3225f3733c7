"""A table's rows as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from splat.bench.quantities import quality_columns, quantity
from splat.bench.tables import Row, Spread


@dataclass(frozen=True)
class Sheet:
    """What all forms show: rows of text, figures with the digits that mean something."""

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def sheet_of(rows: Sequence[Row], brief: bool = False) -> Sheet:
    """Columns that nobody has a figure for are left out; `brief`: those of single stages and of sizes too."""
    quality = quality_columns(k for r in rows for k in r.values)
    ours = [r for r in rows if not r.published]
    stages = [] if brief else [k for k in dict.fromkeys(k for r in ours for k in r.seconds) if k != "total"]
    with_setting = any(r.setting for r in rows)
    with_floaters = any("floaters" in r.values for r in rows)
    head = ["scene", "method", *(["setting"] if with_setting else []), "photos"]
    head += [quantity(k).title for k in quality]
    head += ["floaters %"] * with_floaters + [
        "Gaussians",
        *(f"{s} s" for s in stages),
        "total s",
        "peak MB",
        *(["size"] if not brief else []),
    ]
    lines = []
    for row in rows:
        marks = "".join(f" [{m}]" for m in row.marks)
        cells = [row.scene, row.method + marks, *([row.setting] if with_setting else [])]
        cells.append("" if row.registered is None else f"{row.registered[0]}/{row.registered[1]}")
        cells += [_text(row.values.get(k), quantity(k).digits) for k in quality]
        if with_floaters:
            share = row.values.get("floaters")
            cells.append("" if share is None else _text(_percent(share), 2))
        cells.append(_text(row.values.get("num_gaussians"), 0))
        cells += [_text(row.seconds.get(s), 0) for s in [*stages, "total"]]
        cells.append(_text(row.values.get("peak_memory_mb"), 0))
        if not brief:
            cells.append("" if row.resolution is None else f"{row.resolution[0]}x{row.resolution[1]}")
        lines.append(tuple(cells))
    return Sheet(tuple(head), tuple(lines))


def markdown(
    title: str, note: str, rows: Sequence[Row], means: Sequence[Row] = (), footnotes: Sequence[str] = ()
) -> str:
    """A Markdown table; failures are rows too. `means`: rows that follow, also of publications; `footnotes`: what
    their `marks` point to, from 1."""
    sheet = sheet_of([*rows, *means])
    lines = [f"# {title}", "", note, "", _line(sheet.head), _line(["---"] * 2 + ["---:"] * (len(sheet.head) - 2))]
    lines += [_line(cells) for cells in sheet.lines]
    for row in rows:
        lines += [f"\n{row.scene}, {row.method}: failed: {message}" for message in row.failed]
    lines += [f"\n[{i}] {text}." for i, text in enumerate(footnotes, 1)]
    return "\n".join(lines) + "\n"


def comma_separated(rows: Sequence[Row], footnotes: Sequence[str] = ()) -> str:
    """CSV for programs: every figure with all its digits, its deviation over seeds in a column of its own."""
    names = list(dict.fromkeys(k for r in rows for k in r.values))
    stages = list(dict.fromkeys(k for r in rows for k in r.seconds))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = [part for n in names for part in (n, f"{n}_std")]
    head = ["scene", "method", "setting", "seeds", "registered", "photos", "width", "height", *figures]
    writer.writerow([*head, *(f"seconds_{s}" for s in stages), "failed", "published", "notes"])
    for row in rows:
        cells: list[object] = [row.scene, row.method, row.setting, row.seeds]
        cells += row.registered or ("", "")
        cells += row.resolution or ("", "")
        for name in names:
            s = row.values.get(name)
            cells += ("", "") if s is None else (s.mean, "" if s.std is None else s.std)
        cells += [row.seconds[s].mean if s in row.seconds else "" for s in stages]
        notes = "; ".join(footnotes[m - 1] for m in row.marks if m <= len(footnotes))
        writer.writerow([*cells, "; ".join(row.failed), int(row.published), notes])
    return out.getvalue()


def latex(title: str, note: str, rows: Sequence[Row], footnotes: Sequence[str] = ()) -> str:
    """A LaTeX table that needs no package; published rows below a line."""
    sheet = sheet_of(rows, brief=True)
    empty = [i for i in range(len(sheet.head)) if i > 1 and not any(line[i] for line in sheet.lines)]

    def line(cells: Sequence[str]) -> str:
        kept = [_escaped(c) for i, c in enumerate(cells) if i not in empty]
        return "  " + " & ".join(re.sub(r" \[(\d+)\]", r"$^{\1}$", c) for c in kept) + r" \\"

    columns = "ll" + "r" * (len(sheet.head) - 2 - len(empty))
    out = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(f'{title}. {note}')}}}",
        rf"\begin{{tabular}}{{{columns}}}",
    ]
    out += [r"  \hline", line(sheet.head), r"  \hline"]
    before = False
    for row, cells in zip(rows, sheet.lines, strict=True):
        if row.published and not before:
            out.append(r"  \hline")
        before = row.published
        out.append(line(cells))
    out += [r"  \hline", r"\end{tabular}"]
    out += [rf"\par\footnotesize $^{{{i}}}$ {_escaped(text)}." for i, text in enumerate(footnotes, 1)]
    return "\n".join([*out, r"\end{table}"]) + "\n"


_SPECIAL = {c: rf"\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {"\\": r"\textbackslash{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$"}


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in text).replace("`", "")


def _percent(s: Spread) -> Spread:
    return Spread(100 * s.mean, None if s.std is None else 100 * s.std, s.n)


def _text(s: Spread | None, digits: int) -> str:
    return "" if s is None else s.text(digits)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
