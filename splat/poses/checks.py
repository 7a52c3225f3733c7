"""Checks of a finished SfM model against evidence that bundle adjustment did not use: it may be complete and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splat.core.capture import Capture
from splat.poses.features import PhotoFeatures
from splat.poses.model import Observations, registered_ids


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


def consistency_warnings(capture: Capture, pairs: Sequence[PairEvidence]) -> list[str]:
    """One sentence for each check that a posed capture fails."""
    found = [
        inconsistent_rotations(pairs),
        duplicated_surfaces(pairs),
        points_behind_cameras(capture),
        implausible_field_of_view(capture),
    ]
    if capture.kind == "video":
        found.append(trajectory_jumps(capture))
    return [sentence for sentence in found if sentence]


def trajectory_jumps(capture: Capture, factor: float = 10.0, degrees: float = 25.0) -> str | None:
    """Consecutive video frames whose distance or rotation in the model is far above that of the steps around them."""
    views = [v for v in capture.views if v.world_from_cam is not None]
    if len(views) < 8:
        return None
    centres = capture.camera_centres().double().numpy()
    rotations = np.stack([v.world_from_cam.rotation.double().numpy() for v in views if v.world_from_cam is not None])
    step = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    turn = rotation_angles(np.einsum("nji,njk->nik", rotations[:-1], rotations[1:]))
    bad = []
    for i in range(len(step)):
        window = slice(max(0, i - 6), i + 7)
        # Standing still makes tiny steps: the whole video's median keeps them from making a normal step a jump.
        usual_step = max(float(np.median(step[window])), 0.5 * float(np.median(step)))
        usual_turn = float(np.median(turn[window]))
        if step[i] > factor * max(usual_step, 1e-12) or turn[i] > max(degrees, factor * usual_turn):
            bad.append(i)
    if not bad:
        return None
    where = ", ".join(f"{views[i].name} to {views[i + 1].name}" for i in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return (
        f"the camera jumps between neighbouring frames ({where}{more}): the model may be folded there; "
        "check the path, or cut the video at that moment."
    )


def inconsistent_rotations(pairs: Sequence[PairEvidence], degrees: float = 10.0, share: float = 0.1) -> str | None:
    """Pairs whose own relative rotation contradicts the model's, as where a loop of photos was closed wrongly."""
    informative = [p for p in pairs if p.rotation_error is not None]
    wrong = [p for p in informative if p.rotation_error is not None and p.rotation_error > degrees]
    if len(informative) < 3 or len(wrong) < max(2, share * len(informative)):
        return None
    worst = max(wrong, key=lambda p: p.matches)
    return (
        f"{len(wrong)} of {len(informative)} strongly matching pairs are turned by over {degrees:.0f} degrees against "
        f"the model (for example {worst.name_a} and {worst.name_b}): parts of it are probably wrong, as with "
        "look-alike sides of one building; add photos between them, or remove one side."
    )


def duplicated_surfaces(pairs: Sequence[PairEvidence], share: float = 0.1) -> str | None:
    """Pairs with many matches but hardly any common model points: the model contains the same surface twice."""
    apart = [p for p in pairs if p.shared < 0.05 * p.matches]
    if len(pairs) < 3 or len(apart) < max(2, share * len(pairs)):
        return None
    worst = max(apart, key=lambda p: p.matches)
    return (
        f"{len(apart)} of {len(pairs)} strongly matching pairs share almost no points of the model (for example "
        f"{worst.name_a} and {worst.name_b}): the model may contain a surface twice; add photos between them."
    )


def points_behind_cameras(capture: Capture, share: float = 0.02) -> str | None:
    """Points that lie behind a camera that observes them."""
    points, tracks = capture.points, capture.tracks
    if points is None or tracks is None or not len(tracks.view_ids):
        return None
    behind = 0
    for i, view in enumerate(capture.views):
        if view.world_from_cam is None:
            continue
        seen = points.positions[tracks.point_ids[tracks.view_ids == i]].double()
        behind += int((view.world_from_cam.inverse().apply(seen)[:, 2] <= 0).sum())
    if behind <= share * len(tracks.view_ids):
        return None
    percent = 100 * behind / len(tracks.view_ids)
    return f"{percent:.0f} % of the observed points lie behind their camera: the poses do not fit the photos."


def implausible_field_of_view(capture: Capture) -> str | None:
    """A field of view outside 8 to 140 degrees along the long side."""
    for v in capture.views:
        side = max(v.camera.width, v.camera.height)
        angle = float(np.degrees(2 * np.arctan(side / 2 / max(v.camera.fx, 1e-9))))
        if not 8 < angle < 140:
            return (
                f"the lens of {v.name} came out at {angle:.0f} degrees across its long side, which is unlikely: "
                "photos from more directions would pin it down."
            )
    return None


def rotation_angles(rotations: np.ndarray) -> np.ndarray:
    """Angles in degrees of rotation matrices [n 3 3]."""
    cosine = (np.trace(rotations, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def pair_evidence(
    capture: Capture,
    model: Any,
    features: Sequence[PhotoFeatures],
    geometries: dict[tuple[int, int], Any],
    points: Observations,
    seed: int,
    strong: int = 60,
    max_pairs: int = 150,
) -> list[PairEvidence]:
    """Evidence of up to `max_pairs` pairs of registered views with at least `strong` inlier matches.

    Each pair's relative pose is estimated again, from its matches and the model's cameras.
    capture: all views that SfM was given. geometries: verified pairs (i, j) of its view indices. points: the model's.
    """
    import pycolmap

    registered = set(registered_ids(model))
    chosen = [
        (pair, g) for pair, g in sorted(geometries.items())
        if pair[0] in registered and pair[1] in registered and len(g.inlier_matches) >= strong
    ]  # fmt: skip
    if len(chosen) > max_pairs:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, max_pairs).round().astype(int)]
    seen_by = [set(points.point_rows[points.view_ids == i].tolist()) for i in range(len(capture.views))]
    options = pycolmap.TwoViewGeometryOptions()
    options.compute_relative_pose = True
    options.ransac.random_seed = seed
    out = []
    for (i, j), geometry in chosen:
        a, b = model.image(i + 1), model.image(j + 1)
        rows = geometry.inlier_matches
        again = pycolmap.estimate_calibrated_two_view_geometry(
            model.camera(a.camera_id), features[i].xy.astype(np.float64),
            model.camera(b.camera_id), features[j].xy.astype(np.float64), rows, options,
        )  # fmt: skip
        error = None
        # A plane leaves two solutions for the pose: only pairs with a full essential matrix can contradict the model.
        calibrated = again.config == int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
        if calibrated and again.cam2_from_cam1 is not None and len(again.inlier_matches) >= 0.7 * len(rows):
            own = again.cam2_from_cam1.rotation.matrix()
            theirs = (b.cam_from_world() * a.cam_from_world().inverse()).rotation.matrix()
            error = float(rotation_angles((own.T @ theirs)[None])[0])
        shared = len(seen_by[i] & seen_by[j])
        out.append(PairEvidence(capture.views[i].name, capture.views[j].name, len(rows), shared, error))
    return out
