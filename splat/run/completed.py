"""A run that is complete, opened again by the commands that come after `reconstruct`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

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
        """Run folders of version 0.1.0 open too. Raises SplatError when `root` holds no run that has ended."""
        root = Path(root)
        try:
            config = json.loads((root / "config.json").read_text())
            metrics = json.loads((root / "metrics.json").read_text())
            mode: Literal["antialiased", "classic"] = "antialiased" if config["antialiased"] else "classic"
            capture = load_capture(root / "poses").resized(max(metrics["resolution"]))
            trained = load_trained(root / "train")
        except (OSError, ValueError, LookupError, TypeError, BadZipFile):  # not there, cut off, or something else
            raise SplatError(
                f"{root} holds no finished run: give the --out folder of a `splat reconstruct` that has ended."
            ) from None
        torch.set_num_threads(available_cores())
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return CompletedRun(
            root=root,
            config=config,
            metrics=metrics,
            capture=capture,
            trained=trained,
            settings=RasterSettings(mode=mode),
            raster=rasterizers.choose(device, raster),
            device=device,
        )
