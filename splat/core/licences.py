"""Which weights a run may load, and a record of what it loaded: licences are data.

`--license commercial` refuses every file whose licence is not known to allow commercial use, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from splat.core.errors import SplatError

Policy = Literal["research", "commercial"]

COMMERCIAL = frozenset(
    {
        *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "CC-BY-4.0"),
        *("OpenRAIL++-M", "CreativeML OpenRAIL-M", "none"),
    }
)
"""Licences (SPDX names where there are) that allow commercial use; `none`: there are no weights. Those called OpenRAIL
forbid certain uses, none of them for being commercial."""


@dataclass(frozen=True)
class Provenance:
    """A prior that a run used."""

    plug_in: str
    licence: str
    """Of its weights."""
    sha256: str = ""
    """Of its weights; empty: there are none, or nobody said."""
    seconds: float = 0.0
    version: str = ""


_policy: Policy = "research"
_records: list[Provenance] = []


@contextmanager
def policy(chosen: Policy) -> Iterator[None]:
    """What may be loaded inside."""
    global _policy
    before, _policy = _policy, chosen
    try:
        yield
    finally:
        _policy = before


def require(title: str, licence: str, remedy: str = "choose another prior") -> None:
    """Raises SplatError where weights under this licence may not be loaded."""
    if _policy == "commercial" and licence not in COMMERCIAL:
        raise SplatError(
            f"--license commercial: {title} is under {licence or 'an unknown licence'}, which is not known to allow "
            f"commercial use: {remedy}, or choose --license research."
        )


def allowed(licence: str) -> bool:
    """Whether weights under this licence may be loaded."""
    return _policy != "commercial" or licence in COMMERCIAL


def record(used: Provenance) -> None:
    """Note what was used, for `recorded`."""
    if used not in _records:
        _records.append(used)


@contextmanager
def recorded() -> Iterator[list[dict[str, Any]]]:
    """A list that, afterwards, has what was recorded inside."""
    found: list[dict[str, Any]] = []
    before = list(_records)
    _records.clear()
    try:
        yield found
    finally:
        found += [asdict(p) for p in _records]
        _records[:] = before
