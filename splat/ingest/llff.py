"""LLFF: `poses_bounds.npy`, one row per photo in the order of their names.

A row is a 3x5 matrix and the nearest and farthest depth. The matrix is [rotation | translation | height, width, focal]:
`world_from_cam` whose axes are down, right, back, and a pinhole at the full size of the photos
(Mildenhall et al. 2019, github.com/Fyusion/LLFF).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from splat.core.camera import Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.cameras import camera_through
from splat.ingest.exif import read_info
from splat.ingest.folders import image_size, list_photos, name_in, named_folder, photo_folders
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
                f"{root / _FILE} has {len(poses)} poses for {len(photos)} photos in {folder}: "
                "restore the original photos, or use --ignore-poses."
            )
        views = []
        for row, photo in zip(poses, photos):
            info = read_info(photo)
            if isinstance(info, str):
                report.warn(f"{photo} is left out: {info}.")
                continue
            height, width, focal = row[:, 4]
            lens = Lens("SIMPLE_PINHOLE", (focal, width / 2, height / 2), round(width), round(height))
            down, right, back = row[:, 0], row[:, 1], row[:, 2]
            pose = Rigid.from_matrix(torch.from_numpy(np.stack([right, down, -back, row[:, 3]], 1)))
            camera, pose = camera_through(lens, pose, info)
            view = View(
                name=name_in(folder, photo),
                image_path=photo,
                photo_size=info.size,
                camera=camera,
                world_from_cam=pose,
                camera_group=f"{width:.0f}x{height:.0f} {focal:.6g}",
                focal_from="file",
            )
            views.append(view)
        return Capture(tuple(views), source=self.name)


def _load(path: Path) -> np.ndarray:
    """float64 [n 3 5]. Raises SplatError where the file is invalid."""
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise SplatError(f"{path} cannot be read ({e}): copy it again, or use --ignore-poses.") from None
    if table.ndim != 2 or table.shape[1] != 17 or not np.isfinite(table).all():
        raise SplatError(f"{path} has {table.shape} values where n x 17 finite ones are expected: make it again.")
    poses = table[:, :15].reshape(-1, 3, 5).astype(np.float64)
    axes = poses[:, :, :3]
    upright = np.abs(axes.transpose(0, 2, 1) @ axes - np.eye(3)).max(initial=0) < 1e-2
    if not upright or (poses[:, :, 4] <= 0).any() or (np.linalg.det(axes) < 0).any():
        raise SplatError(f"{path} has poses that are no rotations, or sizes below 1: make it again.")
    return poses


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
