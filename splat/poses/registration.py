"""Localization: poses of new photos against a fixed reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, View
from splat.core.geometry import Rigid
from splat.core.machine import available_cores
from splat.core.slots import Reporter
from splat.poses import features as feature_files
from splat.poses.features import FeatureSettings, PhotoFeatures, quiet
from splat.poses.matching import MatchSettings, match_pair, one_thread_each
from splat.poses.model import lens_of, undistort_pixels, working_camera


@dataclass(frozen=True)
class LocalizeSettings:
    """How a photo is localized against existing points."""

    max_size: int = 1600
    """Long side of the photos in which features are detected, px."""
    max_count: int = 6144
    """Features per photo."""
    snap: float = 1.5
    """Largest distance between a feature and a point's observation that are the same, px at the feature size."""
    max_error: float = 6.0
    """RANSAC threshold, px at the feature size."""
    min_inliers: int = 12
    neighbours: int = 40
    """Each new photo is matched with at most this many registered ones, those that look most alike."""
    seed: int = 0


def localize(
    capture: Capture,
    new_views: Sequence[View],
    workdir: Path,
    report: Reporter,
    settings: LocalizeSettings = LocalizeSettings(),
) -> dict[str, View]:
    """The new views that could be localized, by name, with pose and pinhole camera in the frame of `capture`.

    capture: registered views with points and tracks, in any frame; it is not changed.
    Matches the SIFT features of each new photo with those of the registered ones, which gives 2D-3D correspondences
    with the points that these observe, and solves for the pose (P3P in LO-RANSAC, then refinement). The lens is that of
    a registered photo of the same camera and size; otherwise the focal length is estimated with the pose. Views that
    cannot be localized are left out.
    """
    quiet()
    if capture.points is None or capture.tracks is None or not new_views:
        return {}
    features = FeatureSettings(max_size=settings.max_size, max_count=settings.max_count)
    threads = available_cores()
    known = feature_files.extract(capture.views, features, workdir / "features", report, threads)
    new = feature_files.extract(tuple(new_views), features, workdir / "features", report, threads)
    feature_points = [_feature_points(capture, i, f, settings.snap) for i, f in enumerate(known)]
    positions = capture.points.positions.double().numpy()
    found: dict[str, View] = {}
    for done, (view, f) in enumerate(zip(new_views, new), 1):
        pixels, points = _correspondences(f, known, feature_points, settings, threads)
        localized = _estimate_pose(capture, view, f, pixels, positions[points], settings)
        if localized is not None:
            found[view.name] = localized
        report.progress(done, len(new_views), step="localization", localized=len(found))
    return found


def _feature_points(capture: Capture, view_id: int, f: PhotoFeatures, snap: float) -> np.ndarray:
    """int64 [n]: for each of the n features of a registered photo the row of the point it observes, or -1."""
    out = np.full(len(f), -1, dtype=np.int64)
    tracks, view = capture.tracks, capture.views[view_id]
    assert tracks is not None
    mine = tracks.view_ids == view_id
    seen, ids = tracks.pixels[mine].double().numpy(), tracks.point_ids[mine].numpy()
    if not len(seen) or not len(f):
        return out
    lens = view.camera.lens or _pinhole_lens(view.camera)
    scaled = np.asarray(f.xy, np.float64) * [lens.width / f.size[0], lens.height / f.size[1]]
    pinhole = view.camera
    xy = undistort_pixels(scaled, lens, pinhole)
    tolerance = snap * pinhole.width / f.size[0]
    for start in range(0, len(seen), 512):
        distance = np.linalg.norm(xy[None] - seen[start : start + 512, None], axis=2)
        nearest = distance.argmin(1)
        near = distance[np.arange(len(nearest)), nearest] <= tolerance
        out[nearest[near]] = ids[start : start + 512][near]
    return out


def _correspondences(
    f: PhotoFeatures,
    known: Sequence[PhotoFeatures],
    feature_points: Sequence[np.ndarray],
    settings: LocalizeSettings,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """2D-3D correspondences: pixels [m 2] of the new photo (at its feature size) and rows [m] of the points."""
    if len(known) > settings.neighbours:
        from splat.poses.pairs import most_similar

        others: list[int] = [int(i) for i in most_similar([*known, f], settings.neighbours, settings.seed)[-1]]
    else:
        others = list(range(len(known)))

    def work(i: int) -> np.ndarray:
        rows = match_pair(f, known[i], MatchSettings())
        points = feature_points[i][rows[:, 1]]
        return np.stack([rows[:, 0].astype(np.int64), points], 1)[points >= 0]

    both = np.concatenate([np.zeros((0, 2), np.int64), *one_thread_each(work, others, threads)])
    both = np.unique(both, axis=0)  # the same correspondence found through several photos counts once
    return f.xy[both[:, 0]].astype(np.float64), both[:, 1]


def _estimate_pose(
    capture: Capture, view: View, f: PhotoFeatures, pixels: np.ndarray, points: np.ndarray, settings: LocalizeSettings
) -> View | None:
    import pycolmap

    if len(pixels) < settings.min_inliers:
        return None
    lens, known_focal = _lens_for(capture, view, f.size)
    camera = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    camera.rescale(*f.size)
    estimate = pycolmap.AbsolutePoseEstimationOptions()
    estimate.estimate_focal_length = not known_focal
    estimate.ransac.max_error = settings.max_error
    estimate.ransac.random_seed = settings.seed
    estimate.ransac.min_inlier_ratio = 0.02
    refine = pycolmap.AbsolutePoseRefinementOptions()
    refine.refine_focal_length = not known_focal
    answer: dict[str, Any] | None = pycolmap.estimate_and_refine_absolute_pose(pixels, points, camera, estimate, refine)
    if answer is None or answer["num_inliers"] < settings.min_inliers:
        return None
    matrix = torch.from_numpy(np.array(answer["cam_from_world"].matrix(), dtype=np.float64))
    working = working_camera(view, lens_of(camera))
    return replace(view, camera=working, world_from_cam=Rigid.from_matrix(matrix).inverse())


def _lens_for(capture: Capture, view: View, size: tuple[int, int]) -> tuple[Lens, bool]:
    """The lens of a photo (that of a registered photo of its camera, its own, or a guess), and whether its focal length
    is known."""
    for other in capture.views:
        if view.camera_group and other.camera_group == view.camera_group and other.photo_size == view.photo_size:
            return other.camera.lens or _pinhole_lens(other.camera), True
    camera = view.camera.resized(*size)
    if view.focal_from == "file":
        return view.camera.lens or _pinhole_lens(camera), True
    return Lens("SIMPLE_PINHOLE", (camera.fx, camera.cx, camera.cy), *size), False


def _pinhole_lens(camera: Camera) -> Lens:
    return Lens("PINHOLE", (camera.fx, camera.fy, camera.cx, camera.cy), camera.width, camera.height)
