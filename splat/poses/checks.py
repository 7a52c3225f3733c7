"""Checks of a finished SfM model against evidence that bundle adjustment did not use: it may be complete and wrong."""

from __future__ import annotations

import numpy as np

from splat.core.capture import Capture
from splat.poses.doubts import Doubt
from splat.poses.evidence import rotation_angles


def consistency_warnings(capture: Capture, doubt: Doubt | None = None) -> list[str]:
    """One sentence for each check that a posed capture fails."""
    found = [*(doubt.whole if doubt else ()), points_behind_cameras(capture), implausible_field_of_view(capture)]
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
