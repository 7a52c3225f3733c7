"""The normalized frame of all later stages: up is -y, the scene centre is the origin, the cameras are about 1 away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.geometry import Similarity, rotation_between
from splat.geometry.focus import nearest_point_to_axes, optical_axes
from splat.poses.upright import WORLD_UP, estimate_up, parse_up, snapped


def normalize(capture: Capture, up: str | Sequence[float] = "auto") -> Capture:
    """The capture in the normalized frame; `world_from_source` is updated, so that exports can undo it.

    In that frame up is `WORLD_UP` = -y, `scene_centre` is the origin, and the median distance of the cameras from it
    is 1.
    up: "auto" (estimated from the cameras), an axis like "-y", or a vector, in the present frame of the capture.
    """
    text = up if isinstance(up, str) else ",".join(repr(float(v)) for v in up)
    direction = parse_up(text)
    if direction is None:
        direction = snapped(estimate_up(capture))
    rotation = rotation_between(direction, torch.tensor(WORLD_UP, dtype=torch.float64))
    centre = scene_centre(capture)
    distances = (capture.camera_centres().double() - centre).norm(dim=1)
    distance = float(distances.median()) if len(distances) else 1.0
    if not 1e-12 < distance < float("inf"):  # all cameras at the centre: use the spread of the points
        spread = (capture.points.positions.double() - centre).norm(dim=1).median() if capture.points else None
        distance = float(spread) if spread is not None and 1e-12 < float(spread) < float("inf") else 1.0
    scale = 1 / distance
    return capture.transformed(Similarity(scale, rotation, -scale * (rotation @ centre)))


def scene_centre(capture: Capture) -> Float[Tensor, "3"]:
    """The centre of what the photos show, float64 [3] in the capture's frame.

    The geometric median of the sparse points, weighted by their number of observations. Without points: the point
    nearest to all optical axes, if it lies in front of most cameras; else the mean of the camera centres.
    """
    points, tracks = capture.points, capture.tracks
    if points is not None and len(points) >= 10:
        positions = points.positions.double()
        if tracks is not None and len(tracks.point_ids) >= len(positions):
            positions = positions[tracks.point_ids.long()]
        finite = torch.isfinite(positions).all(1)
        if bool(finite.any()):
            return geometric_median(positions[finite])
    centres = capture.camera_centres().double()
    axes = optical_axes([v.world_from_cam for v in capture.views if v.world_from_cam is not None])
    focus = nearest_point_to_axes(centres, axes, min_spread=1e-3)
    if focus is not None:
        ahead = ((focus - centres) * axes).sum(1) > 0
        if float(ahead.double().mean()) > 0.5:
            return focus
    return centres.mean(0)


def geometric_median(points: Float[Tensor, "n 3"], max_points: int = 20_000) -> Float[Tensor, "3"]:
    """The point with the least sum of distances to n >= 1 points, by Weiszfeld's algorithm (1937), float64.

    It is robust to outliers and, unlike the median of each coordinate, independent of the rotation of the frame. Of
    more than `max_points` points every k-th is used.
    """
    points = points.double()[:: max(1, len(points) // max_points)]
    centre = points.median(0).values
    spread = float((points - centre).norm(dim=1).median()) or 1.0
    for _ in range(200):
        weight = 1 / (points - centre).norm(dim=1).clamp(min=1e-9 * spread)
        new = (points * weight[:, None]).sum(0) / weight.sum()
        step = float((new - centre).norm())
        centre = new
        if step < 1e-10 * spread:
            break
    return centre
