"""COLMAP models for other programs: of the photos as they are, or of undistorted ones beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from splat.core.camera import Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.files import write_atomic, write_errors
from splat.core.foreign import path_inside
from splat.core.geometry import Rigid
from splat.core.interrupts import import_module
from splat.core.slots import Reporter
from splat.export.posed_photos import PosedPhoto, posed_photos, source_points


def write_colmap(capture: Capture, folder: Path, photos: bool = True) -> None:
    """Write the posed views (PINHOLE cameras at the working size), points and tracks in the source frame.

    photos: also write `images/`, undistorted at the working size (JPEG at quality 95, PNG with alpha).
    Views without a pose are left out. Raises SplatError where no view has one.
    """
    original = _posed(capture, folder)
    names = _write_photos(original.views, folder) if photos else [v.name for v in original.views]
    undo = original.world_from_source.inverse()
    lenses = [
        Lens("PINHOLE", (v.camera.fx, v.camera.fy, v.camera.cx, v.camera.cy), v.camera.width, v.camera.height)
        for v in original.views
    ]
    cameras = [_ModelCamera(n, k, undo.apply_pose(v.pose)) for n, k, v in zip(names, lenses, original.views)]
    _write(_model(original, cameras, _observations(original)), path_inside(folder, "sparse/0"), text=False)


def write_colmap_model(folder: Path, capture: Capture, report: Reporter, text: bool = False) -> int:
    """Write `cameras`, `images` and `points3D` (`.bin` or `.txt`) of the photos as they are stored, with their lenses,
    in the source frame; returns the number of photos. What COLMAP 4 adds, `rigs` and `frames`, is there too.

    Raises SplatError where no view has a pose.
    """
    original = _posed(capture, folder)
    photos = posed_photos(original, report)
    cameras = [_ModelCamera(p.view.name, p.lens, p.world_from_cam) for p in photos]
    observed = [
        (rows, _on_photo(pixels, photo)) for (rows, pixels), photo in zip(_observations(original), photos, strict=True)
    ]
    _write(_model(original, cameras, observed), folder, text)
    return len(photos)


@dataclass(frozen=True, eq=False)
class _ModelCamera:
    name: str
    lens: Lens
    world_from_cam: Rigid


def _posed(capture: Capture, folder: Path) -> Capture:
    if all(v.world_from_cam is None for v in capture.views):
        raise SplatError(f"{folder} was not written: no photo has a pose yet; run the poses stage first.")
    return capture.select([v.world_from_cam is not None for v in capture.views])


def _model(
    capture: Capture, cameras: Sequence[_ModelCamera], observed: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Any:  # -> pycolmap.Reconstruction
    pycolmap: Any = import_module("pycolmap")

    model = pycolmap.Reconstruction()
    camera_ids: dict[Lens, int] = {}
    elements: dict[int, list] = {}
    for i, (c, (rows, pixels)) in enumerate(zip(cameras, observed, strict=True), 1):
        if c.lens not in camera_ids:
            camera_ids[c.lens] = len(camera_ids) + 1
            k = c.lens
            camera = pycolmap.Camera(model=k.model, width=k.width, height=k.height, params=list(k.params))
            camera.camera_id = camera_ids[k]
            model.add_camera_with_trivial_rig(camera)
        # as bytes: names of files need not be UTF-8
        image = pycolmap.Image(name=os.fsencode(c.name), keypoints=pixels, camera_id=camera_ids[c.lens], image_id=i)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(c.world_from_cam.inverse().matrix().numpy()[:3]))
        for number, row in enumerate(rows):
            elements.setdefault(int(row), []).append(pycolmap.TrackElement(i, number))
    points = source_points(capture)
    if points is not None:  # in doubles, which coordinates far from the origin need
        positions, colours = points[0].numpy(), (points[1] * 255 + 0.5).byte().numpy()
        for row in range(len(positions)):
            track = pycolmap.Track(elements.get(row, []))
            point = pycolmap.Point3D(xyz=positions[row], track=track, color=colours[row])
            model.add_point3D_with_id(row + 1, point)
    return model


def _write(model: Any, folder: Path, text: bool) -> None:
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part") as part:
            (model.write_text if text else model.write_binary)(part)
            for file in sorted(Path(part).iterdir()):
                file.replace(folder / file.name)


def _on_photo(pixels: np.ndarray, photo: PosedPhoto) -> np.ndarray:
    """Pixels [m 2] of the view's pinhole -> pixels of the photo as stored, through its lens."""
    if not len(pixels):
        return pixels
    pycolmap: Any = import_module("pycolmap")

    c, k = photo.view.camera, photo.lens
    rays = np.stack([(pixels[:, 0] - c.cx) / c.fx, (pixels[:, 1] - c.cy) / c.fy, np.ones(len(pixels))], 1)
    camera = pycolmap.Camera(model=k.model, width=k.width, height=k.height, params=list(k.params))
    return np.asarray(camera.img_from_cam(rays @ photo.stored_from_view.T)).reshape(-1, 2)


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
