"""IDR and NeuS (DTU, BlendedMVS): `cameras.npz` or `cameras_sphere.npz` beside `image/` and `mask/`.

`world_mat_i` (4x4) projects world coordinates to pixels of photo i by its top three rows; `scale_mat_i` maps
normalized coordinates, in which the object lies inside the unit sphere, to world coordinates
(Yariv et al. 2020, github.com/lioryariv/idr, DATA_CONVENTION.md). The capture is in normalized coordinates, as in these
programs; exports are in world coordinates. Their rays go through whole pixel numbers, so the centre of the top-left
pixel is (0, 0) there and (0.5, 0.5) here.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from splat.core.camera import Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.geometry import Rigid, Similarity
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.arrays import npz_names, read_npz
from splat.ingest.cameras import posed_view
from splat.ingest.exif import PhotoInfo, read_info
from splat.ingest.folders import list_photos, name_in, named_folder, photo_folders
from splat.ingest.left_out import LeftOut
from splat.ingest.names import loose
from splat.ingest.splits import Split

_FILES = ("cameras_sphere.npz", "cameras.npz", "cameras_large.npz")
_MASKS = ("mask", "masks")
_MAX_SKEW = 1e-3
"""Of a camera's axes, in multiples of its focal length."""


class IdrReader:
    """A folder with `cameras.npz` or `cameras_sphere.npz` beside `image/`."""

    name = "idr"

    def accepts(self, path: Path) -> bool:
        return path.is_dir() and _cameras_file(path) is not None

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        file = _cameras_file(path)
        assert file is not None
        arrays = read_npz(file)
        folder = _photo_folder(path, file, options)
        photos = list_photos(folder)
        rows = _rows(photos, arrays, file, folder)
        masks = _masks(path, photos)
        scale = _world_from_normalized(arrays, rows)
        views = []
        left_out = LeftOut(file, report)
        for photo, row, mask in zip(photos, rows, masks):
            info = read_info(photo)
            if isinstance(info, str):
                report.warn(f"{shown(photo)} is left out: {info}.")
                continue
            name = name_in(folder, photo)
            view = _view(name, arrays.get(f"world_mat_{row}"), scale, info, mask)
            if isinstance(view, str):
                left_out.add(name, view)
            else:
                views.append(view)
        left_out.close(len(views))
        return Capture(tuple(views), world_from_source=scale.inverse(), source=self.name)


def _cameras_file(root: Path) -> Path | None:
    """The file of cameras; a `cameras.npz` of something else is none."""
    if not photo_folders(root):
        return None
    return next((f for n in _FILES if (f := root / n).is_file() and _has_cameras(f)), None)


def _has_cameras(file: Path) -> bool:
    """Also where the file is damaged: to pass it over would lose the poses without a word."""
    names = npz_names(file)
    return not names or any(n.startswith("world_mat_") for n in names)


def _photo_folder(root: Path, file: Path, options: ReadOptions) -> Path:
    named = options.images or Split.load(root).images
    if named:
        return named_folder(root, named)
    folders = photo_folders(root)
    return next((f for f in folders if f.name == "image"), folders[0])


def _rows(photos: list[Path], arrays: dict[str, np.ndarray], file: Path, folder: Path) -> list[int]:
    """The number of each photo's matrices: its place among the sorted names, or where photos are missing, the number
    that is its name. Raises SplatError where neither fits."""
    known = {int(n[10:]) for n in arrays if n.startswith("world_mat_") and n[10:].isdecimal() and len(n) < 20}
    if known == set(range(len(photos))):
        return list(range(len(photos)))
    numbers = [int(p.stem) for p in photos if p.stem.isdecimal() and len(p.stem) < 10]
    if len(set(numbers)) == len(photos) and set(numbers) <= known:
        return numbers
    raise SplatError(
        f"{shown(file)} has {len(known)} cameras for {len(photos)} photos in {shown(folder)}: "
        "restore the original photos, or use --ignore-poses."
    )


def _masks(root: Path, photos: list[Path]) -> list[Path | None]:
    """The mask of each photo: that of its name, else, where there are as many masks as photos, that of its place
    (`image/000007.png`, `mask/007.png`)."""
    folder = next((f for n in _MASKS if (f := root / n).is_dir()), None)
    masks = list_photos(folder) if folder else []
    by_name = {loose((m.name,)): m for m in masks}
    named = [by_name.get(loose((p.name,))) for p in photos]
    if not any(named) and len(masks) == len(photos):
        return list(masks)
    return named


def _world_from_normalized(arrays: dict[str, np.ndarray], rows: list[int]) -> Similarity:
    """The scale matrix that all photos share. Raises SplatError where they differ or it is no similarity."""
    given = [m for r in rows if (m := arrays.get(f"scale_mat_{r}")) is not None and m.shape == (4, 4)]
    if not given:
        return Similarity.identity()
    first = given[0]
    a = first[:3, :3]
    scale = float(np.cbrt(np.linalg.det(a))) if np.isfinite(first).all() else 0.0
    shared = all(np.allclose(m, first, rtol=1e-6, atol=1e-9) for m in given)
    if not (shared and 1e-9 < scale < 1e9 and np.allclose(a @ a.T, scale**2 * np.eye(3), atol=1e-4 * scale**2)):
        return Similarity.identity()
    rotation = torch.from_numpy(np.ascontiguousarray(a / scale))
    return Similarity(scale, rotation, torch.from_numpy(np.ascontiguousarray(first[:3, 3])))


def _view(name: str, world: np.ndarray | None, scale: Similarity, info: PhotoInfo, mask: Path | None) -> View | str:
    if world is None or world.shape not in {(4, 4), (3, 4)}:
        return "their world_mat is not a 4x4 matrix of numbers"
    if not np.isfinite(world).all():
        return "their world_mat is not finite"
    found = decomposed(world[:3] @ scale.matrix().numpy())
    if found is None:
        return "their world_mat is not the projection of a camera"
    k, pose = found
    if abs(k[0, 1]) > _MAX_SKEW * k[0, 0]:
        return f"their camera is skewed ({k[0, 1]:g} px)"
    width, height = info.stored_size
    lens = Lens("PINHOLE", (k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5), width, height)
    group = f"{width}x{height} " + " ".join(f"{v:.6g}" for v in lens.params)
    return posed_view(name, lens, pose, info, group, mask)


def decomposed(projection: np.ndarray) -> tuple[np.ndarray, Rigid] | None:
    """Intrinsics [3 3] (positive focal lengths, last entry 1) and `world_from_cam` of a projection matrix [3 4], which
    is known up to a factor; None where it has no centre (Hartley and Zisserman 2004, section 6.2.4)."""
    m = projection[:, :3]
    size = float(np.abs(m).max())
    if not 1e-150 < size < 1e150 or not np.isfinite(projection).all():
        return None
    projection = projection / (size if np.linalg.det(m / size) > 0 else -size)
    m = projection[:, :3]
    if np.linalg.cond(m) > 1e12:
        return None
    q, r = np.linalg.qr(np.flipud(m).T)  # RQ: the QR decomposition with rows and columns reversed
    k, rotation = np.flipud(np.fliplr(r.T)), np.flipud(q.T)
    signs = np.sign(np.diag(k))
    k, rotation = k * signs, signs[:, None] * rotation
    centre = -np.linalg.solve(m, projection[:, 3])
    if not math.isfinite(float(np.abs(centre).max())) or np.abs(centre).max() > 1e12:
        return None
    pose = Rigid(torch.from_numpy(np.ascontiguousarray(rotation.T)), torch.from_numpy(centre))
    return k / k[2, 2], pose
