"""How the photographer stood: up, the point looked at, and whether the cameras face inward, forward or outward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Rigid

Kind = Literal["inward", "forward", "free"]


@dataclass(frozen=True, eq=False)
class Layout:
    """The cameras of a capture, in world units."""

    poses: tuple[Rigid, ...]
    """world_from_cam of the registered training views, in the capture's order."""
    up: Float[Tensor, "3"]
    """Unit vector that points up in the photos."""
    focus: Float[Tensor, "3"]
    """The point looked at: nearest to all optical axes, or, where these are nearly parallel, at the scene's depth."""
    kind: Kind
    """inward: around something. forward: side by side, before something. free: a walk, or looking outward."""
    arc: tuple[float, float]
    """Azimuths about the focus (radians, start < end) that the cameras cover; a span of 2 pi is the whole circle."""

    @property
    def centres(self) -> Float[Tensor, "n 3"]:
        return torch.stack([p.translation for p in self.poses])

    @property
    def looks(self) -> Float[Tensor, "n 3"]:
        """Unit viewing directions."""
        return torch.stack([p.rotation[:, 2] for p in self.poses])


WIDE_GAP = 100.0
"""Degrees: an orbit closes when no wider gap between neighbouring azimuths is left unseen."""


def layout_of(capture: Capture) -> Layout:
    """Read the layout from the registered training views (from all registered views where none is for training)."""
    views = [v for v in capture.train_views if v.world_from_cam is not None]
    views = views or [v for v in capture.views if v.world_from_cam is not None]
    poses = tuple(v.world_from_cam for v in views if v.world_from_cam is not None)
    if not poses:
        raise SplatError("A camera path needs at least one photo with a pose: run the poses stage first.")
    centres = torch.stack([p.translation for p in poses]).double()
    looks = torch.stack([p.rotation[:, 2] for p in poses]).double()
    up = up_direction(poses)
    forward = looks.mean(0)
    agreement = float(forward.norm())
    forward = torch.nn.functional.normalize(forward, dim=0)
    focus = nearest_to_axes(centres, looks)
    to_focus = focus - centres
    distance = to_focus.norm(dim=1)
    facing = (looks * to_focus).sum(1) / distance.clamp(min=1e-12)
    miss = (distance.square() * (1 - facing.square()).clamp(min=0)).sqrt()
    inward = float(((facing > 0.8) & (miss < 0.6 * distance)).double().mean()) > 0.8
    spread = float((centres - centres.mean(0)).norm(dim=1).max())
    arc = covered_arc(centres, focus, up)
    near_parallel = agreement > 0.94
    points = None if capture.points is None else capture.points.positions.double()
    ahead = scene_depth(centres, forward, points, float((focus - centres.mean(0)) @ forward) if inward else None)
    if near_parallel and (not inward or arc[1] - arc[0] < torch.pi / 4):
        focus = centres.mean(0) + forward * ahead
        kind: Kind = "forward" if spread < 1.5 * ahead else "free"
    else:
        kind = "inward" if inward and len(poses) >= 3 else "free"
        if not inward:
            focus = centres.mean(0) + forward * ahead
    return Layout(poses, up, focus, kind, covered_arc(centres, focus, up))


def up_direction(poses: tuple[Rigid, ...]) -> Float[Tensor, "3"]:
    """Photographers keep the camera's x axis level: up is perpendicular to all of them where they differ enough, and
    the mean of the images' up directions otherwise."""
    x_axes = torch.stack([p.rotation[:, 0] for p in poses]).double()
    mean_up = torch.nn.functional.normalize(-torch.stack([p.rotation[:, 1] for p in poses]).double().mean(0), dim=0)
    _, singular, vt = torch.linalg.svd(x_axes, full_matrices=True)
    if len(poses) >= 3 and singular[1] > 0.3 * singular[0] and singular[2] < 0.5 * singular[1]:
        level = vt[2] * torch.sign(vt[2] @ mean_up)
        if level @ mean_up > 0.7:  # else the photos were rolled, and the x axes say nothing
            return level
    return mean_up


def nearest_to_axes(centres: Float[Tensor, "n 3"], looks: Float[Tensor, "n 3"]) -> Float[Tensor, "3"]:
    """The point with the least sum of squared distances to the optical axes; a weak penalty on its distance to the mean
    camera centre keeps it near the cameras where the axes are parallel."""
    across = torch.eye(3, dtype=torch.float64) - looks[:, :, None] * looks[:, None, :]
    regularizer = 1e-6 * len(centres) * torch.eye(3, dtype=torch.float64)
    middle = centres.mean(0)
    right = (across @ (centres - middle)[:, :, None]).sum(0)[:, 0]
    return middle + torch.linalg.solve(across.sum(0) + regularizer, right)


def scene_depth(centres: Tensor, forward: Tensor, points: Tensor | None, axes_meet: float | None) -> float:
    """How far ahead the scene is: the harmonic middle of the points' depths (near things fix the eye); without points,
    where the optical axes meet (if they do), else three times the spread of the cameras."""
    if points is not None and len(points) >= 8:
        z = (points[:: max(1, len(points) // 20_000)] - centres.mean(0)) @ forward
        z = z[z > 0]
        if len(z) >= 8:
            near, far = torch.quantile(z, 0.1), torch.quantile(z, 0.9)
            return float(1 / (0.5 / near + 0.5 / far))
    if axes_meet is not None and axes_meet > 0:
        return axes_meet
    spread = float((centres - centres.mean(0)).norm(dim=1).max())
    return 3 * spread if spread > 0 else 1.0


def horizon(up: Float[Tensor, "3"]) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Two horizontal unit vectors, perpendicular to each other."""
    trial = torch.eye(3, dtype=torch.float64)[up.abs().argmin()]
    east = torch.nn.functional.normalize(trial - (trial @ up) * up, dim=0)
    return east, torch.linalg.cross(up, east)


def azimuths(points: Float[Tensor, "n 3"], focus: Tensor, up: Tensor) -> Float[Tensor, "n"]:
    """Angle of each point about the axis through `focus` along `up`, from the first towards the second of `horizon`."""
    east, north = horizon(up)
    return torch.atan2((points - focus) @ north, (points - focus) @ east)


def covered_arc(centres: Float[Tensor, "n 3"], focus: Tensor, up: Tensor) -> tuple[float, float]:
    """The circle without its widest gap; the whole circle when that gap is under `WIDE_GAP` degrees."""
    a = azimuths(centres, focus, up).sort().values
    gaps = torch.cat([a[1:], a[:1] + 2 * torch.pi]) - a
    widest = int(gaps.argmax())
    start = float(a[(widest + 1) % len(a)])
    if float(gaps[widest]) < WIDE_GAP * torch.pi / 180:
        return start, start + 2 * torch.pi
    return start, start + 2 * torch.pi - float(gaps[widest])
