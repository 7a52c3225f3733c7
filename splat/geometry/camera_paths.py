"""Camera paths near the training cameras: around the scene, in front of it, or along the photos.

Every position is a weighted mean of neighbouring camera positions (for an orbit in spherical coordinates about the
focus), so a path never leaves the captured region, and is a full circle only if the cameras are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.geometry import Rigid, matrix_from_quat, quats_on_one_side
from splat.core.slots import PathCamera
from splat.geometry.layout import Layout, azimuths, horizon, layout_of


@dataclass(frozen=True, eq=False)
class CameraPath:
    """The frames of a video, and the kind of path."""

    kind: Literal["orbit", "arc", "spiral", "interpolated"]
    """orbit: a full circle. arc: back and forth along the arc of the cameras. spiral: small circles in front of the
    scene. interpolated: a spline along the photos."""
    cameras: tuple[PathCamera, ...]
    closed: bool
    """The last frame leads back to the first, so the video can loop."""


def orbit_path(capture: Capture, frames: int = 120, max_size: int = 1280) -> CameraPath:
    """A path that looks at the focus of the scene: a full circle or an arc, as far as the cameras reach, or a spiral
    for forward-facing captures. Captures that look outward (a walk through a room) get the interpolated path."""
    layout = layout_of(capture)
    if layout.kind == "free":
        return interpolated_path(capture, frames, max_size)
    camera = path_camera(capture, max_size)
    if layout.kind == "forward":
        return CameraPath("spiral", _with(camera, _spiral(layout, frames)), True)
    start, end = layout.arc
    t = torch.arange(frames, dtype=torch.float64) / frames
    if end - start > 2 * math.pi - 1e-9:
        angles, kind = start + 2 * math.pi * t, "orbit"
    else:
        # back and forth, slow at the turns, short of the outermost cameras: what they alone see is known poorly
        angles, kind = (start + end) / 2 + 0.45 * (end - start) * torch.sin(2 * math.pi * t), "arc"
    eyes = _orbit_positions(layout, angles)
    poses = [Rigid.look_at(eye, layout.focus, layout.up) for eye in eyes]
    return CameraPath("orbit" if kind == "orbit" else "arc", _with(camera, poses), True)


def interpolated_path(capture: Capture, frames: int = 120, max_size: int = 1280) -> CameraPath:
    """A smooth path along the training cameras: in the order of time for video, in the order of a short `tour` for
    photos.

    Positions and orientations follow a uniform cubic B-spline, which stays in the convex hull of every four consecutive
    cameras, at constant speed. A tour with a step much longer than the others is cut there, as the space between is
    unknown, and the part with more cameras is used.
    """
    layout = layout_of(capture)
    indices = list(range(len(layout.poses))) if capture.kind == "video" else tour(layout)
    indices = _without_jumps(layout, indices)
    keys = max(2, min(len(indices), frames // 5))  # more keys than that would only make the flight shaky
    chosen = (
        [indices[round(i * (len(indices) - 1) / (keys - 1))] for i in range(keys)] if len(indices) > 1 else indices * 2
    )
    poses = _spline([layout.poses[i] for i in chosen], frames)
    return CameraPath("interpolated", _with(path_camera(capture, max_size), poses), False)


def path_camera(capture: Capture, max_size: int = 1280) -> Camera:
    """A typical camera of the training views: most common size, median focal lengths, centred principal point; at most
    `max_size` px on the long side and of even size, as video needs."""
    views = capture.train_views or capture.views
    sizes = [(v.camera.width, v.camera.height) for v in views]
    width, height = max(set(sizes), key=lambda s: (sizes.count(s), s))
    same = [v.camera for v in views if (v.camera.width, v.camera.height) == (width, height)]
    fx, fy = (float(torch.tensor([getattr(c, f) for c in same], dtype=torch.float64).median()) for f in ("fx", "fy"))
    camera = Camera(fx, fy, width / 2, height / 2, width, height)
    factor = min(1.0, max_size / max(width, height))
    return camera.resized(*(max(2, int(s * factor) // 2 * 2) for s in (width, height)))


def tour(layout: Layout) -> list[int]:
    """A short open path through all cameras, as indices: nearest neighbours, then 2-opt. Costs are of `_costs`."""
    n = len(layout.poses)
    if n <= 2:
        return list(range(n))
    cost = _costs(layout)
    # the start is the far end of the far end, as when measuring a tree's diameter
    first = int(cost[int(cost[0].argmax())].argmax())
    order, left = [first], set(range(n)) - {first}
    while left:
        order.append(min(left, key=lambda j: float(cost[order[-1], j])))
        left.remove(order[-1])
    return _two_opt(order, cost)


def _costs(layout: Layout) -> Float[Tensor, "n n"]:
    """Costs [n n] of going from one camera to another: distance over the median distance to the nearest neighbour, plus
    rotation over 30 degrees."""
    c = layout.centres
    distance = torch.cdist(c, c)
    nearest = (distance + torch.diag(torch.full((len(c),), math.inf, dtype=c.dtype))).amin(1)
    unit = float(nearest.median())
    turn = torch.acos((layout.looks @ layout.looks.T).clamp(-1, 1))
    return distance / max(unit, 1e-12) + turn / math.radians(30)


def _two_opt(indices: list[int], cost: Tensor) -> list[int]:
    """2-opt (Croes 1958) on an open path: reverse segments while that lowers the cost. Each pass checks all pairs at
    once."""
    n = len(indices)
    best = torch.tensor(indices)
    for _ in range(20 * n):
        c = cost[best][:, best]
        step = c.diagonal(1)
        # reversing i..j replaces edges (i-1, i) and (j, j+1) by (i-1, j) and (i, j+1); ends have no edge
        before = torch.cat([c.new_zeros(1), step])
        after = torch.cat([step, c.new_zeros(1)])
        new_before = torch.cat([c.new_zeros(1, n), c[:-1]])  # [i, j]: cost of (i-1, j)
        new_after = torch.cat([c[:, 1:], c.new_zeros(n, 1)], 1)  # [i, j]: cost of (i, j+1)
        gain = before[:, None] + after[None, :] - new_before - new_after
        gain = gain.masked_fill(~torch.ones(n, n).triu(1).bool(), -1)
        flat = int(gain.argmax())
        i, j = divmod(flat, n)
        if float(gain[i, j]) < 1e-9:
            break
        best = torch.cat([best[:i], best[i : j + 1].flip(0), best[j + 1 :]])
    return [int(i) for i in best]


def _without_jumps(layout: Layout, indices: list[int]) -> list[int]:
    """The longest part without steps of more than six times the median."""
    if len(indices) < 6:
        return indices
    c = layout.centres[indices]
    steps = (c[1:] - c[:-1]).norm(dim=1)
    cuts = (steps > 6 * steps.median()).nonzero()[:, 0] + 1
    ends = [0, *cuts.tolist(), len(indices)]
    a, b = max(itertools.pairwise(ends), key=lambda ab: ab[1] - ab[0])
    return indices[a:b]


def _spline(poses: Sequence[Rigid], frames: int) -> list[Rigid]:
    """Samples at constant speed of the uniform cubic B-spline with control points `poses`, ends included."""
    centres = torch.stack([p.translation for p in poses]).double()
    quats = quats_on_one_side(torch.stack([p.rotation for p in poses]))
    both = torch.cat([centres, quats], 1)
    control = torch.cat([both[:1], both[:1], both, both[-1:], both[-1:]])  # threefold ends: the curve touches them
    dense = _b_spline(control, max(400, 8 * frames))
    centre, quat = dense[:, :3], torch.nn.functional.normalize(dense[:, 3:], dim=1)
    turn = 2 * torch.acos((quat[1:] * quat[:-1]).sum(1).abs().clamp(max=1))
    moved = (centre[1:] - centre[:-1]).norm(dim=1)
    # 90 degrees of turning count as much as the whole way divided by the number of cameras
    unit = float(moved.sum()) / max(1, len(poses) - 1) or 1.0
    length = torch.cat([moved.new_zeros(1), (moved / unit + turn / (math.pi / 2)).cumsum(0)])
    wanted = torch.linspace(0, float(length[-1]), frames, dtype=torch.float64)
    right = torch.searchsorted(length, wanted).clamp(1, len(length) - 1)
    left = right - 1
    w = ((wanted - length[left]) / (length[right] - length[left]).clamp(min=1e-12)).clamp(0, 1)[:, None]
    centre = torch.lerp(centre[left], centre[right], w)
    quat = torch.nn.functional.normalize(torch.lerp(quat[left], quat[right], w), dim=1)
    return [Rigid(r, c) for r, c in zip(matrix_from_quat(quat), centre)]


def _b_spline(control: Float[Tensor, "k d"], samples: int) -> Float[Tensor, "m d"]:
    u = torch.linspace(0, len(control) - 3, samples, dtype=torch.float64)
    i = u.floor().long().clamp(max=len(control) - 4)
    t = (u - i)[:, None]
    basis = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return sum((b / 6 * control[i + j] for j, b in enumerate(basis)), torch.zeros(samples, control.shape[1]).double())


def _orbit_positions(layout: Layout, angles: Float[Tensor, "m"]) -> Float[Tensor, "m 3"]:
    """At each azimuth, the mean elevation and log distance of the cameras near that azimuth (von Mises weights)."""
    offset = layout.centres - layout.focus
    distance = offset.norm(dim=1)
    elevation = torch.asin((offset @ layout.up / distance).clamp(-1, 1))
    at = azimuths(layout.centres, layout.focus, layout.up)
    # Cameras overhead have no meaningful azimuth. The kernel is as wide as the gaps between cameras ask for.
    weight = elevation.cos().clamp(min=0.05)
    ordered = at.sort().values
    gaps = torch.cat([ordered[1:], ordered[:1] + 2 * math.pi]) - ordered
    inner = gaps[gaps < math.radians(100)]
    width = max(math.radians(25), float(inner.max()) if len(inner) else 0.0)
    log_kernel = (torch.cos(angles[:, None] - at[None]) - 1) / width**2 + weight.log()
    w = torch.softmax(log_kernel, 1)
    elevation, distance = w @ elevation, (w @ distance.log()).exp()
    elevation = elevation.clamp(-math.radians(75), math.radians(75))  # looking straight down has no up
    east, north = horizon(layout.up)
    level = angles.cos()[:, None] * east + angles.sin()[:, None] * north
    direction = elevation.cos()[:, None] * level + elevation.sin()[:, None] * layout.up
    return layout.focus + distance[:, None] * direction


def _spiral(layout: Layout, frames: int) -> list[Rigid]:
    """Two rounds of an ellipse inside the spread of the cameras, with a slight motion in depth, looking at the focus.

    For cameras spread evenly over a rectangle or an ellipse, half axes of 1.2 sigma lie inside it.
    """
    centres = layout.centres
    middle = centres.mean(0)
    z = torch.nn.functional.normalize(layout.focus - middle, dim=0)
    offset = centres - middle
    depth = offset @ z
    flat = offset - depth[:, None] * z
    # principal axes of the spread, seen from the front
    _, _, axes = torch.linalg.svd(torch.cat([flat, flat.new_zeros(3, 3)]), full_matrices=False)
    a, b = axes[0] - (axes[0] @ z) * z, axes[1] - (axes[1] @ z) * z
    half = [_half_axis(offset @ v) for v in (a, b, z)]
    reach = float((layout.focus - middle).norm())
    if len(centres) < 2:  # a single photo shows no parallax: a hint of motion
        a, b, half = layout.poses[0].rotation[:, 0], layout.poses[0].rotation[:, 1], [0.02 * reach, 0.01 * reach, 0.0]
    t = 2 * math.pi * torch.arange(frames, dtype=torch.float64) / frames
    eyes = (
        middle
        + half[0] * torch.cos(2 * t)[:, None] * a
        + half[1] * torch.sin(2 * t)[:, None] * b
        + 0.5 * half[2] * torch.sin(t)[:, None] * z
    )
    return [Rigid.look_at(eye, layout.focus, layout.up) for eye in eyes]


def _half_axis(offsets: Float[Tensor, "n"]) -> float:
    """1.2 sigma, but at most 0.9 of the distance to the outermost camera on the nearer side."""
    return min(1.2 * float(offsets.std(correction=0)), 0.9 * float(offsets.max()), -0.9 * float(offsets.min()))


def _with(camera: Camera, poses: Sequence[Rigid]) -> tuple[PathCamera, ...]:
    return tuple(PathCamera(replace(camera), pose) for pose in poses)
