"""COLMAP's sparse model, binary or text, with any camera model.

Conventions (colmap.github.io/format.html): poses are `cam_from_world`, camera axes as ours, the centre of the top-left
pixel is (0.5, 0.5) as ours. COLMAP reads pixels as stored and ignores EXIF orientation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.camera import Lens
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.interrupts import import_module
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.cameras import camera_through
from splat.ingest.exif import PhotoInfo, read_info
from splat.ingest.folders import PhotoIndex, named_folder, photo_folders
from splat.ingest.splits import Split

_PARENTS = ("sparse", "colmap/sparse", "colmap", "dense/sparse")


class ColmapReader:
    """`sparse/0` (or `sparse/`, `colmap/sparse/0`, the folder itself) beside `images/`."""

    name = "colmap"

    def accepts(self, path: Path) -> bool:
        return path.is_dir() and bool(find_models(path))

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        model, folder = _largest_model(find_models(path), report)
        registered = sorted((i for i in model.images.values() if i.has_pose), key=lambda i: i.name)
        if not registered:
            raise SplatError(f"{folder} has no image with a pose: run SfM again, or use --ignore-poses.")
        index = _photos_of(path, folder, [i.name for i in registered], options)
        found = [(i, index.find(i.name)) for i in registered]
        missing = [i.name for i, p in found if p is None]
        if missing:
            _report_missing(missing, len(found), folder, index.folder, report)
        images, views, infos = [], [], []
        for image, photo in found:
            if photo is None:
                continue
            info = read_info(photo)
            if isinstance(info, str):
                report.warn(f"{photo} is left out: {info}.")
                continue
            images.append(image)
            infos.append(info)
            views.append(_view(image, info))
        points, tracks = _points_and_tracks(model, images, views, infos)
        return Capture(tuple(views), points, tracks, source=self.name)


def find_models(root: Path) -> list[Path]:
    """Model folders in the first usual location that has any. One SfM run may leave several: `0`, `1`, ..."""
    for parent in [root / p for p in _PARENTS] + [root]:
        numbered = sorted(d for d in parent.iterdir() if _is_model(d)) if parent.is_dir() and parent != root else []
        if numbered:
            return numbered
        if _is_model(parent):
            return [parent]
    return []


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and any(
        all((folder / f"{n}{s}").is_file() for n in ("cameras", "images")) for s in (".bin", ".txt")
    )


def _largest_model(folders: list[Path], report: Reporter) -> tuple[Any, Path]:  # -> pycolmap.Reconstruction
    models = [(_load(f), f) for f in folders]
    best, folder = max(models, key=lambda m: m[0].num_reg_images())
    if len(models) > 1:
        counts = ", ".join(f"{f.name}: {m.num_reg_images()}" for m, f in models)
        report.info(f"{len(models)} models (photos in {counts}); {folder} is the largest and is used.")
    return best, folder


def _load(folder: Path) -> Any:
    pycolmap: Any = import_module("pycolmap")

    suffix = ".bin" if (folder / "images.bin").is_file() else ".txt"
    try:
        if (folder / f"points3D{suffix}").is_file():
            return pycolmap.Reconstruction(folder)
        with tempfile.TemporaryDirectory() as scratch:  # poses without points: pycolmap needs the file
            for name in ("cameras", "images", "rigs", "frames"):
                if (folder / f"{name}{suffix}").is_file():
                    (Path(scratch) / f"{name}{suffix}").symlink_to((folder / f"{name}{suffix}").resolve())
            (Path(scratch) / f"points3D{suffix}").write_bytes(b"\0" * 8 if suffix == ".bin" else b"")
            return pycolmap.Reconstruction(scratch)
    except (RuntimeError, ValueError, IndexError, OSError, MemoryError) as e:  # a corrupt count leads to MemoryError
        reason = str(e).strip().splitlines()[-1][:120] if str(e).strip() else type(e).__name__
        raise SplatError(
            f"{folder} is not a readable COLMAP model ({reason}): export it again, or use --ignore-poses."
        ) from None


def _photos_of(root: Path, model: Path, names: list[str], options: ReadOptions) -> PhotoIndex:
    """The photo folder: the one that --images or `split.json` names, else the one with most of the model's photos."""
    named = options.images or Split.load(root).images
    if named:
        return PhotoIndex(named_folder(root, named))
    above = [root, model.parent, model.parent.parent] if model == root else [root]
    candidates = [f for a in above for f in [*photo_folders(a), a]]
    best = PhotoIndex(candidates[0])
    best_count = -1
    for folder in candidates:
        index = PhotoIndex(folder)
        count = sum(index.find(n) is not None for n in names)
        if count > best_count:
            best, best_count = index, count
        if count == len(names):
            break
    return best


def _report_missing(missing: list[str], total: int, model: Path, folder: Path, report: Reporter) -> None:
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    if total - len(missing) < max(2, total / 2):
        raise SplatError(
            f"{len(missing)} of the {total} photos of {model} are not in {folder} ({some}): "
            "put them there, or name their folder with --images."
        )
    report.warn(f"{len(missing)} of the {total} photos of {model} are not in {folder}: left out ({some}).")


def _lens(camera: Any) -> Lens:
    return Lens(camera.model.name, tuple(float(p) for p in camera.params), camera.width, camera.height)


def _view(image: Any, info: PhotoInfo) -> View:
    cam_from_world = Rigid.from_matrix(torch.from_numpy(np.array(image.cam_from_world().matrix())))
    camera, world_from_cam = camera_through(_lens(image.camera), cam_from_world.inverse(), info, stored_pixels=True)
    return View(
        name=image.name,
        image_path=info.path,
        photo_size=info.size,
        camera=camera,
        world_from_cam=world_from_cam,
        camera_group=f"camera {image.camera_id}",
        focal_from="file",
    )


def _points_and_tracks(
    model: Any, images: list[Any], views: list[View], infos: list[PhotoInfo]
) -> tuple[PointCloud | None, Tracks | None]:
    """Points (float64) and their observations, in pixels of each view's pinhole."""
    if not len(model.points3D):
        return None, None
    ids = sorted(model.points3D)
    positions = np.array([model.points3D[i].xyz for i in ids])
    rgb = np.array([model.points3D[i].color for i in ids], dtype=np.float64) / 255
    cloud = PointCloud(torch.from_numpy(positions), torch.from_numpy(rgb))
    row = {point_id: k for k, point_id in enumerate(ids)}
    view_ids, point_ids, pixels = [], [], []
    for v, (image, view, info) in enumerate(zip(images, views, infos)):
        seen = [(k, row[p.point3D_id]) for k, p in enumerate(image.points2D) if p.point3D_id in row]
        if not seen:
            continue
        which, rows = (np.array(column) for column in zip(*seen))
        rays = np.asarray(image.camera.cam_from_img(image.points2D)).reshape(-1, 2)[which]
        xy = _to_pinhole(rays, view, image, info)
        known = np.isfinite(xy).all(1)
        view_ids.append(np.full(int(known.sum()), v))
        point_ids.append(rows[known])
        pixels.append(xy[known])
    if not view_ids:
        return cloud, None
    tracks = Tracks(
        torch.from_numpy(np.concatenate(view_ids)),
        torch.from_numpy(np.concatenate(point_ids)),
        torch.from_numpy(np.concatenate(pixels)).float(),
    )
    return cloud, tracks


def _to_pinhole(rays: np.ndarray, view: View, image: Any, info: PhotoInfo) -> np.ndarray:
    """Normalized image coordinates of the model's camera [m 2] -> pixels [m 2] of the view."""
    assert view.world_from_cam is not None
    cam_from_model = view.world_from_cam.inverse() @ Rigid.from_matrix(
        torch.from_numpy(np.array(image.cam_from_world().inverse().matrix()))
    )  # the EXIF orientation, as a rotation about the optical axis
    turn = cam_from_model.rotation[:2, :2].numpy()
    xy = rays @ turn.T
    c = view.camera
    return np.stack([c.fx * xy[:, 0] + c.cx, c.fy * xy[:, 1] + c.cy], 1)
