"""Which views can be matched with which, and how far away what they see is: from the sparse points they share.

Nothing here depends on where the world's origin is, how it is turned or how long its unit is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.capture import Capture, View
from splat.geometry.focus import camera_spread
from splat.geometry.reproject import project_points

BEST_ANGLE, NARROW, WIDE = 8.0, 3.0, 12.0
"""Degrees between two rays that meet: the best for matching, and how fast smaller and larger ones get worse (as
MVSNet, Yao et al. 2018)."""
LEAST_ANGLE = 0.5
"""Degrees between two rays below which they say nothing of where they meet."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """Of v views: which to match with which, and what depths they see."""

    score: Float[Tensor, "v v"]
    """How useful a view is to another: points in common, each weighted by the angle between its rays. 0: not at all."""
    depths: Float[Tensor, "v 2"]
    """Nearest and farthest depth, with a margin."""

    def neighbours(self, view: int, count: int) -> list[int]:
        """The most useful others, best first; fewer where there are no more that see anything in common."""
        order = self.score[view].argsort(descending=True, stable=True)[:count].tolist()
        return [i for i in order if self.score[view, i] > 0]


def overlap(capture: Capture) -> Overlap:
    """By sparse points; views that see none are taken to see what the others' points would show them.

    Raises ValueError where a view has no pose.
    """
    views = capture.views
    seen, depth, centres, points = sightings(capture)
    v = len(views)
    score = torch.zeros(v, v, dtype=torch.float64)
    for i in range(v):
        mine = seen[i].nonzero()[:, 0]  # a view at a time, and only what it sees: all at once may not fit into memory
        rays = torch.nn.functional.normalize(points[mine][None] - centres[:, None], dim=2)  # [v m 3]
        shared = seen[:, mine]
        cos = (rays * rays[i]).sum(2).clamp(-1, 1)
        angle = cos.arccos().rad2deg()
        width = torch.where(angle < BEST_ANGLE, NARROW, WIDE)
        weight = torch.exp(-((angle - BEST_ANGLE) ** 2) / (2 * width**2)) * (angle >= LEAST_ANGLE)
        score[i] = (weight * shared).sum(1)
        size = _pixels_per_unit(views[i]) / torch.tensor([_pixels_per_unit(w) for w in views])
        score[i] *= torch.minimum(size, 1 / size)
        score[i, i] = 0
    everyones = depth[seen & (depth > 0)]
    everyones = everyones[:: 1 + len(everyones) // 1_000_000]  # quantiles of more are refused, and no better
    return Overlap(score, torch.stack([_range(depth[i][seen[i]], everyones) for i in range(v)]))


def nearest_depths(capture: Capture) -> Float[Tensor, "v"] | None:
    """How near the nearest of what each view is known to see is (one percent of its sparse points are nearer); None
    where the capture has no sparse points."""
    if capture.points is None or len(capture.points) < 8 or not capture.posed:
        return None
    seen, depth, _, _ = sightings(capture)
    rows = [depth[i][seen[i] & (depth[i] > 0)] for i in range(len(seen))]
    return torch.stack([d.quantile(0.01) if len(d) >= 8 else d.new_zeros(()) for d in rows])


def _pixels_per_unit(view: View) -> float:
    return 0.5 * (view.camera.fx + view.camera.fy)


def sightings(
    capture: Capture,
) -> tuple[Bool[Tensor, "v p"], Float[Tensor, "v p"], Float[Tensor, "v 3"], Float[Tensor, "p 3"]]:
    """Which view sees which point, at what depth; camera centres; points. By tracks where there are any, else by
    projection."""
    views, cloud = capture.views, capture.points
    poses = [w.world_from_cam for w in views if w.world_from_cam is not None]
    if len(poses) != len(views):
        raise ValueError("every view needs a pose.")
    centres = torch.stack([p.translation for p in poses]).double()
    points = _stand_ins(capture) if cloud is None or len(cloud) < 8 else cloud.positions.double()
    depth = torch.empty(len(views), len(points), dtype=torch.float64)
    seen = torch.zeros(len(views), len(points), dtype=torch.bool)
    if capture.tracks is not None and cloud is not None and len(cloud) >= 8:
        seen[capture.tracks.view_ids.long(), capture.tracks.point_ids.long()] = True
    seen &= points.isfinite().all(1)
    for i, view in enumerate(views):
        projected = project_points(view.camera, poses[i], points)
        depth[i], visible = projected.depth, projected.in_frame
        seen[i] = seen[i] & visible if int((seen[i] & visible).sum()) >= 8 else visible
    return seen, depth, centres, points


def _stand_ins(capture: Capture) -> Float[Tensor, "p 3"]:
    """Points along the rays of a few pixels of every view, where there are no sparse points: from half to eight times
    the typical distance between cameras' nearest points of view."""
    spread = camera_spread(capture.camera_centres().double())
    made = []
    for view in capture.views:
        if view.world_from_cam is None:
            continue
        c = view.camera
        grid = torch.cartesian_prod(torch.linspace(0.1, 0.9, 5), torch.linspace(0.1, 0.9, 5)).double()
        pixels = grid * torch.tensor([c.width, c.height])
        for t in (0.7, 1.5, 3.0, 6.0):
            depth = torch.full((len(pixels),), t * spread, dtype=torch.float64)
            made.append(view.world_from_cam.apply(c.unproject(pixels, depth)))
    return torch.cat(made)


def _range(own: Float[Tensor, "n"], all_depths: Float[Tensor, "m"]) -> Float[Tensor, "2"]:
    """From a little before the nearest to well behind the farthest of most points."""
    d = own if len(own) >= 8 else all_depths
    if not len(d):
        return torch.tensor([0.1, 100.0], dtype=torch.float64)
    near, far = d.quantile(0.01), d.quantile(0.99)
    return torch.stack([0.7 * near, 2.0 * far])
