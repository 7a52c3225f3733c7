"""Which method runs: the one that was asked for, or what the table of `auto` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splat.core.errors import SplatError
from splat.core.slots import Method


@dataclass(frozen=True)
class AutoRow:
    """One row of the `auto` table: the first row that fits, and whose method can run here, decides."""

    max_photos: int | None
    """Fits captures of at most this many registered training photos; None: any number."""
    method: str


# A method that measures better on a class of captures takes its row here. `edgs` beside `points` (scripts/results): ten
# captures at the default preset +0.12 dB, more than 14 training photos +0.30, fewer +0.01; seven at the fast one +0.66;
# two or three photos of the ray-traced room +2 to +3. `coherent` beside `edgs` (scripts/results/few):
# with three photos +0.06 to +2.15 dB on four captures, with six -0.14 to +0.19 on three, for two to four times the
# seconds of training.
AUTO: tuple[AutoRow, ...] = (AutoRow(4, "coherent"), AutoRow(None, "edgs"), AutoRow(None, "points"))


def choose_method(asked: str | Method, methods: Mapping[str, Method], train_photos: int) -> tuple[Method, str]:
    """The method and why it was chosen, in a few words.

    `methods` holds those that a name may pick. Raises SplatError for a name that is not among them, and for a method
    that was asked for and cannot run here.
    """
    if asked == "auto":
        return _automatic(methods, train_photos)
    method = methods.get(asked) if isinstance(asked, str) else asked
    if method is None:
        raise SplatError(f"--method {asked} does not exist: choose auto, {', '.join(methods)}.")
    reason = method.unavailable()
    if reason is not None:
        raise SplatError(f"--method {method.name} cannot run here: {reason}.")
    return method, "as asked"


def _automatic(methods: Mapping[str, Method], train_photos: int) -> tuple[Method, str]:
    passed_over = ""
    for row in AUTO:
        method = methods.get(row.method)
        if method is None or (row.max_photos is not None and train_photos > row.max_photos):
            continue
        reason = method.unavailable()
        if reason is None:
            few = "" if row.max_photos is None else f": auto takes {row.method} up to {row.max_photos} training photos"
            return method, method.summary + few + passed_over
        passed_over = f": {reason}"
    raise SplatError(f"No method can run here{passed_over}; `splat doctor` says what is missing.")
