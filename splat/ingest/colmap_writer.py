"""Writes a capture as a COLMAP dataset for other programs: undistorted `images/` and `sparse/0/*.bin`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.foreign import path_inside
from splat.core.interrupts import import_module


def write_colmap(capture: Capture, folder: Path, photos: bool = True) -> None:
    """Write the posed views (PINHOLE cameras at the working size), points and tracks in the source frame.

    photos: also write `images/`, undistorted at the working size (JPEG at quality 95, PNG with alpha).
    Views without a pose are left out. Raises SplatError where no view has one.
    """
    pycolmap: Any = import_module("pycolmap")

    views = [v for v in capture.views if v.world_from_cam is not None]
    if not views:
        raise SplatError(f"{folder} was not written: no photo has a pose yet; run the poses stage first.")
    original = capture.select([v.world_from_cam is not None for v in capture.views])
    if original.points is not None:  # the format has doubles, which coordinates far from the origin need
        original = replace(original, points=original.points.to(torch.float64))
    original = original.transformed(original.world_from_source.inverse())
    model = pycolmap.Reconstruction()
    camera_ids: dict[tuple, int] = {}
    names = _write_photos(original.views, folder) if photos else [v.name for v in original.views]
    observed = _observations(original)
    elements: dict[int, list] = {}
    for i, (view, name) in enumerate(zip(original.views, names), 1):
        c = view.camera
        key = (c.fx, c.fy, c.cx, c.cy, c.width, c.height)
        if key not in camera_ids:
            camera_ids[key] = len(camera_ids) + 1
            camera = pycolmap.Camera(model="PINHOLE", width=c.width, height=c.height, params=list(key[:4]))
            camera.camera_id = camera_ids[key]
            model.add_camera_with_trivial_rig(camera)
        rows, pixels = observed[i - 1]
        # as bytes: names of files need not be UTF-8
        image = pycolmap.Image(name=os.fsencode(name), keypoints=pixels, camera_id=camera_ids[key], image_id=i)
        assert view.world_from_cam is not None
        pose = view.world_from_cam.inverse().matrix().numpy()[:3]
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        for k, row in enumerate(rows):
            elements.setdefault(int(row), []).append(pycolmap.TrackElement(i, k))
    if original.points is not None:
        positions = original.points.positions.double().numpy()
        colours = (original.points.rgb.clamp(0, 1) * 255 + 0.5).byte().numpy()
        for row in range(len(positions)):
            track = pycolmap.Track(elements.get(row, []))
            point = pycolmap.Point3D(xyz=positions[row], track=track, color=colours[row])
            model.add_point3D_with_id(row + 1, point)
    sparse = path_inside(folder, "sparse/0")
    sparse.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=sparse, prefix=".part") as part:
        model.write_binary(part)
        for file in sorted(Path(part).iterdir()):
            file.replace(sparse / file.name)


def _observations(capture: Capture) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per view: the rows [m] of the points it observes, and their pixels, float64 [m 2]."""
    empty = np.zeros(0, int), np.zeros((0, 2))
    if capture.tracks is None or capture.points is None:
        return [empty] * len(capture.views)
    view_ids = capture.tracks.view_ids.numpy()
    rows, pixels = capture.tracks.point_ids.numpy(), capture.tracks.pixels.double().numpy()
    return [(rows[view_ids == v], pixels[view_ids == v]) for v in range(len(capture.views))]


def _write_photos(views: Sequence[View], folder: Path) -> list[str]:
    """Write `images/` of a dataset folder and return the name of each view there. Raises SplatError where a name, or a
    link in the folder, leads out of it: the photos themselves may lie there."""
    images = path_inside(folder, "images")
    used = {v.name for v in views}
    names = []
    for view in views:
        photo = view.load()
        bgr = cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2BGR)
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]
        if photo.alpha is not None:
            bgr, suffix, options = np.dstack([bgr, photo.alpha]), ".png", []
        name = PurePosixPath(view.name)
        if name.suffix.lower() not in {suffix, ".jpeg" if suffix == ".jpg" else suffix}:
            stem = name.stem
            name = name.with_suffix(suffix)
            while name.as_posix() in used:  # 0.jpg and 0.png
                stem += "_"
                name = name.with_name(stem + suffix)
        used.add(name.as_posix())
        path = path_inside(images, name.as_posix(), "a photo")
        write_atomic(path, cv2.imencode(suffix, bgr, options)[1].tobytes())
        names.append(name.as_posix())
    return names
