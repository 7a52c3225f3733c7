"""Photos that structure from motion leaves out, placed by matches with posed photos and the dense depth of those.

A photo may match others where the model has no points: a point needs two posed photos that see it, depth by stereo only
texture that they share.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.slots import DepthMap, DepthPrior, Reporter
from splat.poses.features import PhotoFeatures
from splat.poses.mapping import in_utf8
from splat.poses.model import lens_of, observations, registered_ids, reliable, to_capture, undistort_pixels
from splat.poses.refine import adjust
from splat.poses.reregistration import MIN_INLIERS, MIN_SHARE, agrees, few_points

_SIDE = 640
"""Long side of the photos that depth is computed for, px."""
_LINKED, _PHOTOS = 4, 8
"""Posed photos whose depth is used for one photo, those that match it best; and with those that their depth is computed
from."""
_MIN_CONFIDENCE = 0.5
"""Least probability of a depth that is used; RANSAC judges the rest."""
_MAX_ERROR = 6.0
"""RANSAC threshold, px at the feature size."""
_MIN_SPREAD = 0.05
"""Standard deviation of the inliers' positions along either axis of their ellipse, as a share of the long side: what
lies on one spot or line says little about a pose."""
_MIRRORED = 1.2
"""A photo is mirrored when with left and right exchanged more than this times as many matches agree on a pose."""
_MAX_ANGLE = 90.0
"""Largest median angle, degrees, at which a photo sees what it matches, against the photos that it matches: the mirror
image of a plane is what is seen from behind it."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Placement:
    """How a photo was placed."""

    name: str
    inliers: int
    """Correspondences with depth that agree on the pose."""
    correspondences: int
    by: tuple[str, ...]
    """The photos whose depth was used."""

    @property
    def sentence(self) -> str:
        others = ", ".join(shown(n) for n in self.by)
        return (
            f"{shown(self.name)} was placed by the dense depth of {others} ({self.inliers} of {self.correspondences} "
            "matches agree): look at it."
        )

    def summary(self) -> dict[str, Any]:
        return {"inliers": self.inliers, "correspondences": self.correspondences, "by": list(self.by)}


def place_by_depth(
    capture: Capture,
    model: Any,
    features: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    geometries: Mapping[Pair, Any],
    missing: Sequence[int],
    depth: DepthPrior,
    constant_cameras: Collection[int],
    report: Reporter,
    seed: int,
    threads: int,
) -> tuple[Any, list[Placement]]:
    """The model (pycolmap.Reconstruction) with those of the views `missing` that found a place, adjusted; and how. The
    model given is not changed, and is returned where there are none.

    features: of all views, in each those of the model first. cameras: a pycolmap.Camera of each view, for views
    that the model does not know. geometries: verified pairs of these features. constant_cameras: ids of cameras whose
    intrinsics are known.

    The pose is P3P in LO-RANSAC, then refined, then adjusted with the whole model, where every match that agreed is a
    point. A place is kept where enough matches agree, over enough of the photo, and not better with left and right
    exchanged; where the photo does not see its matches from behind; and where afterwards it observes as many points as
    the others (`few_points`) and its pairs agree with it.
    """
    placements: list[Placement] = []
    given, left = model, list(missing)
    failed: dict[int, list[int]] = {}
    """The photos that one could not be placed with."""
    while left:
        linked = {i: _linked(i, registered_ids(model), geometries) for i in left}
        by = {i: [j for j, _ in linked[i][:_LINKED]] for i in left}
        able = [i for i in left if by[i] and by[i] != failed.get(i)]
        if not able:
            break
        if model is given:
            model = _with_all_features(given, capture, features, cameras, missing)
        i = min(able, key=lambda i: (-linked[i][0][1], i))
        found = _placed(
            capture, model, features, geometries, i, by[i], depth, constant_cameras, report, seed, threads
        )  # fmt: skip
        if found is None:
            failed[i] = by[i]
            continue
        model, placement = found
        report.info(placement.sentence)
        placements.append(placement)
        left.remove(i)  # the others may match it
    return (model if placements else given), placements


def _linked(i: int, registered: Sequence[int], geometries: Mapping[Pair, Any]) -> list[tuple[int, int]]:
    """Registered views that view i matches, with the number of verified matches, most first."""
    counts = [(j, geometries.get((min(i, j), max(i, j)))) for j in registered if j != i]
    return sorted(((j, len(g.inlier_matches)) for j, g in counts if g is not None), key=lambda c: (-c[1], c[0]))


def _placed(
    capture: Capture, model: Any, features: Sequence[PhotoFeatures], geometries: Mapping[Pair, Any], i: int,
    linked: Sequence[int], depth: DepthPrior, constant_cameras: Collection[int], report: Reporter, seed: int,
    threads: int,
) -> tuple[Any, Placement] | None:  # fmt: skip
    import pycolmap

    try:
        world = _points_of_matches(capture, model, features, geometries, i, linked, depth, report, seed)
    except SplatError as e:  # no compiled kernels
        report.info(f"depth for photos without a pose: {e}")
        return None
    total = len(world.mine)
    if total < MIN_INLIERS:
        return None
    trial = pycolmap.Reconstruction(model)
    image = trial.image(i + 1)
    camera = pycolmap.Camera(trial.camera(image.camera_id).todict())
    shared = any(trial.image(j + 1).camera_id == image.camera_id for j in registered_ids(trial))
    fixed = shared or image.camera_id in constant_cameras
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.estimate_focal_length = not fixed
    options.ransac.max_error = _MAX_ERROR
    options.ransac.random_seed = seed
    options.ransac.min_inlier_ratio = 0.05
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.refine_focal_length = not fixed
    xy = features[i].xy[world.mine].astype(np.float64)
    flipped = pycolmap.Camera(camera.todict())
    answer = pycolmap.estimate_and_refine_absolute_pose(xy, world.xyz, camera, options, refinement)
    if answer is None:
        return None
    mirror = pycolmap.estimate_and_refine_absolute_pose(
        xy * [-1, 1] + [camera.width, 0], world.xyz, flipped, options, refinement
    )  # fmt: skip
    if mirror is not None and mirror["num_inliers"] > _MIRRORED * answer["num_inliers"]:
        return None
    inliers = np.asarray(answer["inlier_mask"])
    # One feature may have several depths; it counts once.
    count = len(np.unique(world.mine[inliers]))
    if count < max(MIN_INLIERS, MIN_SHARE * len(np.unique(world.mine))) or _spread(xy[inliers], camera) < _MIN_SPREAD:
        return None
    if not fixed:
        trial.camera(image.camera_id).params = list(camera.params)
    centre = np.array(answer["cam_from_world"].inverse().translation)
    if _angles(centre, world, inliers, trial) > _MAX_ANGLE:
        return None
    frame = trial.frame(image.frame_id)
    frame.rig_from_world = answer["cam_from_world"]
    trial.register_frame(image.frame_id)
    for row in np.flatnonzero(inliers):
        _observe(trial, (i + 1, int(world.mine[row])), (world.theirs[row][0] + 1, world.theirs[row][1]), world.xyz[row])
    adjust(trial, constant_cameras, threads, 30)
    pycolmap.ObservationManager(trial).filter_all_points3D(4.0, 1.5)
    trial.update_point_3d_errors()
    counts = {k: int(trial.image(k + 1).num_points3D) for k in registered_ids(trial)}
    if i not in counts or counts[i] < MIN_INLIERS or i in few_points(counts):
        return None
    if not agrees(capture, trial, features, geometries, i, seed):
        return None
    by = tuple(capture.views[j].name for j in linked if any(t[0] == j for t in world.theirs))
    return trial, Placement(capture.views[i].name, count, len(np.unique(world.mine)), by)


@dataclass(frozen=True, eq=False)
class _Correspondences:
    mine: np.ndarray
    """int64 [n], features of the photo to be placed."""
    theirs: list[tuple[int, int]]
    """View and feature that each matches."""
    xyz: np.ndarray
    """float64 [n 3], the point there, in the model's frame."""


def _points_of_matches(
    capture: Capture, model: Any, features: Sequence[PhotoFeatures], geometries: Mapping[Pair, Any], i: int,
    linked: Sequence[int], depth: DepthPrior, report: Reporter, seed: int,
) -> _Correspondences:  # fmt: skip
    """Where the verified matches of view i with `linked` ones are: the model's points where it has them, else depth."""
    points = observations(model)
    points = points.select(reliable(points))
    posed = to_capture(capture, model, features, points)
    ids = registered_ids(model)
    used = _with_sources(linked, ids, points)
    small = posed.select([k in used for k in ids]).resized(_SIDE)
    maps = dict(zip([k for k in ids if k in used], zip(small.views, depth(small, report, seed))))
    mine: list[int] = []
    theirs: list[tuple[int, int]] = []
    xyz: list[np.ndarray] = []
    for j in linked:
        rows = np.asarray(geometries[min(i, j), max(i, j)].inlier_matches).astype(np.int64)
        rows = rows if i < j else rows[:, ::-1]
        view, found = maps[j]
        lens = lens_of(model.camera(model.image(j + 1).camera_id))
        pixels = undistort_pixels(features[j].xy[rows[:, 1]], lens, view.camera)
        at, sure = _unprojected(found, view, pixels)
        image = model.image(j + 1)
        for k, (a, b) in enumerate(rows.tolist()):
            if image.points2D[b].has_point3D():
                point = np.array(model.point3D(image.points2D[b].point3D_id).xyz)
            elif sure[k]:
                point = at[k]
            else:
                continue
            mine.append(a)
            theirs.append((j, b))
            xyz.append(point)
    return _Correspondences(np.array(mine, np.int64), theirs, np.array(xyz, np.float64).reshape(-1, 3))


def _with_sources(linked: Sequence[int], registered: Sequence[int], points: Any) -> set[int]:
    """The views `linked` and those that share most points of the model with them."""
    observed = {k: set(points.point_rows[points.view_ids == k].tolist()) for k in registered}
    used = set(linked)
    common = {k: max(len(observed[k] & observed[j]) for j in linked) for k in registered if k not in used}
    return used | set(sorted(common, key=lambda k: (-common[k], k))[: _PHOTOS - len(used)])


def _unprojected(found: DepthMap, view: Any, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World points [n 3] at pixels [n 2] of a view by its depth map, and where that knows them, bool [n]."""
    import torch

    height, width = found.depth.shape
    scale = np.array([width / view.camera.width, height / view.camera.height])
    cells = np.floor(np.nan_to_num(pixels, nan=-1.0, posinf=-1.0, neginf=-1.0) * scale).astype(np.int64)
    inside = (cells >= 0).all(1) & (cells[:, 0] < width) & (cells[:, 1] < height)
    columns, lines = cells[:, 0].clip(0, width - 1), cells[:, 1].clip(0, height - 1)
    z = found.depth[lines, columns].double()
    sure = inside & (found.confidence[lines, columns] >= _MIN_CONFIDENCE).numpy() & (z > 0).numpy()
    rays = torch.from_numpy(np.nan_to_num(pixels))
    at = view.pose.apply(view.camera.unproject(rays, z))
    return at.numpy(), sure & np.isfinite(at.numpy()).all(1)


def _spread(xy: np.ndarray, camera: Any) -> float:
    """Standard deviation of pixels [n 2] along the narrow axis of their ellipse, as a share of the long side."""
    return float(np.sqrt(max(np.linalg.eigvalsh(np.cov(xy.T))[0], 0.0))) / max(camera.width, camera.height)


def _angles(centre: np.ndarray, world: _Correspondences, inliers: np.ndarray, model: Any) -> float:
    """Median angle, degrees, between the rays to the inliers from a camera's centre and from the other photo."""
    rows = np.flatnonzero(inliers)
    centres = {j: np.array(model.image(j + 1).projection_center()) for j in {world.theirs[r][0] for r in rows}}
    a = world.xyz[rows] - centre
    b = world.xyz[rows] - np.array([centres[world.theirs[r][0]] for r in rows])
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    return float(np.degrees(np.arccos(np.clip(np.median(cosine), -1, 1))))


def _with_all_features(
    model: Any, capture: Capture, features: Sequence[PhotoFeatures], cameras: Sequence[Any], missing: Sequence[int]
) -> Any:
    """A copy of the model that knows the views `missing` too, and all of the features of each: those of a
    pycolmap.Image cannot be added to."""
    import pycolmap

    out = pycolmap.Reconstruction()
    registered = registered_ids(model)
    for k in sorted({*registered, *missing}):
        known = k in registered
        camera = model.camera(model.image(k + 1).camera_id) if known else cameras[k]
        if not out.exists_camera(camera.camera_id):
            known_camera = model.exists_camera(camera.camera_id)
            out.add_camera_with_trivial_rig(model.camera(camera.camera_id) if known_camera else camera)
        image = pycolmap.Image(name=in_utf8(capture.views[k].name), camera_id=camera.camera_id, image_id=k + 1)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in features[k].xy.astype(np.float64)])
        if known:
            out.add_image_with_trivial_frame(image, model.image(k + 1).cam_from_world())
        else:
            out.add_image_with_trivial_frame(image)
    for point_id in sorted(model.point3D_ids()):
        point = model.point3D(point_id)
        out.add_point3D(point.xyz, point.track)
    return out


def _observe(model: Any, mine: tuple[int, int], theirs: tuple[int, int], xyz: np.ndarray) -> None:
    """Makes features of two images, (image id, feature), observations of one point; leaves alone those that already are
    of different ones, and never adds a second observation by the same image."""
    import pycolmap

    ids = [model.image(image).points2D[feature] for image, feature in (mine, theirs)]
    points = [int(p.point3D_id) if p.has_point3D() else None for p in ids]
    if points == [None, None]:
        track = pycolmap.Track()
        track.add_element(*mine)
        track.add_element(*theirs)
        model.add_point3D(xyz, track)
    elif None in points:
        point = next(p for p in points if p is not None)
        (image, feature) = mine if points[0] is None else theirs
        if all(e.image_id != image for e in model.point3D(point).track.elements):
            model.add_observation(point, pycolmap.TrackElement(image, feature))
