"""Photos of a dataset that are left out, each with the reason, told in a few sentences."""

from __future__ import annotations

from pathlib import Path

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.slots import Reporter
from splat.ingest.names import some_of
from splat.ingest.validation import LimitedWarnings


class LeftOut:
    """Collects the photos of `path`, a file or folder that gives poses, that cannot be used with them."""

    def __init__(self, path: Path, report: Reporter) -> None:
        self._path, self._report = path, report
        self._names: dict[str, list[str]] = {}

    def add(self, name: str, reason: str) -> None:
        """`reason` completes "3 photos are left out (a.jpg, ...): "."""
        self._names.setdefault(reason, []).append(name)

    def close(self, used: int) -> None:
        """Warn of every reason once. Raises SplatError with the commonest reason where no photo is used."""
        if not self._names:
            return
        total = used + sum(map(len, self._names.values()))
        if not used:
            reason, names = max(self._names.items(), key=lambda item: len(item[1]))
            raise SplatError(
                f"None of the {total} photos of {shown(self._path)} can be used with its poses: {reason} "
                f"({some_of(names)}): correct this, or use --ignore-poses."
            )
        with LimitedWarnings(self._report) as warnings:
            for reason, names in self._names.items():
                some, are = some_of(names), "are" if len(names) > 1 else "is"
                warnings.warn(
                    f"{len(names)} of the {total} photos of {shown(self._path)} {are} left out ({some}): {reason}."
                )


def report_missing(
    missing: list[str], total: int, source: Path, folder: Path, report: Reporter, needed: int = 1
) -> None:
    """Warn of photos that `source` names and that are not in `folder`. Raises SplatError where fewer than `needed` of
    `total` are there."""
    if not missing:
        return
    if len(missing) == total:
        raise SplatError(
            f"None of the {total} photos that {shown(source)} names exists (first: {some_of(missing[:1])}): "
            "put them beside it, or name their folder with --images."
        )
    what = f"{len(missing)} of the {total} photos of {shown(source)} are not in {shown(folder)} ({some_of(missing)})"
    if total - len(missing) < needed:
        raise SplatError(f"{what}: put them there, or name their folder with --images.")
    report.warn(f"{what}: left out.")
