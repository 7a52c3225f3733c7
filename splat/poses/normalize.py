"""A frame that every later stage may rely on: up is -y, the scene's centre is the origin, cameras are about 1 away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.geometry import Similarity
from splat.geometry.focus import nearest_point_to_axes, optical_axes
from splat.poses.upright import WORLD_UP, estimate_up, parse_up, rotation_between, snapped


def normalize(capture: Capture, up: str | Sequence[float] = "auto") -> Capture:
    """The same capture in the normalized frame; `world_from_source` remembers how to go back.

    up: "auto" (estimated from the cameras), an axis like "-y", or a vector, in the capture's present frame.
    Afterwards: world up is `WORLD_UP` = -y, the centre of what the photos show is the origin, and the median distance
    of the cameras from it is 1. Pure: the original is untouched.
    """
    text = up if isinstance(up, str) else ",".join(repr(float(v)) for v in up)
    direction = parse_up(text)
    if direction is None:
        direction = snapped(estimate_up(capture))
    rotation = rotation_between(direction, torch.tensor(WORLD_UP, dtype=torch.float64))
    centre = scene_centre(capture)
    distances = (capture.camera_centres().double() - centre).norm(dim=1)
    distance = float(distances.median()) if len(distances) else 1.0
    if not 1e-12 < distance < float("inf"):  # every camera in the centre: the points' spread is all there is
        spread = (capture.points.positions.double() - centre).norm(dim=1).median() if capture.points else None
        distance = float(spread) if spread is not None and 1e-12 < float(spread) < float("inf") else 1.0
    scale = 1 / distance
    return capture.transformed(Similarity(scale, rotation, -scale * (rotation @ centre)))


def scene_centre(capture: Capture) -> Float[Tensor, "3"]:
    """What the photos look at, float64 [3] in the capture's frame.

    The geometric median of the sparse points, each as often as it was seen; without points, the point nearest to all
    optical axes, if it lies in front of most cameras; else the mean of the camera centres.
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


def geometric_median(points: Float[Tensor, "n 3"], most: int = 20_000) -> Float[Tensor, "3"]:
    """The point with the least sum of distances to n >= 1 points (Weiszfeld 1937), which far outliers cannot pull.

    Unlike the median of each coordinate it does not depend on how the frame is turned. Of more than `most` points
    every k-th is used.
    """
    points = points.double()[:: max(1, len(points) // most)]
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
