"""Cameras on the ways between neighbouring photos, and how far from any photo each of them is.

Everything depends on camera centres and on turns from camera to camera, and on nothing else: neither the origin of the
world nor the names or the sequence of the photos matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.geometry import Rigid, matrix_from_quat, quats_on_one_side
from splat.core.slots import ReferencePhoto


@dataclass(frozen=True, eq=False)
class Between:
    """A camera on the way from one photo's to a neighbour's."""

    first: int
    second: int
    share: float
    """Of the way from `first` to `second`, in [0, 1]."""
    world_from_cam: Rigid

    @property
    def nearer(self) -> int:
        """The photo that it is nearer to."""
        return self.first if self.share <= 0.5 else self.second


def slerp(a: Rigid, b: Rigid, share: float) -> Rigid:
    """`world_from_cam` on the way from a to b: the centre on the straight line, the rotation on the shortest arc at
    constant speed (Shoemake 1985). The ends are a and b themselves."""
    if share in (0.0, 1.0):
        return b if share else a
    qa, qb = quats_on_one_side(torch.stack([a.rotation, b.rotation]))
    angle = math.acos(min(1.0, float(qa @ qb)))
    if angle < 1e-6:
        turn = (1 - share) * qa + share * qb
    else:
        turn = (math.sin((1 - share) * angle) * qa + math.sin(share * angle) * qb) / math.sin(angle)
    rotation = matrix_from_quat(torch.nn.functional.normalize(turn, dim=0))
    return Rigid(rotation, a.translation + share * (b.translation - a.translation))


def neighbour_pairs(poses: Sequence[Rigid]) -> list[tuple[int, int]]:
    """The n - 1 pairs of cameras of the smallest spanning tree: neighbours in space, all connected. What counts is the
    distance of two centres over the mean of all such, plus 1 - the cosine between the optical axes."""
    if len(poses) < 2:
        return []
    centres = torch.stack([p.translation for p in poses]).double()
    axes = torch.stack([p.rotation[:, 2] for p in poses]).double()
    apart = torch.cdist(centres, centres)
    mean = float(apart.sum()) / (len(poses) * (len(poses) - 1))
    cost = (apart / (mean or 1.0) + 1 - axes @ axes.T).numpy()
    pairs, rest = [], np.arange(1, len(poses))
    nearest, link = cost[0].copy(), np.zeros(len(poses), int)  # of every camera to those that are joined
    while len(rest):  # Prim 1957; of equal ways the first by the numbers of the cameras
        k = np.lexsort((rest, link[rest], nearest[rest]))[0]
        j = int(rest[k])
        i, rest = int(link[j]), np.delete(rest, k)
        pairs.append((min(i, j), max(i, j)))
        closer = (cost[j] < nearest) | ((cost[j] == nearest) & (j < link))
        nearest[closer], link[closer] = cost[j][closer], j
    return sorted(pairs)


def virtual_path(poses: Sequence[Rigid], per_pair: int = 10) -> list[Between]:
    """Cameras at shares 0, 1 / per_pair, ..., 1 of the way between every two neighbours, both photos included."""
    return [
        Between(i, j, k / per_pair, slerp(poses[i], poses[j], k / per_pair))
        for i, j in neighbour_pairs(poses)
        for k in range(per_pair + 1)
    ]


def between_photos(poses: Sequence[Rigid], per_pair: int, most: int) -> list[Between]:
    """The cameras of `virtual_path` that are no photo's; of more than `most`, so many, spread over all ways: with as
    many as there are ways, the middle of each."""
    path = [b for b in virtual_path(poses, per_pair) if 0 < b.share < 1]
    if len(path) <= most:
        return path
    return [path[(2 * k + 1) * len(path) // (2 * most)] for k in range(most)]


def nearest_first(world_from_cam: Rigid, photos: Sequence[ReferencePhoto]) -> list[ReferencePhoto]:
    """Photos by the distance of their cameras from a camera."""
    centre = world_from_cam.translation
    return sorted(photos, key=lambda p: float((p.world_from_cam.translation - centre).norm()))


def distance_weights(
    virtual: Float[Tensor, "v 3"], training: Float[Tensor, "n 3"], full_at: float = 16.0, reach_factor: float = 1.2
) -> Float[Tensor, "v"]:
    """min(1, `full_at` d / d_max) of virtual camera centres: 0 where a training camera stands, in [0, 1].

    d is the distance to the nearest training centre, d_max `reach_factor` times the largest distance from a training
    centre to the second farthest of the others (with two of them, to the farthest). With all of them in one place the
    weight is 1 elsewhere.
    """
    virtual, training = virtual.double(), training.double()
    nearest = _distances(virtual, training).amin(1)
    apart = _distances(training, training).sort(dim=1).values
    reach = float(apart[:, -2].max()) if len(training) > 2 else 0.0
    reach = reach_factor * (reach or float(apart.max()))
    if reach == 0:
        return (nearest > 0).double()
    return (full_at * nearest / reach).clamp(0, 1)


def _distances(a: Float[Tensor, "v 3"], b: Float[Tensor, "n 3"]) -> Float[Tensor, "v n"]:
    """Exactly 0 between equal points, which `torch.cdist` may not be."""
    return (a[:, None] - b[None]).norm(dim=2)
