"""LLFF: `poses_bounds.npy`, one row per photo in the order of their names.

A row is a 3x5 matrix and the nearest and farthest depth. The matrix is [rotation | translation | height, width, focal]:
`world_from_cam` whose axes are down, right, back, and a pinhole at the full size of the photos
(Mildenhall et al. 2019, github.com/Fyusion/LLFF).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from splat.core.camera import Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.geometry import Rigid
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.arrays import read_npy
from splat.ingest.cameras import posed_view
from splat.ingest.exif import PhotoInfo, read_info
from splat.ingest.folders import image_size, list_photos, name_in, named_folder, photo_folders
from splat.ingest.left_out import LeftOut
from splat.ingest.splits import Split

_FILE = "poses_bounds.npy"
_MAX_SIDE = 1100
"""Of several photo folders the largest with at most this long side (px) is read: `images_4` of 4032 px photos."""


class LlffReader:
    """A folder with `poses_bounds.npy` beside `images/`, `images_4/` or `images_8/`."""

    name = "llff"

    def accepts(self, path: Path) -> bool:
        return (path / _FILE).is_file() or (path.is_file() and path.name == _FILE)

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        root = path if path.is_dir() else path.parent
        poses = _load(root / _FILE)
        folder = _photo_folder(root, options)
        photos = list_photos(folder)
        if len(photos) != len(poses):
            raise SplatError(
                f"{shown(root / _FILE)} has {len(poses)} poses for {len(photos)} photos in {folder}: "
                "restore the original photos, or use --ignore-poses."
            )
        views = []
        left_out = LeftOut(root / _FILE, report)
        for row, photo in zip(poses, photos):
            info = read_info(photo)
            if isinstance(info, str):
                report.warn(f"{shown(photo)} is left out: {info}.")
                continue
            name = name_in(folder, photo)
            view = _view(name, row[:15].reshape(3, 5), info)
            if isinstance(view, str):
                left_out.add(name, view)
            else:
                views.append(replace(view, bounds=_bounds(row[15:])))
        left_out.close(len(views))
        return Capture(tuple(views), source=self.name)


def _load(path: Path) -> np.ndarray:
    """float64 [n 17], values as they are. Raises SplatError where the file is invalid."""
    table = read_npy(path)
    if table.ndim != 2 or table.shape[1] != 17:
        raise SplatError(
            f"{shown(path)} has {table.shape} values where n x 17 finite ones are expected: make it again."
        )
    return table


def _bounds(row: np.ndarray) -> tuple[float, float] | None:
    """Nearest and farthest depth, None where they say nothing."""
    near, far = row.tolist()
    return (near, far) if 0 < near < far < 1e12 else None


def _view(name: str, row: np.ndarray, info: PhotoInfo) -> View | str:
    """The view of a row [3 5], or the reason why it is left out."""
    if not np.isfinite(row).all():
        return "their poses are not finite"
    height, width, focal = row[:, 4].tolist()
    if not (min(height, width) > 0.5 and max(height, width) < 1e9):
        return f"the size of its camera is {width:g}x{height:g}"
    axes = row[:, :3]
    if np.abs(axes).max() > 2 or np.abs(axes.T @ axes - np.eye(3)).max() > 1e-2 or np.linalg.det(axes) < 0:
        return "their poses are no rotations"
    if np.abs(row[:, 3]).max() > 1e12:
        return f"their poses are {np.abs(row[:, 3]).max():g} units away"
    lens = Lens("SIMPLE_PINHOLE", (focal, width / 2, height / 2), round(width), round(height))
    down, right, back = axes.T
    pose = Rigid.from_matrix(torch.from_numpy(np.stack([right, down, -back, row[:, 3]], 1)))
    return posed_view(name, lens, pose, info, f"{width:.0f}x{height:.0f} {focal:.6g}")


def _photo_folder(root: Path, options: ReadOptions) -> Path:
    """The folder that --images or `split.json` names, else the one whose photos have a suitable size."""
    named = options.images or Split.load(root).images
    if named:
        return named_folder(root, named)
    folders = photo_folders(root)
    if not folders:
        raise SplatError(f"{root} has {_FILE} but no photos: put them into {root / 'images'}.")
    sides = [max(image_size(list_photos(f)[0]) or (0, 0)) for f in folders]
    fitting = [i for i, side in enumerate(sides) if 0 < side <= _MAX_SIDE]
    best = max(fitting, key=lambda i: sides[i]) if fitting else min(range(len(sides)), key=lambda i: sides[i])
    return folders[best]
