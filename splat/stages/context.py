"""What every stage needs to know."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splat.core.process_group import ProcessGroup
from splat.core.slots import Rasterizer, RasterSettings, Reporter
from splat.run.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Context:
    """One run: where it writes, what it reports to, and what it computes with."""

    run: RunFolder
    report: Reporter
    device: torch.device
    raster: Rasterizer
    settings: RasterSettings
    """How the result is drawn."""
    threads: int
    """CPU threads, of all processes of this machine together."""
    seed: int
    group: ProcessGroup
    """The processes that train together; this one is rank 0."""
