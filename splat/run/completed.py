"""A finished run, opened again by the commands that come after `reconstruct`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from splat import raster as rasterizers
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import Rasterizer, RasterSettings
from splat.run.capture_io import load_capture
from splat.run.machine import available_cores
from splat.run.trained import Trained, load_trained


@dataclass(frozen=True, eq=False)
class CompletedRun:
    root: Path
    config: dict[str, Any]
    """What `config.json` holds."""
    metrics: dict[str, Any]
    capture: Capture
    """At the working size that was trained at, in the normalized frame."""
    trained: Trained
    settings: RasterSettings
    raster: Rasterizer
    device: torch.device

    @staticmethod
    def open(root: Path, raster: str = "auto") -> CompletedRun:
        """Raises SplatError when `root` is not a run folder or its training has not finished."""
        root = Path(root)
        try:
            config = json.loads((root / "config.json").read_text())
            metrics = json.loads((root / "metrics.json").read_text())
        except (OSError, ValueError):
            raise SplatError(
                f"{root} holds no finished run: give the --out folder of a `splat reconstruct` that has ended."
            ) from None
        torch.set_num_threads(available_cores())
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        capture = load_capture(root / "poses")
        capture = capture.resized(max(metrics["resolution"]))
        return CompletedRun(
            root=root,
            config=config,
            metrics=metrics,
            capture=capture,
            trained=load_trained(root / "train"),
            settings=RasterSettings(mode="antialiased" if config["antialiased"] else "classic"),
            raster=rasterizers.choose(device, raster),
            device=device,
        )
