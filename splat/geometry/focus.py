"""What a set of posed cameras looks at, and which way is up, from their poses alone.

World coordinates, float64. An optical axis is the line from a camera's centre along its viewing direction (+z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.geometry import Rigid


def camera_centres(poses: Sequence[Rigid]) -> Float[Tensor, "n 3"]:
    """Centres of n >= 1 cameras, of their `world_from_cam`."""
    return torch.stack([p.translation for p in poses]).double()


def optical_axes(poses: Sequence[Rigid]) -> Float[Tensor, "n 3"]:
    """Unit viewing directions of n >= 1 cameras, of their `world_from_cam`."""
    return torch.stack([p.rotation[:, 2] for p in poses]).double()


def nearest_point_to_axes(
    centres: Float[Tensor, "n 3"], axes: Float[Tensor, "n 3"], min_spread: float
) -> Float[Tensor, "3"] | None:
    """The point with the least sum of squared distances to n optical axes; None where they are nearly parallel.

    Solves sum_i (1 - a_i a_i^T) (x - c_i) = 0. `min_spread`: the smallest eigenvalue of the system over n, which is 0
    for parallel axes and about the squared sine of half the angle between two of them.
    """
    across = _across(axes)
    system = across.sum(0)
    if float(torch.linalg.eigvalsh(system)[0]) < min_spread * len(axes):
        return None
    return torch.linalg.solve(system, (across @ centres[:, :, None]).sum(0)[:, 0])


def nearest_point_to_axes_damped(centres: Float[Tensor, "n 3"], axes: Float[Tensor, "n 3"]) -> Float[Tensor, "3"]:
    """As `nearest_point_to_axes`, but always a point: a weak pull towards the mean of the centres (a millionth of n)
    keeps it near the cameras where the axes are parallel."""
    across = _across(axes)
    damping = 1e-6 * len(centres) * torch.eye(3, dtype=torch.float64)
    middle = centres.mean(0)
    right = (across @ (centres - middle)[:, :, None]).sum(0)[:, 0]
    return middle + torch.linalg.solve(across.sum(0) + damping, right)


def distances_to_axes(
    point: Float[Tensor, "3"], centres: Float[Tensor, "n 3"], axes: Float[Tensor, "n 3"]
) -> Float[Tensor, "n"]:
    """Distance of a point from each of n optical axes."""
    return (_across(axes) @ (point - centres)[:, :, None])[:, :, 0].norm(dim=1)


def up_direction(poses: Sequence[Rigid]) -> Float[Tensor, "3"]:
    """Unit vector that points up in the photos, for camera paths and maps.

    Photographers keep the camera's x axis level: up is perpendicular to all x axes where they differ enough (three
    cameras or more), and the mean of the images' up directions otherwise. (`poses.upright.estimate_up`, which decides
    the world's frame, is robust to single rolled photos.)
    """
    x_axes = torch.stack([p.rotation[:, 0] for p in poses]).double()
    mean_up = torch.nn.functional.normalize(-torch.stack([p.rotation[:, 1] for p in poses]).double().mean(0), dim=0)
    _, singular, vt = torch.linalg.svd(x_axes, full_matrices=True)
    if len(poses) >= 3 and singular[1] > 0.3 * singular[0] and singular[2] < 0.5 * singular[1]:
        level = vt[2] * torch.sign(vt[2] @ mean_up)
        if level @ mean_up > 0.7:  # else the photos were rolled, and the x axes say nothing
            return level
    return mean_up


def nearest_alike(poses: Sequence[Rigid], index: int, count: int, max_angle: float = 60.0) -> list[int]:
    """Up to `count` other cameras, nearest first, that look about the same way as camera `index` (`max_angle` degrees
    between the optical axes) and do not stand in the same place."""
    own, min_cos = poses[index], math.cos(math.radians(max_angle))
    found = []
    for i, other in enumerate(poses):
        distance = float((own.translation - other.translation).norm())
        if i != index and distance > 0 and float(own.rotation[:, 2] @ other.rotation[:, 2]) > min_cos:
            found.append((distance, i))
    return [i for _, i in sorted(found)[:count]]


def camera_spread(centres: Float[Tensor, "n 3"]) -> float:
    """Median distance of n >= 1 camera centres from their mean, world units; 1 where all cameras are in one place. A
    length to go by where a capture has no points."""
    return float((centres - centres.mean(0)).norm(dim=1).median()) or 1.0


def _across(axes: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """Projections onto the planes perpendicular to the axes."""
    return torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
