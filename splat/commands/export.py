"""`splat export`: a finished run, or a splat file, as any of the deliverables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.export import DELIVERABLES, tuned
from splat.export.deliverable import Deliverable
from splat.export.mesh import MeshOptions
from splat.export.picture_files import PathOptions
from splat.run.console import Console
from splat.stages.deliver import Shaping, deliver_from, is_run


@dataclass(frozen=True)
class Export(Shaping):
    """Write a finished run, or a splat file, in as many forms as names are given: their suffixes choose
    (`splat export RUN scene.ply scene.sog`)."""

    run: Path
    """The run folder of a finished `splat reconstruct`, or a splat file."""
    out: tuple[Path, ...] = field(default=(), metadata={"positional": True})
    """What to write; the suffixes choose the formats (default: RUN/export/splat.ply)."""
    mesh: MeshOptions = field(default_factory=MeshOptions)
    video: PathOptions = field(default_factory=PathOptions)
    points: int | None = None
    """Points of a point cloud, drawn evenly from the surfaces (default: one per Gaussian)."""

    def tuned(self) -> tuple[Deliverable, ...]:
        return (*super().tuned(), *tuned(self.mesh, self.video, self.points))

    clean: bool = False
    """Remove floaters: Gaussians in space that two photos see past, as long as the PSNR of the held-out photos (of the
    training photos where there are none) falls by at most 0.05 dB."""
    surroundings: bool = True
    """Write what is behind the scene too (`splat reconstruct --train.surroundings.count`): from outside of it, other
    viewers show a ball."""

    def __call__(self) -> int:
        outputs = (self.out,) if isinstance(self.out, Path | str) else tuple(map(Path, self.out))
        outputs = tuple(map(Path, outputs))
        if not outputs:
            if not is_run(self.run):
                raise SplatError(f"{shown(self.run)} is no run: name what to write, e.g. scene.spz.")
            outputs = (self.run / "export" / "splat.ply",)
        with Console() as report:
            deliver_from(self.run, outputs, self, report, self.clean, self.surroundings)
        return 0


# the list is that of the formats there are
Export.__doc__ = f"{Export.__doc__} Suffixes: {', '.join(s for d in DELIVERABLES for s in d.suffixes)}."
