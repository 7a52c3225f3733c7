"""`splat convert`: one splat file into other formats."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from splat.core.errors import SplatError
from splat.core.machine import available_memory_gb
from splat.export import codec_for, read_splat, save_splat
from splat.export.header import relative_to
from splat.run.console import Console


@dataclass(frozen=True)
class Convert:
    """Read a splat file and write it in the format that each further name asks for. Coordinates, a local origin and
    whether it was trained with anti-aliasing stay as they are."""

    source: Path
    """The splat to read."""
    target: tuple[Path, ...]
    """The splats to write; their suffixes choose the formats."""
    sh_degree: int | None = None
    """Drop view-dependent colour above this degree."""

    def __call__(self) -> int:
        if self.sh_degree is not None and self.sh_degree < 0:
            raise SplatError(f"--sh-degree {self.sh_degree} must be 0 or more.")
        targets = (self.target,) if isinstance(self.target, Path | str) else self.target
        if not targets:
            raise SplatError("splat convert needs a second name, whose suffix chooses the format: e.g. scene.spz.")
        for target in targets:
            codec_for(target)  # an unknown format is an error before anything is read
        with Console() as report:
            splat = read_splat(self.source, report, available_memory_gb())
            gaussians = splat.gaussians
            if self.sh_degree is not None:
                gaussians = gaussians.with_sh_degree(min(self.sh_degree, gaussians.sh_degree))
            for target in targets:
                save_splat(target, gaussians, splat.header, report)
                print(f"{target}: {len(gaussians)} Gaussians{relative_to(splat.header)}", file=sys.stderr)
        return 0
