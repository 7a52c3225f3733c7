"""From a COLMAP model to a posed capture: pinhole cameras, coloured points, tracks in pixels of the working size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.geometry import Rigid
from splat.core.lens import pinhole_for
from splat.poses.features import PhotoFeatures


@dataclass(frozen=True, eq=False)
class Observations:
    """All points of a model and their observations as arrays: n points, m observations."""

    xyz: np.ndarray
    """float64 [n 3]"""
    errors: np.ndarray
    """float64 [n], mean reprojection error, px at the feature size"""
    point_rows: np.ndarray
    """int64 [m], row in `xyz`"""
    view_ids: np.ndarray
    """int64 [m], index of the view"""
    feature_ids: np.ndarray
    """int64 [m], index of the feature in its photo"""

    def lengths(self) -> np.ndarray:
        """Track lengths, int64 [n]."""
        return np.bincount(self.point_rows, minlength=len(self.xyz))

    def select(self, keep: np.ndarray) -> Observations:
        """The points where `keep` [n] is true, with their observations."""
        new_row = np.cumsum(keep) - 1
        m = keep[self.point_rows]
        return Observations(
            self.xyz[keep], self.errors[keep], new_row[self.point_rows[m]], self.view_ids[m], self.feature_ids[m]
        )


def observations(model: Any) -> Observations:
    """The observations of a pycolmap.Reconstruction whose image ids are 1 + the index of the view."""
    model.update_point_3d_errors()
    ids = sorted(model.point3D_ids())
    points = [model.points3D[i] for i in ids]
    rows, views, features = [], [], []
    for row, point in enumerate(points):
        for element in point.track.elements:
            rows.append(row)
            views.append(element.image_id - 1)
            features.append(element.point2D_idx)
    return Observations(
        np.array([p.xyz for p in points], dtype=np.float64).reshape(-1, 3),
        np.array([p.error for p in points], dtype=np.float64),
        np.array(rows, dtype=np.int64),
        np.array(views, dtype=np.int64),
        np.array(features, dtype=np.int64),
    )


def reliable(points: Observations, max_error: float = 2.0, plenty: int = 500) -> np.ndarray:
    """bool [n]: points with a mean reprojection error of at most `max_error` px; with more than 8 photos also at least
    three observations, if that leaves at least `plenty` points and half of the others.

    COLMAP has removed points with a triangulation angle below 1.5 degrees already.
    """
    keep = points.errors <= max_error
    long = keep & (points.lengths() >= 3)
    # Two-view points are mostly correct when photos are few and mostly noise when there are many.
    views = len(np.unique(points.view_ids))
    return long if views > 8 and long.sum() >= max(plenty, 0.5 * keep.sum()) else keep if keep.any() else ~keep


def registered_ids(model: Any) -> list[int]:
    """Indices of the registered views, ascending."""
    return sorted(i - 1 for i in model.reg_image_ids())


def world_from_cam(model: Any, view_id: int) -> Rigid:
    """The pose of a registered view."""
    m = torch.from_numpy(np.array(model.image(view_id + 1).cam_from_world().matrix(), dtype=np.float64))
    return Rigid.from_matrix(m).inverse()


def lens_of(camera: Any) -> Lens:
    """The lens of a pycolmap.Camera."""
    return Lens(camera.model.name, tuple(float(p) for p in camera.params), camera.width, camera.height)


def working_camera(view: View, lens: Lens) -> Camera:
    """The pinhole of a lens, scaled as the view's working size is to the size of the lens."""
    pinhole = pinhole_for(lens)
    ratio_x, ratio_y = view.camera.width / lens.width, view.camera.height / lens.height
    return pinhole.resized(max(1, round(pinhole.width * ratio_x)), max(1, round(pinhole.height * ratio_y)))


def undistort_pixels(xy: np.ndarray, lens: Lens, camera: Camera) -> np.ndarray:
    """Pixels [n 2] of the distorted photo, at the size of `lens` -> pixels [n 2] of the pinhole `camera`, float64."""
    import pycolmap

    source = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    rays = np.asarray(source.cam_from_img(np.asarray(xy, dtype=np.float64).reshape(-1, 2)))
    return rays * [camera.fx, camera.fy] + [camera.cx, camera.cy]


def to_capture(
    capture: Capture,
    model: Any,
    features: Sequence[PhotoFeatures],
    points: Observations,
    keep_cameras: bool = False,
) -> Capture:
    """The registered views of `capture` with poses, pinhole cameras, points and tracks from `model`.

    features: of all views of `capture`. keep_cameras: the views keep their cameras, bit for bit.
    """
    ids = registered_ids(model)
    views: list[View] = []
    pixels = np.zeros((len(points.view_ids), 2))
    rgb = np.zeros((len(points.xyz), 3))
    cameras: dict[tuple, Camera] = {}
    new_id = {}
    for i in ids:
        view = capture.views[i]
        lens = lens_of(model.camera(model.image(i + 1).camera_id))
        key = (lens, view.camera.width, view.camera.height)
        if key not in cameras:
            cameras[key] = working_camera(view, lens)
        camera = view.camera if keep_cameras else cameras[key]
        new_id[i] = len(views)
        views.append(replace(view, camera=camera, world_from_cam=world_from_cam(model, i)))
        seen = points.view_ids == i
        pixels[seen] = undistort_pixels(features[i].xy[points.feature_ids[seen]], lens, camera)
        np.add.at(rgb, points.point_rows[seen], features[i].rgb[points.feature_ids[seen]])
    rgb /= np.maximum(points.lengths(), 1)[:, None] * 255.0
    inside = np.isfinite(pixels).all(1)
    return replace(
        capture,
        views=tuple(views),
        points=PointCloud(torch.from_numpy(points.xyz).float(), torch.from_numpy(rgb).float()),
        tracks=Tracks(
            torch.tensor([new_id[int(v)] for v in points.view_ids[inside]], dtype=torch.int64),
            torch.from_numpy(points.point_rows[inside]),
            torch.from_numpy(pixels[inside]).float(),
        ),
    )
