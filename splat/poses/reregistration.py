"""Photos that a model places against the evidence are placed again by their verified matches, or left out of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from splat.core.capture import Capture
from splat.core.slots import Reporter
from splat.poses.doubts import Doubt, find_doubts
from splat.poses.evidence import PairEvidence, pair_evidence
from splat.poses.features import PhotoFeatures
from splat.poses.model import Observations, observations, registered_ids, reliable
from splat.poses.refine import adjust

_MAX_ERROR = 6.0
"""RANSAC threshold of the new pose, px at the feature size; the points were bent by the wrong pose."""
MIN_INLIERS, MIN_SHARE = 20, 0.5
"""2D-3D inliers that a pose found again needs, and their share of the correspondences."""
_FEW_POINTS, _SMALL_SHARE, _MATCHED_WELL = 12, 0.03, 60
"""A photo that observes fewer points of the model than both of the first (the second times the median) stands nowhere
if its strongest pair has at least so many matches (the last)."""

MirrorImages = Callable[[Sequence[int]], dict[str, str]]
"""Ids of registered photos -> the photos that are not among them and are mirror images, with the reason by name."""


@dataclass(frozen=True, eq=False)
class Settled:
    """A model of which no single photo is in doubt any more."""

    model: Any
    points: Observations
    """The reliable points."""
    evidence: list[PairEvidence]
    doubt: Doubt
    """About the whole, if any."""
    moved: dict[str, str] = field(default_factory=dict)
    """Photos that were placed again, with the evidence against their first place."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Photos that found no place, with the reason."""


def settle(
    capture: Capture,
    model: Any,
    features: Sequence[PhotoFeatures],
    geometries: Mapping[tuple[int, int], Any],
    constant_cameras: Collection[int],
    seed: int,
    threads: int,
    report: Reporter,
    mirror_images: MirrorImages | None = None,
) -> Settled:
    """Judge a model by its pairs; photos whose place most of their certain pairs contradict are removed from it, placed
    again against the points of the others, and kept where their pairs then agree. The model is adjusted once more
    after such a change, and is otherwise the one given.

    constant_cameras: ids of cameras whose intrinsics are known. mirror_images: of photos that observe almost no points,
    those that are mirror images, with the reason by name; asked only where there are such photos.
    """

    def judged(m: Any) -> tuple[Observations, list[PairEvidence], Doubt]:
        points = observations(m)
        points = points.select(reliable(points))
        evidence = pair_evidence(capture, m, features, geometries, points, seed)
        return points, evidence, find_doubts(evidence, m.num_reg_images())

    model, unheld = _without_unheld(capture, model, geometries, mirror_images)
    points, evidence, doubt = judged(model)
    settled = Settled(model, points, evidence, doubt, left_out=unheld)
    if not doubt.photos or doubt.whole or model.num_reg_images() - len(doubt.photos) < 2:
        return settled
    import pycolmap

    ids = {v.name: i for i, v in enumerate(capture.views)}
    doubtful = sorted(ids[name] for name in doubt.photos)
    changed = pycolmap.Reconstruction(model)
    for i in doubtful:
        changed.deregister_frame(changed.image(i + 1).frame_id)
    if changed.num_points3D() == 0 or changed.num_reg_images() < 2:
        return settled
    moved: dict[str, str] = {}
    left_out: dict[str, str] = dict(unheld)
    for i in doubtful:
        name = capture.views[i].name
        against, total = doubt.photos[name]
        report.info(f"{name} is placed against {against} of its {total} strongest pairs: looking for another place")
        if _registered_again(changed, i, features[i], geometries, seed) and agrees(
            capture, changed, features, geometries, i, seed
        ):
            moved[name] = f"{against} of its {total} strongest pairs contradicted where it stood first"
        else:
            if i + 1 in changed.reg_image_ids():
                changed.deregister_frame(changed.image(i + 1).frame_id)
            left_out[name] = (
                f"{against} of its {total} strongest pairs with other photos contradict every place found for it: is "
                "it mirrored, edited, or of something that moved or only looks alike?"
            )
    _adjust(changed, constant_cameras, threads)
    points, evidence, after = judged(changed)
    if after.photos:  # what is still against its pairs goes without a second try
        for name, (against, total) in after.photos.items():
            changed.deregister_frame(changed.image(ids[name] + 1).frame_id)
            moved.pop(name, None)
            left_out[name] = f"{against} of its {total} strongest pairs with other photos contradict its place"
        points, evidence, after = judged(changed)
        after = Doubt({}, after.whole)
    if not len(points.xyz):
        return settled
    return Settled(changed, points, evidence, after, moved, left_out)


def _without_unheld(
    capture: Capture,
    model: Any,
    geometries: Mapping[tuple[int, int], Any],
    mirror_images: MirrorImages | None,
) -> tuple[Any, dict[str, str]]:
    """The model without photos that stand nowhere, and why; the model itself where there are none, or where it is
    small.

    They observe almost none of the model's points, though they matched others well (adjustment found these matches
    wrong) or are mirror images. A photo that matched little has few points where it is right."""
    import pycolmap

    counts = {i: int(model.image(i + 1).num_points3D) for i in registered_ids(model)}
    strongest = dict.fromkeys(counts, 0)
    for (a, b), geometry in geometries.items():
        if a in counts and b in counts:
            for i in (a, b):
                strongest[i] = max(strongest[i], len(geometry.inlier_matches))
    weak = few_points(counts)
    usual = float(np.median(list(counts.values())))
    unheld = {}
    for i in weak:
        if strongest[i] >= _MATCHED_WELL:
            held = f"only {counts[i]} points of the model hold it, where others have about {usual:.0f}"
            unheld[capture.views[i].name] = f"{held}: the {strongest[i]} matches that placed it were found wrong"
    rest = [i for i in weak if capture.views[i].name not in unheld]
    if rest and mirror_images is not None:
        names = {capture.views[i].name for i in rest}
        found = mirror_images([i for i in counts if i not in weak])
        unheld |= {name: reason for name, reason in found.items() if name in names}
    if not unheld or len(counts) - len(unheld) < 3:
        return model, {}
    kept = pycolmap.Reconstruction(model)
    for i in weak:
        if capture.views[i].name in unheld:
            kept.deregister_frame(kept.image(i + 1).frame_id)
    return kept, unheld


def few_points(counts: Mapping[int, int]) -> list[int]:
    """Photos that observe almost none of the points of a model. `counts`: the points that each of them observes."""
    usual = float(np.median(list(counts.values())))
    limit = min(max(_FEW_POINTS, _SMALL_SHARE * usual), 0.2 * usual)
    return [i for i, n in counts.items() if n < limit]


def _registered_again(
    model: Any, i: int, f: PhotoFeatures, geometries: Mapping[tuple[int, int], Any], seed: int
) -> bool:
    """Register view `i` by the points that its verified matches observe in other photos (P3P in LO-RANSAC, then
    refinement), with the camera that the model has for it."""
    import pycolmap

    registered = set(registered_ids(model))
    found: set[tuple[int, int]] = set()
    for (a, b), geometry in geometries.items():
        if i not in (a, b):
            continue
        other, mine, theirs = (b, 0, 1) if a == i else (a, 1, 0)
        if other not in registered:
            continue
        seen = model.image(other + 1).points2D
        for row in np.asarray(geometry.inlier_matches):
            point = seen[int(row[theirs])]
            if point.has_point3D():
                found.add((int(row[mine]), int(point.point3D_id)))
    if len(found) < MIN_INLIERS:
        return False
    both = sorted(found)
    pixels = f.xy[[feature for feature, _ in both]].astype(np.float64)
    world = np.array([model.point3D(point).xyz for _, point in both])
    image = model.image(i + 1)
    camera = pycolmap.Camera(model.camera(image.camera_id).todict())
    estimate = pycolmap.AbsolutePoseEstimationOptions()
    estimate.ransac.max_error = _MAX_ERROR
    estimate.ransac.random_seed = seed
    estimate.ransac.min_inlier_ratio = 0.05
    answer = pycolmap.estimate_and_refine_absolute_pose(pixels, world, camera, estimate)
    if answer is None or answer["num_inliers"] < max(MIN_INLIERS, MIN_SHARE * len(both)):
        return False
    frame = model.frame(image.frame_id)
    frame.rig_from_world = answer["cam_from_world"]
    model.register_frame(image.frame_id)
    used_features: set[int] = set()
    used_points: set[int] = set()
    for (feature, point), inlier in zip(both, answer["inlier_mask"], strict=True):
        if inlier and feature not in used_features and point not in used_points:
            model.add_observation(point, pycolmap.TrackElement(i + 1, feature))
            used_features.add(feature)
            used_points.add(point)
    return True


def agrees(
    capture: Capture, model: Any, features: Sequence[PhotoFeatures], geometries: Mapping[tuple[int, int], Any], i: int,
    seed: int,
) -> bool:  # fmt: skip
    """Whether the pairs of view `i` agree with where it stands."""
    points = observations(model)
    evidence = pair_evidence(capture, model, features, geometries, points, seed, only=frozenset({i}))
    return capture.views[i].name not in find_doubts(evidence, model.num_reg_images()).photos


def _adjust(model: Any, constant_cameras: Collection[int], threads: int) -> None:
    """Bundle adjustment of the whole model; then what fits badly goes."""
    import pycolmap

    adjust(model, constant_cameras, threads, 30)
    pycolmap.ObservationManager(model).filter_all_points3D(4.0, 1.5)
    model.update_point_3d_errors()
