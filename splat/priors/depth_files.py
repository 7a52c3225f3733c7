"""Depth or disparity maps that the user brings, one file for each photo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from splat.core.capture import Capture, View
from splat.core.depth_file import read_depth, resampled_depth
from splat.core.errors import SplatError
from splat.core.foreign import shown, some_of
from splat.core.lens import photo_positions
from splat.core.slots import DepthMap, Reporter

FAMILIES: dict[str, Literal["up-to-scale", "disparity", "unknown"]] = {
    "auto": "unknown",
    "depth": "up-to-scale",
    "disparity": "disparity",
}


@dataclass(frozen=True)
class DepthFiles:
    """A `slots.DepthPrior`: maps read from files, of the family that the user named."""

    files: tuple[tuple[str, Path], ...]
    """Name of a view, and its map."""
    kind: Literal["auto", "depth", "disparity"] = "auto"
    fingerprint: str = ""
    """Of all the files, for the key of a stage."""

    def without_places(self) -> DepthFiles:
        """The same maps, wherever they lie."""
        return replace(self, files=())

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A map per view, at its working size and without its lens; of confidence 0 where a view has none. Those that
        cannot be used are named in a warning."""
        paths = dict(self.files)
        faults: dict[str, str] = {}
        out = []
        for view in capture.views:
            values = None
            if (path := paths.get(view.name)) is not None:
                try:
                    values = depth_of_view(view, path)
                except SplatError as e:
                    faults[view.name] = str(e)
            out.append(depth_map(view, values, FAMILIES[self.kind]))
        if faults:
            names = list(faults)
            used = "is used without a depth map" if len(names) == 1 else "are used without depth maps"
            report.warn(f"{some_of(names)} {used}: {faults[names[0]]}")
        return out


def depth_of_view(view: View, path: Path) -> np.ndarray:
    """The values of a file at the pixels of a view [h w], NaN where they are unknown. Raises SplatError where it cannot
    be read, or its shape is not that of the photo."""
    values = read_depth(path)
    height, width = values.shape
    stretch = (width / height) / (view.photo_size[0] / view.photo_size[1])
    if not 0.97 < stretch < 1.03:
        raise SplatError(
            f"{shown(path)} is {width}x{height} where its photo is {view.photo_size[0]}x{view.photo_size[1]}: make it "
            "from the whole upright photo."
        )
    return resampled_depth(values, *photo_positions(view.camera, width, height))


def depth_map(
    view: View, values: np.ndarray | None, family: Literal["up-to-scale", "disparity", "unknown"]
) -> DepthMap:
    """Of values [h w] at the view's pixels, NaN where unknown; None: of nothing."""
    if values is None:
        values = np.full((view.camera.height, view.camera.width), np.nan, np.float32)
    stored = torch.from_numpy(values)
    return DepthMap(stored.nan_to_num(0), stored.isfinite().float(), family)
