"""COLMAP's sparse model, binary or text, with any camera model.

Conventions (colmap.github.io/format.html): poses are `cam_from_world`, camera axes as ours, the centre of the top-left
pixel is (0.5, 0.5) as ours. COLMAP reads pixels as stored and ignores EXIF orientation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.camera import Lens
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.errors import SplatError
from splat.core.foreign import read_text, shown
from splat.core.geometry import Rigid
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.cameras import posed_view
from splat.ingest.colmap_binary import read_binary
from splat.ingest.colmap_model import ColmapModel, ModelImage, cam_from_world, lens_camera
from splat.ingest.colmap_text import read_text_model
from splat.ingest.exif import PhotoInfo, read_info
from splat.ingest.folders import named_folder, photo_folders
from splat.ingest.left_out import LeftOut, report_missing
from splat.ingest.names import find_in_folder, match_names, some_of
from splat.ingest.splits import Split

_PARENTS = ("sparse", "colmap/sparse", "colmap", "dense/sparse")
_MODEL_FOLDER = re.compile(r"^(\d+|(.*_)?(sparse|colmap|glomap|dense|undistorted|distorted|model)s?(_?\d+)?)$", re.I)
"""Folders in which a model is looked for where the usual ones have none: dense/0, sparse_3/0, glomap/0."""
_MAX_DEPTH = 3


class ColmapReader:
    """`sparse/0` (or `sparse/`, `colmap/sparse/0`, `dense/0/sparse`, the folder itself) beside `images/`."""

    name = "colmap"

    def accepts(self, path: Path) -> bool:
        return path.is_dir() and bool(find_models(path))

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        model = _largest_model(find_models(path), report)
        for warning in model.warnings:
            report.warn(warning)
        if not model.images:
            raise SplatError(f"{shown(model.folder)} has no image with a pose: run SfM again, or use --ignore-poses.")
        images = sorted(model.images, key=lambda i: i.name)
        photos, folder = _find_photos(path, model.folder, [i.name for i in images], options)
        missing = [i.name for i, p in zip(images, photos) if p is None]
        report_missing(missing, len(images), model.folder, folder, report, needed=max(2, -(-len(images) // 2)))
        used, views = [], []
        left_out = LeftOut(model.folder, report)
        for image, photo in zip(images, photos):
            if photo is None:
                continue
            info = read_info(photo)
            if isinstance(info, str):
                report.warn(f"{shown(photo)} is left out: {info}.")
                continue
            view = _view(image, model.cameras.get(image.camera_id), info)
            if isinstance(view, str):
                left_out.add(image.name, view)
            else:
                used.append((image, info))
                views.append(view)
        left_out.close(len(views))
        views = _with_test_list(views, model.folder, report)
        points, tracks = _points_and_tracks(model, used, views)
        return Capture(tuple(views), points, tracks, source=self.name)


def find_models(root: Path) -> list[Path]:
    """Model folders in the first usual location that has any, else below the first folder named like one. One SfM run
    may leave several: `0`, `1`, ..."""
    for parent in [root / p for p in _PARENTS] + [root]:
        numbered = [d for d in _folders(parent) if _is_model(d)] if parent != root else []
        if numbered:
            return numbered
        if _is_model(parent):
            return [parent]
    level = [root]
    for _ in range(_MAX_DEPTH):
        level = [d for folder in level for d in _folders(folder) if _MODEL_FOLDER.match(d.name)]
        if models := [d for d in level if _is_model(d)]:
            return models
    return []


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(d for d in folder.iterdir() if d.is_dir())
    except OSError:  # not there, or not readable
        return []


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and any(
        all((folder / f"{n}{s}").is_file() for n in ("cameras", "images")) for s in (".bin", ".txt")
    )


def _largest_model(folders: list[Path], report: Reporter) -> ColmapModel:
    models, errors = list[ColmapModel](), list[SplatError]()
    for folder in folders:
        try:
            models.append(read_binary(folder) if (folder / "images.bin").is_file() else read_text_model(folder))
        except SplatError as e:
            errors.append(e)
    if not models:
        raise errors[0]
    for error in errors:
        report.warn(f"One of {len(folders)} models is left out: {error}")
    best = max(models, key=lambda m: len(m.images))
    if len(models) > 1:
        counts = ", ".join(f"{shown(m.folder.name)}: {len(m.images)}" for m in models)
        report.info(f"{len(models)} models (photos in {counts}); {shown(best.folder)} is the largest and is used.")
    return best


def _find_photos(root: Path, model: Path, names: list[str], options: ReadOptions) -> tuple[list[Path | None], Path]:
    """The photo of each name, and the folder searched: the one that --images or `split.json` names, else the one with
    most of the model's photos, the nearest to the model first."""
    named = options.images or Split.load(root).images
    if named:
        folder = named_folder(root, named)
        return find_in_folder(folder, names), folder
    above = [f for f in model.parents if f == root or f.is_relative_to(root)] if model != root else [root]
    inside = [c for f in above for c in [*photo_folders(f), f]]
    outside = [c for f in (root.parent, root.parent.parent) for c in [*photo_folders(f), f]] if model == root else []
    best, best_count = (list[Path | None](), inside[0]), -1
    for folder in inside + outside:
        if folder in outside and 2 * best_count >= len(names):
            break
        found = find_in_folder(folder, names)
        count = len(names) - found.count(None)
        if count > best_count:
            best, best_count = (found, folder), count
        if count == len(names):
            break
    return best


def _view(image: ModelImage, lens: Lens | str | None, info: PhotoInfo) -> View | str:
    if lens is None:
        return f"the model has no camera {image.camera_id}"
    if isinstance(lens, str):
        return lens
    pose = cam_from_world(image)
    if isinstance(pose, str):
        return pose
    world_from_cam = Rigid.from_matrix(torch.from_numpy(np.array(pose.matrix()))).inverse()
    return posed_view(image.name, lens, world_from_cam, info, f"camera {image.camera_id}")


def _with_test_list(views: list[View], model: Path, report: Reporter) -> list[View]:
    """Views whose names `test.txt` beside the model lists, one a line, are held out."""
    file = model / "test.txt"
    if not file.is_file():
        return views
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    held_out = {i for i in match_names(names, [v.name for v in views]) if i is not None}
    if names and not held_out:
        report.warn(f"None of the photos in {shown(file)} is there ({some_of(names)}): it is ignored.")
    return [replace(v, role="test") if i in held_out else v for i, v in enumerate(views)]


def _points_and_tracks(
    model: ColmapModel, images: list[tuple[ModelImage, PhotoInfo]], views: list[View]
) -> tuple[PointCloud | None, Tracks | None]:
    """Points (float64) and their observations, in pixels of each view's pinhole."""
    points = model.read_points()
    if points is None:
        return None, None
    cloud = PointCloud(torch.from_numpy(points.positions), torch.from_numpy(points.rgb.astype(np.float64) / 255))
    view_ids, point_ids, pixels = [], [], []
    for v, ((image, _), view) in enumerate(zip(images, views)):
        ids = image.point_ids.astype(points.ids.dtype)
        rows = np.searchsorted(points.ids, ids).clip(max=len(points.ids) - 1)
        which = np.flatnonzero(points.ids[rows] == ids)
        if not len(which):
            continue
        lens = model.cameras[image.camera_id]
        assert isinstance(lens, Lens)
        rays = np.asarray(lens_camera(lens).cam_from_img(np.array(image.pixels[which]))).reshape(-1, 2)
        xy = _to_pinhole(rays, view, image)
        known = np.isfinite(xy).all(1)
        view_ids.append(np.full(int(known.sum()), v))
        point_ids.append(rows[which][known])
        pixels.append(xy[known])
    if not view_ids:
        return cloud, None
    tracks = Tracks(
        torch.from_numpy(np.concatenate(view_ids)),
        torch.from_numpy(np.concatenate(point_ids)),
        torch.from_numpy(np.concatenate(pixels)).float(),
    )
    return cloud, tracks


def _to_pinhole(rays: np.ndarray, view: View, image: ModelImage) -> np.ndarray:
    """Normalized image coordinates of the model's camera [m 2] -> pixels [m 2] of the view."""
    assert view.world_from_cam is not None
    pose: Any = cam_from_world(image)
    cam_from_model = view.world_from_cam.inverse() @ Rigid.from_matrix(
        torch.from_numpy(np.array(pose.inverse().matrix()))
    )  # the EXIF orientation, as a rotation about the optical axis
    turn = cam_from_model.rotation[:2, :2].numpy()
    xy = rays @ turn.T
    c = view.camera
    return np.stack([c.fx * xy[:, 0] + c.cx, c.fy * xy[:, 1] + c.cy], 1)
