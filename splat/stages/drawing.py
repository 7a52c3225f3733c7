"""What the commands on a finished run draw: its scene, or a splat file in the scene's place."""

from __future__ import annotations

from pathlib import Path

from splat.core.gaussians import Gaussians
from splat.core.machine import available_memory_gb
from splat.core.slots import RasterSettings, Reporter
from splat.export import read_splat
from splat.export.sidecar import drawn_as_said, from_original_frame
from splat.run.completed import CompletedRun


def to_draw(
    run: CompletedRun, splat: Path | None, report: Reporter
) -> tuple[Gaussians, RasterSettings, Gaussians | None]:
    """Gaussians in the run's frame and on its device, how they are drawn, and what is behind them. `splat`: a file in
    the frame of the run's input, which holds its own surroundings; None: the scene of the run."""
    gaussians, settings, beyond = run.trained.gaussians, run.settings, run.trained.surroundings
    if splat is not None:
        found = read_splat(splat, report, available_memory_gb())
        gaussians, settings, beyond = from_original_frame(found, run.capture), drawn_as_said(found, settings), None
    return gaussians.to(run.device), settings, beyond
