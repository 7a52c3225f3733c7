"""What pairs of photos say about a finished model: evidence that bundle adjustment did not use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splat.core.capture import Capture
from splat.poses.features import PhotoFeatures
from splat.poses.model import Observations, registered_ids

TURNED = 10.0
"""Degrees between two rotations from which on they contradict each other."""
_RESAMPLES, _MAX_SPREAD = 4, 5.0
"""A pair's own rotation is certain when that of random halves of its matches is within this many degrees of it."""
_MAX_ERROR = 6.0
"""Largest distance (px at the feature size) from its epipolar line of a match that a pose explains."""


@dataclass(frozen=True, eq=False)
class PairEvidence:
    """The two-view geometry of a pair of photos compared with the model."""

    name_a: str
    name_b: str
    matches: int
    """Verified matches."""
    shared: int
    """Model points that both photos observe."""
    rotation_error: float | None
    """Angle between the pair's own relative rotation and the model's, degrees; None where the pair's is uncertain."""
    explained: float = 0.0
    """Share of the verified matches that the model's own relative pose explains."""

    def turned(self, degrees: float = TURNED) -> bool:
        """The pair is certain of a rotation that the model does not have, nor does the model explain its matches."""
        return self.rotation_error is not None and self.rotation_error > degrees and self.explained < 0.5

    @property
    def apart(self) -> bool:
        """Many matches, but hardly a common point of the model, which does not explain the matches either."""
        return self.shared < 0.05 * self.matches and self.explained < 0.5

    @property
    def agrees(self) -> bool:
        """The pair is certain of its rotation and the model has it."""
        return self.rotation_error is not None and not self.turned() and not self.apart


def rotation_angles(rotations: np.ndarray) -> np.ndarray:
    """Angles in degrees of rotation matrices [n 3 3]."""
    cosine = (np.trace(rotations, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def sampson_error(a: np.ndarray, b: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Distance [m] from the epipolar lines (Sampson) of matching normalized image points [m 2], for b_from_a =
    (rotation, translation)."""
    t = translation / max(float(np.linalg.norm(translation)), 1e-12)
    skew = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    essential = skew @ rotation
    x, y = np.concatenate([a, np.ones((len(a), 1))], 1), np.concatenate([b, np.ones((len(b), 1))], 1)
    line_b, line_a = x @ essential.T, y @ essential
    value = (y * line_b).sum(1)
    weight = (line_b[:, :2] ** 2).sum(1) + (line_a[:, :2] ** 2).sum(1)
    return np.abs(value) / np.sqrt(np.maximum(weight, 1e-18))


@dataclass(frozen=True, eq=False)
class OwnPose:
    """The relative pose of two photos by their matches alone; the translation is known up to its length."""

    rotation: np.ndarray
    """b_from_a [3 3]."""
    translation: np.ndarray
    inliers: np.ndarray
    """Rows of the matches that agree with it."""
    certain: bool
    """A full essential matrix that most matches agree with, and whose rotation halves of them give again."""


def own_pose(
    camera_a: Any, xy_a: np.ndarray, camera_b: Any, xy_b: np.ndarray, seed: int, resamples: int = _RESAMPLES
) -> OwnPose | None:
    """From matching pixels [m 2] of two pycolmap cameras; None where no pose is found."""
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.compute_relative_pose = True
    options.ransac.random_seed = seed
    a, b = np.asarray(xy_a, np.float64), np.asarray(xy_b, np.float64)
    rows = np.repeat(np.arange(len(a), dtype=np.uint32)[:, None], 2, 1)

    def estimate(which: np.ndarray) -> Any:
        return pycolmap.estimate_calibrated_two_view_geometry(camera_a, a, camera_b, b, which, options)

    whole = estimate(rows)
    if whole.cam2_from_cam1 is None:
        return None
    pose = whole.cam2_from_cam1
    turn = np.array(pose.rotation.matrix())
    inliers = np.array(whole.inlier_matches)[:, 0]
    # A plane leaves two solutions for the pose: only pairs with a full essential matrix are certain.
    certain = whole.config == int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED) and len(inliers) >= 0.7 * len(a)
    rng = np.random.default_rng(seed)
    for _ in range(resamples if certain else 0):
        half = np.sort(rng.permutation(inliers)[: max(8, len(inliers) // 2)])
        again = estimate(rows[half])
        if again.cam2_from_cam1 is None:
            certain = False
            break
        other = np.array(again.cam2_from_cam1.rotation.matrix())
        if float(rotation_angles((other.T @ turn)[None])[0]) > _MAX_SPREAD:
            certain = False
            break
    return OwnPose(turn, np.array(pose.translation), inliers, bool(certain))


def own_rotation_error(
    camera_a: Any, xy_a: np.ndarray, camera_b: Any, xy_b: np.ndarray, rotation: np.ndarray, seed: int
) -> float | None:
    """Angle (degrees) between the pair's own relative rotation and the given b_from_a; None where its own is not
    certain. Random halves are asked only where the two differ: agreement of two sources needs no more."""
    own = own_pose(camera_a, xy_a, camera_b, xy_b, seed, resamples=0)
    if own is None or not own.certain:
        return None
    error = float(rotation_angles((own.rotation.T @ rotation)[None])[0])
    if error > TURNED:
        own = own_pose(camera_a, xy_a, camera_b, xy_b, seed)
    return error if own is not None and own.certain else None


def explained_share(
    camera_a: Any, xy_a: np.ndarray, camera_b: Any, xy_b: np.ndarray, rotation: np.ndarray, translation: np.ndarray,
    max_error: float = _MAX_ERROR,
) -> float:  # fmt: skip
    """Share of matching pixels [m 2] within `max_error` px of their epipolar lines under a relative pose b_from_a."""
    if not len(xy_a):
        return 0.0
    a = np.asarray(camera_a.cam_from_img(np.asarray(xy_a, np.float64)))
    b = np.asarray(camera_b.cam_from_img(np.asarray(xy_b, np.float64)))
    error = sampson_error(a, b, rotation, translation) * camera_b.mean_focal_length()
    return float((error < max_error).mean())


def pair_evidence(
    capture: Capture,
    model: Any,
    features: Sequence[PhotoFeatures],
    geometries: Mapping[tuple[int, int], Any],
    points: Observations,
    seed: int,
    strong: int = 60,
    max_pairs: int = 150,
    per_photo: int = 6,
    only: frozenset[int] | None = None,
) -> list[PairEvidence]:
    """Evidence of pairs of registered views with at least `strong` inlier matches: the `per_photo` strongest of each
    photo, and up to `max_pairs` evenly chosen.

    Each pair's relative pose is estimated again, from its matches and the model's cameras.
    capture: all views that SfM was given. geometries: verified pairs (i, j) of its view indices. points: the model's.
    only: pairs of these views alone.
    """
    registered = set(registered_ids(model))
    usable = [
        pair for pair, g in sorted(geometries.items())
        if pair[0] in registered and pair[1] in registered and len(g.inlier_matches) >= strong
        and (only is None or not only.isdisjoint(pair))
    ]  # fmt: skip
    seen_by: dict[int, set[int]] = {
        i: set(points.point_rows[points.view_ids == i].tolist()) for i in sorted({i for pair in usable for i in pair})
    }
    out = []
    for i, j in _chosen(usable, geometries, max_pairs, per_photo):
        a, b = model.image(i + 1), model.image(j + 1)
        camera_a, camera_b = model.camera(a.camera_id), model.camera(b.camera_id)
        rows = geometries[i, j].inlier_matches
        xy_a, xy_b = features[i].xy[rows[:, 0]], features[j].xy[rows[:, 1]]
        relative = b.cam_from_world() * a.cam_from_world().inverse()
        turn, shift = np.array(relative.rotation.matrix()), np.array(relative.translation)
        error = own_rotation_error(camera_a, xy_a, camera_b, xy_b, turn, seed)
        share = explained_share(camera_a, xy_a, camera_b, xy_b, turn, shift)
        shared = len(seen_by[i] & seen_by[j])
        out.append(PairEvidence(capture.views[i].name, capture.views[j].name, len(rows), shared, error, share))
    return out


def _chosen(
    usable: Sequence[tuple[int, int]], geometries: Mapping[tuple[int, int], Any], max_pairs: int, per_photo: int
) -> list[tuple[int, int]]:
    if len(usable) <= max_pairs:
        return list(usable)
    chosen = {usable[i] for i in np.linspace(0, len(usable) - 1, max_pairs).round().astype(int)}
    count: dict[int, int] = {}
    for pair in sorted(usable, key=lambda p: -len(geometries[p].inlier_matches)):
        if any(count.get(i, 0) < per_photo for i in pair):
            chosen.add(pair)
            for i in pair:
                count[i] = count.get(i, 0) + 1
    return sorted(chosen)
