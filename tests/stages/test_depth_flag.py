"""`--depth`: the user's own depth maps, from their files to the first Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from noting import Noting
from street import street, write_transforms

from splat.commands.reconstruct import Reconstruct
from splat.core.errors import SplatError
from splat.core.slots import Init, Method, RasterSettings
from splat.ingest import read
from splat.methods import Edgs, Points
from splat.priors import DepthAnything
from splat.raster import choose
from splat.run.arrays_io import load_init
from splat.run.folder import RunFolder
from splat.stages import init
from splat.stages.context import Context
from splat.stages.forecast import Limits
from splat.stages.priors import PriorSettings, depth_source

CHOSEN = ("2", "4", "6")


class Alone(RunFolder):
    """A run folder of one stage."""

    def __init__(self, root: Path) -> None:
        self.root, self.photos = root, None

    def identity(self, name: str) -> str:
        return ""

    def stage(self, name: str, key: str, config: Any, make: Callable[[Path], Any], *rest: Any, **more: Any) -> Any:
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return make(self.root / name)


def write_depths(folder: Path) -> None:
    """Of the street's photos, as a network may give them: disparity of any scale in 16 bits, at half the size."""
    folder.mkdir()
    for i, view in enumerate(street()):
        disparity = np.where(view.depth > 0, 9000 / np.maximum(view.depth, 0.1) + 500 * (i + 1), 0)
        small = cv2.resize(disparity, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{i}.png"), small.astype(np.uint16))


def first_gaussians(root: Path, method: Method, report: Noting) -> Init:
    """Of three photos, by the init stage alone."""
    write_transforms(root)
    write_depths(root / "depths")
    capture = read(root).resized(160)
    capture = capture.select([v.image_path.stem in CHOSEN for v in capture.views])
    settings = PriorSettings(depth=depth_source(Path("depths"), root, "auto", DepthAnything(), capture))
    device = torch.device("cpu")
    context = Context(Alone(root / "run"), report, device, choose(device), RasterSettings(), 1)
    return init.init(context, capture, method, settings, Limits("fast", 3000, 160), 4000, 0)


def test_maps_stand_in_where_matching_is_in_doubt(tmp_path: Path) -> None:
    report = Noting()
    edgs = Edgs()
    first_gaussians(tmp_path, replace(edgs, init=replace(edgs.init, matching_size=160)), report)
    said = [line for line in report.lines if line.startswith("Depth maps of")]
    assert said and "of 3 photos fit as disparity" in said[0], (report.lines, report.warnings)
    maps = load_init(tmp_path / "run" / "init" / "init.npz").depths
    right = count = 0.0
    for view, m in zip((street()[i] for i in (2, 4, 6)), maps, strict=True):
        assert m.predicted is not None and not bool((m.measured & m.predicted).any())
        truth = torch.from_numpy(cv2.resize(view.depth, (160, 120), interpolation=cv2.INTER_NEAREST))
        at = m.predicted & (truth > 0)
        right += float(((m.depth / truth - 1).abs() < 0.05)[at].sum())
        count += int(at.sum())
    assert count > 0.02 * 3 * 160 * 120 and right > 0.8 * count


def test_a_method_that_reads_no_depth_says_so(tmp_path: Path) -> None:
    report = Noting()
    first_gaussians(tmp_path, Points(), report)
    assert "--method points reads no depth maps: --depth has no effect." in report.warnings


def test_a_folder_that_fits_no_photo_ends_the_run_before_poses_are_found(tmp_path: Path) -> None:
    write_transforms(tmp_path)
    (tmp_path / "depths").mkdir()
    (tmp_path / "depths" / "elsewhere.npy").write_bytes(b"")
    for depth, reason in (("depths", "none that belongs to a photo"), ("nowhere", "not a folder of depth maps")):
        run = Reconstruct(tmp_path, tmp_path / "run", depth=Path(depth), quiet=True)
        with run.opened(Noting()) as (c, _), pytest.raises(SplatError, match=reason):
            run.until_init(c)
        assert not (tmp_path / "run" / "poses").exists()
