"""Published numbers beside ours: rows of a table, and footnotes that say who printed them and what differs."""

from __future__ import annotations

from collections.abc import Sequence

from splat.bench.protocols.protocol import Protocol, Published
from splat.bench.tables import Row, Spread, means_of


def group_means(protocol: Protocol, rows: Sequence[Row]) -> list[Row]:
    """Means over the scenes that are published apart, and over all."""
    out = []
    for name, scenes in protocol.groups.items():
        mine = [r for r in rows if r.scene in scenes]
        if len({r.scene for r in mine}) > 1:
            out += means_of(mine, name)
    return out + (means_of(rows) if len({r.scene for r in rows}) > 1 else [])


def published_rows(protocol: Protocol, rows: Sequence[Row], absent: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The protocol's published rows, each figure in the column of ours that has its definition (where there is one),
    and footnotes. `absent`: scenes of the protocol that ours lack."""
    if not protocol.published:
        return [], []
    there = {name for row in rows for name in row.values}
    footnotes: list[str] = []

    def mark(text: str) -> int:
        if text not in footnotes:
            footnotes.append(text)
        return footnotes.index(text) + 1

    def row_of(p: Published) -> Row:
        marks = [mark(f"published: {p.source}")]
        if p.differs:
            marks.append(mark(f"its protocol differs: {p.differs}"))
        values = {_column(protocol, k, there): Spread(v, None, 1) for k, v in p.values.items() if k != "minutes"}
        minutes = p.values.get("minutes")
        seconds = {} if minutes is None else {"total": Spread(60 * minutes, None, 1)}
        scene = p.scene or ("published mean" if len(protocol.scenes) != 1 else protocol.scenes[0].name)
        return Row(scene, p.method, "", 0, (), values, seconds, marks=tuple(marks), published=True)

    found = [row_of(p) for p in protocol.published]
    if absent:
        footnotes.append(
            f"published means are over {len(protocol.scenes)} scenes; here are {len(protocol.scenes) - len(absent)}: "
            f"without {', '.join(absent)}"
        )
    if protocol.differs:
        footnotes.append(f"all published rows: {protocol.differs}")
    unlike = sorted(
        {k for p in protocol.published for k in p.values if protocol.compare.get(k, k) not in there} - _COST
    )
    if unlike and rows:
        footnotes.append(f"of published {', '.join(unlike)} there is no figure of ours with that definition here")
    return found, footnotes


_COST = {"minutes", "num_gaussians"}


def _column(protocol: Protocol, metric: str, there: set[str]) -> str:
    own = protocol.compare.get(metric, metric)
    return own if own in there else metric
