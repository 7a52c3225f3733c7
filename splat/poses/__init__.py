"""Capture -> posed Capture. `POSERS` names every way to get poses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from splat.core.capture import Capture
from splat.core.slots import Poser, PoseResult, Reporter
from splat.poses.known import Known
from splat.poses.sfm import Sfm


@dataclass(frozen=True)
class Auto:
    """The dataset's poses where it has them, structure from motion otherwise."""

    known: Known = field(default_factory=Known)
    sfm: Sfm = field(default_factory=Sfm)

    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult:
        has_poses = any(v.world_from_cam is not None for v in capture.views)
        return (self.known if has_poses else self.sfm)(capture, workdir, report)


POSERS: dict[str, type[Auto] | type[Known] | type[Sfm]] = {"auto": Auto, "known": Known, "sfm": Sfm}

__all__ = ["POSERS", "Auto", "Known", "Poser", "Sfm"]
