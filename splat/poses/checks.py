"""Models that are complete but wrong, found by evidence that bundle adjustment did not use."""

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
    """What one pair of photos says by itself, beside what the model says of it."""

    name_a: str
    name_b: str
    matches: int
    """Verified matches."""
    shared: int
    """Points of the model seen by both."""
    rotation_error: float | None
    """Angle between the pair's own relative rotation and the model's, degrees; None where a pair cannot tell."""


def doubts(capture: Capture, pairs: Sequence[PairEvidence]) -> list[str]:
    """One sentence for every sign that a posed capture is wrong although it looks complete."""
    found = [open_cycles(pairs), doubled_surfaces(pairs), points_behind(capture), odd_lens(capture)]
    if capture.kind == "video":
        found.append(jumps(capture))
    return [sentence for sentence in found if sentence]


def jumps(capture: Capture, factor: float = 10.0, degrees: float = 25.0) -> str | None:
    """Frames next to each other in time that lie far apart in the model, against the steps around them."""
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


def open_cycles(pairs: Sequence[PairEvidence], degrees: float = 10.0, share: float = 0.1) -> str | None:
    """Pairs whose own relative rotation contradicts the model's: cycles of photos that do not close."""
    told = [p for p in pairs if p.rotation_error is not None]
    wrong = [p for p in told if p.rotation_error is not None and p.rotation_error > degrees]
    if len(told) < 3 or len(wrong) < max(2, share * len(told)):
        return None
    worst = max(wrong, key=lambda p: p.matches)
    return (
        f"{len(wrong)} of {len(told)} strongly matching pairs are turned by over {degrees:.0f} degrees against the "
        f"model (for example {worst.name_a} and {worst.name_b}): parts of it are probably wrong, as with look-alike "
        "sides of one building; add photos between them, or remove one side."
    )


def doubled_surfaces(pairs: Sequence[PairEvidence], share: float = 0.1) -> str | None:
    """Pairs with many matches and hardly a common point: the same surface stands twice in the model."""
    apart = [p for p in pairs if p.shared < 0.05 * p.matches]
    if len(pairs) < 3 or len(apart) < max(2, share * len(pairs)):
        return None
    worst = max(apart, key=lambda p: p.matches)
    return (
        f"{len(apart)} of {len(pairs)} strongly matching pairs share next to no points of the model (for example "
        f"{worst.name_a} and {worst.name_b}): a surface may stand in it twice."
    )


def points_behind(capture: Capture, share: float = 0.02) -> str | None:
    """Points behind a camera that saw them."""
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
    return f"{percent:.0f} % of the points lie behind a camera that saw them: the poses do not fit the photos."


def odd_lens(capture: Capture) -> str | None:
    """Fields of view that hardly any lens has."""
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
    most: int = 150,
) -> list[PairEvidence]:
    """Evidence of up to `most` strong pairs of registered views, each with its own relative pose, recomputed with the
    model's cameras. `capture` is the one that was offered (all views)."""
    import pycolmap

    registered = set(registered_ids(model))
    chosen = [
        (pair, g) for pair, g in sorted(geometries.items())
        if pair[0] in registered and pair[1] in registered and len(g.inlier_matches) >= strong
    ]  # fmt: skip
    if len(chosen) > most:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, most).round().astype(int)]
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
        # A plane seen from near by has two explanations; only a pair with depth in it can contradict the model.
        clear = again.config == int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
        if clear and again.cam2_from_cam1 is not None and len(again.inlier_matches) >= 0.7 * len(rows):
            own = again.cam2_from_cam1.rotation.matrix()
            theirs = (b.cam_from_world() * a.cam_from_world().inverse()).rotation.matrix()
            error = float(rotation_angles((own.T @ theirs)[None])[0])
        shared = len(seen_by[i] & seen_by[j])
        out.append(PairEvidence(capture.views[i].name, capture.views[j].name, len(rows), shared, error))
    return out
