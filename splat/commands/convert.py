"""`splat convert`: one splat file into other formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from splat.core.errors import SplatError
from splat.run.console import Console
from splat.stages.deliver import Shaping, deliver_from


@dataclass(frozen=True)
class Convert(Shaping):
    """Read a splat file and write it in the format that each further name asks for. Coordinates, a local origin, which
    way is up and whether it was trained with anti-aliasing stay as they are."""

    source: Path
    """The splat to read."""
    target: tuple[Path, ...]
    """The splats to write; their suffixes choose the formats."""

    def __call__(self) -> int:
        targets = (self.target,) if isinstance(self.target, Path | str) else self.target
        if not targets:
            raise SplatError("splat convert needs a second name, whose suffix chooses the format: e.g. scene.spz.")
        with Console() as report:
            deliver_from(Path(self.source), tuple(map(Path, targets)), self, report)
        return 0
