"""`splat view`: a finished run, or a splat file, in a browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.export import is_splat_folder
from splat.run.completed import CompletedRun
from splat.run.console import Console
from splat.stages.viewing import file_scene, run_scene
from splat.viewer.access import LOOPBACK
from splat.viewer.scene import Scene
from splat.viewer.terminal import opened_viewer, stay


@dataclass(frozen=True)
class ViewScene:
    """Walk through a finished run or a splat file in a browser: compare it with its photos, measure, crop, fly along
    keyframes, save. Prints a link that only this machine can open."""

    target: Path
    """The run folder of a finished `splat reconstruct`, or a splat file (.ply, .compressed.ply, .spz, .sog, .splat,
    .ksplat, .glb, or a folder of streamed .sog)."""
    port: int | None = None
    """Default: 7007, or the next that is free."""
    host: str = LOOPBACK
    """Address to listen on. Others than this machine's own loopback open the scene, unencrypted, to whoever has the
    link: prefer the ssh command that is printed."""
    photos: Path | None = None
    """Where the photos of the run are now, if they were moved."""
    raster: Literal["auto", "native", "gsplat", "reference"] = "auto"
    """What draws the exact pictures."""
    open: bool = True
    """Open the link in the browser of this desktop, if there is one."""

    def __call__(self) -> int:
        scene = self.scene()
        with opened_viewer(self.port, self.host, self.open) as viewer:
            viewer.session.show(scene)
            stay(viewer)
        return 0

    def scene(self) -> Scene:
        """What is shown. Raises SplatError where `target` is nothing that can be."""
        if not self.target.exists():
            raise SplatError(f"{shown(self.target)} does not exist: give a run folder or a splat file.")
        if self.target.is_dir() and not is_splat_folder(self.target):
            return run_scene(CompletedRun.open(self.target, self.raster, self.photos))
        with Console() as report:
            return file_scene(self.target, report)
