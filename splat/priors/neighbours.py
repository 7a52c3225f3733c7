"""Selection of views to match, and their depth ranges, from the sparse points that they share.

Invariant to similarity transforms of the world frame.
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
"""Triangulation angles, degrees: the best for matching, and the widths of the Gaussian weight below and above it (as in
MVSNet, Yao et al. 2018)."""
MIN_ANGLE = 0.5
"""Degrees: points with a smaller triangulation angle do not count."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """Of v views: how useful each is for matching another, and the depth range of each."""

    score: Float[Tensor, "v v"]
    """Common points, each weighted by its triangulation angle; 0 on the diagonal."""
    depths: Float[Tensor, "v 2"]
    """Nearest and farthest depth (z, world units), with a margin."""

    def neighbours(self, view: int, count: int) -> list[int]:
        """Up to `count` other views with common points, best first."""
        best = self.score[view].argsort(descending=True, stable=True)[:count].tolist()
        return [i for i in best if self.score[view, i] > 0]


def overlap(capture: Capture) -> Overlap:
    """The overlap of all views by sparse points (see `visibility`). Raises ValueError where a view has no pose."""
    views = capture.views
    visible, depth, centres, points = visibility(capture)
    v = len(views)
    score = torch.zeros(v, v, dtype=torch.float64)
    for i in range(v):
        mine = visible[i].nonzero()[:, 0]  # one view at a time, to bound memory
        rays = torch.nn.functional.normalize(points[mine][None] - centres[:, None], dim=2)  # [v m 3]
        shared = visible[:, mine]
        cos = (rays * rays[i]).sum(2).clamp(-1, 1)
        angle = cos.arccos().rad2deg()
        width = torch.where(angle < BEST_ANGLE, NARROW, WIDE)
        weight = torch.exp(-((angle - BEST_ANGLE) ** 2) / (2 * width**2)) * (angle >= MIN_ANGLE)
        score[i] = (weight * shared).sum(1)
        size = _mean_focal(views[i]) / torch.tensor([_mean_focal(w) for w in views])
        score[i] *= torch.minimum(size, 1 / size)
        score[i, i] = 0
    all_depths = depth[visible & (depth > 0)]
    all_depths = all_depths[:: 1 + len(all_depths) // 1_000_000]  # torch.quantile limits the number of elements
    ranges = [_range(depth[i][visible[i]], all_depths, view.bounds) for i, view in enumerate(views)]
    return Overlap(score, torch.stack(ranges))


def nearest_depths(capture: Capture) -> Float[Tensor, "v"] | None:
    """The first percentile of the depths of each view's sparse points (0 where it has fewer than 8); None where the
    capture has no sparse points or no poses."""
    if capture.points is None or len(capture.points) < 8 or not capture.posed:
        return None
    visible, depth, _, _ = visibility(capture)
    rows = [depth[i][visible[i] & (depth[i] > 0)] for i in range(len(visible))]
    return torch.stack([d.quantile(0.01) if len(d) >= 8 else d.new_zeros(()) for d in rows])


def _mean_focal(view: View) -> float:
    """Pixels."""
    return 0.5 * (view.camera.fx + view.camera.fy)


def visibility(
    capture: Capture,
) -> tuple[Bool[Tensor, "v p"], Float[Tensor, "v p"], Float[Tensor, "v 3"], Float[Tensor, "p 3"]]:
    """Which of v views observes which of p points, and at what depth; the camera centres and the points.

    By tracks where a view has at least 8 of them, else by projection into the image. Without sparse points, points
    along a few rays of every view take their place. Raises ValueError where a view has no pose.
    """
    views, cloud = capture.views, capture.points
    poses = [w.world_from_cam for w in views if w.world_from_cam is not None]
    if len(poses) != len(views):
        raise ValueError("every view needs a pose.")
    centres = torch.stack([p.translation for p in poses]).double()
    points = _proxy_points(capture) if cloud is None or len(cloud) < 8 else cloud.positions.double()
    depth = torch.empty(len(views), len(points), dtype=torch.float64)
    visible = torch.zeros(len(views), len(points), dtype=torch.bool)
    if capture.tracks is not None and cloud is not None and len(cloud) >= 8:
        visible[capture.tracks.view_ids.long(), capture.tracks.point_ids.long()] = True
    visible &= points.isfinite().all(1)
    for i, view in enumerate(views):
        projected = project_points(view.camera, poses[i], points)
        depth[i], in_frame = projected.depth, projected.in_frame
        visible[i] = visible[i] & in_frame if int((visible[i] & in_frame).sum()) >= 8 else in_frame
    return visible, depth, centres, points


def _proxy_points(capture: Capture) -> Float[Tensor, "p 3"]:
    """Substitutes for missing sparse points: on 25 rays of every view, at four depths between the view's bounds (equal
    steps of inverse depth), or 0.7, 1.5, 3 and 6 times the median distance of the cameras from their mean."""
    spread = camera_spread(capture.camera_centres().double())
    points = []
    for view in capture.views:
        if view.world_from_cam is None:
            continue
        c = view.camera
        grid = torch.cartesian_prod(torch.linspace(0.1, 0.9, 5), torch.linspace(0.1, 0.9, 5)).double()
        pixels = grid * torch.tensor([c.width, c.height])
        depths = [t * spread for t in (0.7, 1.5, 3.0, 6.0)]
        if view.bounds is not None:
            nearest, farthest = view.bounds
            depths = [1 / (1 / farthest + t * (1 / nearest - 1 / farthest)) for t in (0.05, 0.35, 0.65, 0.95)]
        for z in depths:
            depth = torch.full((len(pixels),), z, dtype=torch.float64)
            points.append(view.world_from_cam.apply(c.unproject(pixels, depth)))
    return torch.cat(points)


def _range(
    own: Float[Tensor, "n"], all_depths: Float[Tensor, "m"], bounds: tuple[float, float] | None = None
) -> Float[Tensor, "2"]:
    """Nearest and farthest depth: the view's bounds, unless its points contradict them; without bounds 0.7 times the
    first percentile of the points' depths, and twice the 99th; of all views where a view has few."""
    d = own if len(own) >= 8 else all_depths
    if bounds is not None:
        given = torch.tensor([0.9 * bounds[0], 1.2 * bounds[1]], dtype=torch.float64)
        if len(own) < 8 or float(((own >= given[0]) & (own <= given[1])).double().mean()) > 0.9:
            return given
    if not len(d):
        return torch.tensor([0.1, 100.0], dtype=torch.float64)
    near, far = d.quantile(0.01), d.quantile(0.99)
    return torch.stack([0.7 * near, 2.0 * far])
