"""A reporter that keeps what it is told."""

from __future__ import annotations

from splat.core.slots import Silent


class Noting(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)
