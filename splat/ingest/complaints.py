"""Warnings that would repeat for hundreds of files: the first few are said, the rest is counted."""

from __future__ import annotations

from types import TracebackType

from splat.core.slots import Reporter

_SAID = 4


class Complaints:
    """Collects warnings of one kind and passes them on when its block ends."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._messages: list[str] = []

    def warn(self, message: str) -> None:
        self._messages.append(message)

    def __enter__(self) -> Complaints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for message in self._messages[:_SAID]:
            self._report.warn(message)
        if len(self._messages) > _SAID:
            self._report.warn(f"The same holds for {len(self._messages) - _SAID} more files.")
