"""`splat export`: the splat of a finished run again, in other formats or another frame."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from splat.core.errors import SplatError
from splat.export import codec_for, save_splat
from splat.export.header import relative_to, with_offset
from splat.export.sidecar import local_origin, to_original_frame, write_sidecar
from splat.run.completed import CompletedRun, note_written
from splat.run.console import Console


@dataclass(frozen=True)
class Export:
    """Write the splat of a finished run in one or more formats."""

    run: Path
    """The run folder of a finished `splat reconstruct`."""
    formats: tuple[str, ...] = ("ply",)
    """Suffixes of the formats to write, e.g. `--formats ply splat`."""
    out: Path | None = None
    """Where to write (default: RUN/export)."""
    frame: Literal["source", "world"] = "source"
    """source: coordinates as the dataset or SfM has them. world: normalized, as training saw them."""
    sh_degree: int | None = None
    """Drop view-dependent colour above this degree."""

    def __call__(self) -> int:
        folder = self.out or self.run / "export"
        targets = [folder / f"splat.{suffix.lstrip('.')}" for suffix in self.formats]
        for target in targets:
            codec_for(target)  # an unknown format is an error before anything is read or written
        if not targets:
            raise SplatError("--formats names nothing: give at least one suffix, e.g. ply.")
        run = CompletedRun.open(self.run)
        gaussians = run.trained.gaussians
        if self.sh_degree is not None:
            gaussians = gaussians.with_sh_degree(min(self.sh_degree, gaussians.sh_degree))
        offset = local_origin(run.capture, self.frame)
        if self.frame == "source":
            gaussians = to_original_frame(gaussians, run.capture, offset)
        mode = "mip" if run.settings.mode == "antialiased" else "default"
        header = with_offset({"SplatRenderMode": mode}, offset)
        with Console() as report:
            for target in targets:
                save_splat(target, gaussians, header, report)
                write_sidecar(target, run.capture, self.frame)
                print(f"{target}: {len(gaussians)} Gaussians{relative_to(header)}", file=sys.stderr)
        note_written(self.run, "export", (f for t in targets for f in folder.glob(f"{t.stem}*")))
        return 0
