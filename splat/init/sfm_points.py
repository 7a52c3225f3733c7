"""One Gaussian per point of structure from motion, or random ones where there are no points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture, PointCloud, View
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import Rigid
from splat.core.slots import Init, Priors, Reporter
from splat.geometry.focus import camera_centres, camera_spread, distances_to_axes, nearest_point_to_axes, optical_axes
from splat.geometry.reproject import project_points
from splat.native.ops import mean_knn_distance

MIN_POINTS = 10
"""With fewer points the Gaussians are placed at random instead."""
MAX_SCALE_RATIO = 100.0
"""No Gaussian starts more than this many times larger or smaller than the median one."""


@dataclass(frozen=True)
class SfmPoints:
    """A `slots.Initializer`: one isotropic Gaussian per sparse point, whose standard deviation is the mean distance to
    its three nearest neighbours (Kerbl et al. 2023, section 5)."""

    opacity: float = 0.1
    """Opacity every Gaussian starts with."""
    largest: float = 0.1
    """Largest standard deviation, as a fraction of the distance to the nearest camera."""
    random_count: int = 50_000
    """Number of Gaussians where the capture has no points: at random in the space that the cameras look at."""
    random_colour: Literal["grey", "random"] = "grey"
    """Colour of random Gaussians."""

    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init:
        """Raises SplatError where there is neither a point nor a camera to place any by."""
        views = _posed(capture)
        cloud = _merged(capture.points)
        if cloud is not None and len(cloud) >= MIN_POINTS:
            report.info(f"{len(cloud):,} Gaussians, one per sparse point.")
        else:
            if not views:
                raise SplatError("There are neither sparse points nor camera poses to start from: run the poses stage.")
            generator = torch.Generator().manual_seed(seed)
            positions = random_positions(views, self.random_count, generator)
            rgb = torch.full_like(positions, 0.5)
            if self.random_colour == "random":
                rgb = torch.rand(positions.shape, generator=generator)
            cloud = PointCloud(positions, rgb)
            report.info(f"{len(cloud):,} random Gaussians where the cameras look: there are no sparse points.")
        n = len(cloud)
        scales = self._scales(cloud.positions, views)
        return Init(
            Gaussians(
                means=cloud.positions,
                quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
                log_scales=scales.log()[:, None].repeat(1, 3),
                logit_opacities=torch.logit(torch.full((n,), self.opacity)),
                sh=rgb_to_sh(cloud.rgb, sh_degree),
            )
        )

    def _scales(self, positions: Float[Tensor, "n 3"], views: tuple[View, ...]) -> Float[Tensor, "n"]:
        """Mean distance to the three nearest neighbours, within limits that a stray point cannot move."""
        spacing = mean_knn_distance(positions)
        nearest = distance_to_nearest_camera(positions, views)
        typical = spacing[spacing > 0].median() if bool((spacing > 0).any()) else 0.01 * nearest.median()
        high = torch.minimum(self.largest * nearest, MAX_SCALE_RATIO * typical)
        low = torch.minimum(typical / MAX_SCALE_RATIO, high)
        # At a camera's centre the limit is 0: keep such a Gaussian drawable all the same.
        return spacing.clamp(low, high).clamp_min(float(typical) * 1e-4)


def _posed(capture: Capture) -> tuple[View, ...]:
    """Training views with a pose: held-out ones say nothing, unless there are no others."""
    posed = tuple(v for v in capture.views if v.world_from_cam is not None)
    return tuple(v for v in posed if v.role == "train") or posed


def _merged(cloud: PointCloud | None) -> PointCloud | None:
    """Finite points in their order, those at one place merged into one of their mean colour."""
    if cloud is None or not len(cloud):
        return None
    cloud = cloud.to(torch.float32)
    cloud = cloud[cloud.positions.isfinite().all(1) & cloud.rgb.isfinite().all(1)]
    _, place, count = cloud.positions.unique(dim=0, return_inverse=True, return_counts=True)
    rgb = cloud.rgb.new_zeros(len(count), 3).index_add_(0, place, cloud.rgb) / count[:, None]
    first = torch.full((len(count),), len(cloud)).scatter_reduce(0, place, torch.arange(len(cloud)), "amin")
    first, order = first.sort()
    return PointCloud(cloud.positions[first], rgb[order].clamp(0, 1))


def distance_to_nearest_camera(positions: Float[Tensor, "n 3"], views: tuple[View, ...]) -> Float[Tensor, "n"]:
    """Infinite where there are no cameras."""
    nearest = positions.new_full((len(positions),), torch.inf)
    for view in views:
        if view.world_from_cam is not None:
            centre = view.world_from_cam.translation.to(positions)
            nearest = torch.minimum(nearest, (positions - centre).norm(dim=1))
    return nearest


# ----------------------------------------------------------------------------------------- where there are no points


def random_positions(views: tuple[View, ...], count: int, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Uniform in the box that the cameras surround, if they look inward; else spread over what two or more cameras see.

    The box is centred on the point nearest to all optical axes and as large as what a typical camera sees there.
    Without a common point disparity is uniform, in the views' bounds or, without them, of depths from 1 to 50 times the
    cameras' spread.
    """
    ring = surrounded_box(views)
    if ring is not None:
        centre, half = ring
        return (centre + half * (2 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 1)).float()
    return _in_frustums(views, count, generator).float()


def surrounded_box(views: tuple[View, ...]) -> tuple[Float[Tensor, "3"], float] | None:
    """Centre and half side of the box around what the cameras look at; None where they do not surround anything."""
    poses = _poses(views)
    centres, axes = camera_centres(poses), optical_axes(poses)
    target = nearest_point_to_axes(centres, axes, min_spread=0.02)  # axes within 8 degrees of each other say too little
    if target is None:
        return None
    depths = ((target - centres) * axes).sum(1)
    misses = distances_to_axes(target, centres, axes)
    if float((depths > 0).double().mean()) < 0.9 or float(misses.median()) > 0.3 * float(depths.median()):
        return None
    reach = [float(d) * _half_tangent(v) for v, d in zip(views, depths) if d > 0]
    return target, float(torch.tensor(reach).median())


def _half_tangent(view: View) -> float:
    c = view.camera
    return min(c.width / c.fx, c.height / c.fy) / 2


def _poses(views: tuple[View, ...]) -> list[Rigid]:
    return [v.world_from_cam for v in views if v.world_from_cam is not None]


def _in_frustums(views: tuple[View, ...], count: int, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Points on random pixels' rays, preferring those that at least two cameras see."""
    poses = _poses(views)
    spread = camera_spread(camera_centres(poses))
    best: list[Tensor] = []
    found = 0
    for attempt in range(8):
        chosen = torch.randint(len(views), (count,), generator=generator)
        u, v, t = torch.rand(3, count, generator=generator, dtype=torch.float64)
        disparity = (t * (1 - 1 / 50) + 1 / 50) / spread
        points = torch.empty(count, 3, dtype=torch.float64)
        for i, (view, pose) in enumerate(zip(views, poses)):
            mine = chosen == i
            pixels = torch.stack([u[mine] * view.camera.width, v[mine] * view.camera.height], 1)
            own = disparity[mine]
            if view.bounds is not None:
                near, far = view.bounds
                own = 1 / far + t[mine] * (1 / near - 1 / far)
            points[mine] = pose.apply(view.camera.unproject(pixels, 1 / own))
        seen = torch.zeros(count, dtype=torch.int64)
        for view, pose in zip(views, poses):
            seen += project_points(view.camera, pose, points).in_frame
        points = points[seen >= min(2, len(views))] if attempt < 7 else points
        best.append(points)
        found += len(points)
        if found >= count:
            break
    return torch.cat(best)[:count]
