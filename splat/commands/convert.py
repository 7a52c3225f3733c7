"""`splat convert`: one splat file into another format."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from splat.core.errors import SplatError
from splat.export import load_splat, save_splat
from splat.run.console import Console


@dataclass(frozen=True)
class Convert:
    """Read a splat file and write it in the format that the second name asks for. Coordinates stay as they are."""

    source: Path
    """The splat to read."""
    target: Path
    """The splat to write; its suffix chooses the format."""
    sh_degree: int | None = None
    """Drop view-dependent colour above this degree."""

    def __call__(self) -> int:
        if not self.source.is_file():
            raise SplatError(f"{self.source} does not exist: give a splat file.")
        with Console() as report:
            gaussians = load_splat(self.source, report)
        if self.sh_degree is not None:
            gaussians = gaussians.with_sh_degree(min(self.sh_degree, gaussians.sh_degree))
        save_splat(self.target, gaussians)
        print(f"{self.target}: {len(gaussians)} Gaussians", file=sys.stderr)
        return 0
