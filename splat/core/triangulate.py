"""Where points are, from the pixels that several posed photos show them at, how well that is known, and which points
are to be believed.

A linear solution is refined on reprojection errors in pixels (Hartley & Zisserman, chapter 12); of three or more
observations those that contradict the rest are left out. In double precision, whatever comes in. Nothing here depends
on where the world's origin is, how it is turned or (at the default `near`) how long its unit is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid


@dataclass(frozen=True)
class Gates:
    """What a triangulated point must pass."""

    sigma: float = 0.5
    """Standard deviation of an observation along x and y, px: what covariances are made of."""
    near: float = 0.0
    """A point must be farther than this (z, world units) in every view that supports it."""
    least_parallax: float = 0.5
    """Degrees between at least two of the rays that meet in a point."""
    most_error: float = 1.5
    """Pixels by which a point may miss an observation that supports it."""
    most_depth_sigma: float = 0.05
    """Standard deviation of depth, as a fraction of depth, in every view that supports the point."""
    least_views: int = 2
    """Observations that must support a point."""


DEFAULT = Gates()
VOTE = 2.0
"""An observation votes for what two others propose within this many times `most_error`: the noise of two views may be
much larger where a third one looks."""


@dataclass(frozen=True, eq=False)
class Triangulated:
    """n points from observations in v views."""

    positions: Float[Tensor, "n 3"]
    """World; float64. Means nothing where it is not accepted, and may then be not finite."""
    covariances: Float[Tensor, "n 3 3"]
    """Of the position, world units^2, from the observations that support it: sigma^2 (J^T J)^-1."""
    errors: Float[Tensor, "n v"]
    """Pixels between an observation and the point's projection; infinite without an observation or behind the view."""
    depths: Float[Tensor, "n v"]
    """z in every view, observed or not."""
    depth_sigmas: Float[Tensor, "n v"]
    """Standard deviation of z over z."""
    parallax: Float[Tensor, "n"]
    """Largest angle between two supporting rays, degrees."""
    support: Bool[Tensor, "n v"]
    """The observations that agree on the point."""
    accepted: Bool[Tensor, "n"]


def triangulate(
    pixels: Float[Tensor, "n v 2"],
    valid: Bool[Tensor, "n v"],
    cameras: Sequence[Camera],
    world_from_cam: Sequence[Rigid],
    gates: Gates = DEFAULT,
) -> Triangulated:
    """Points from their pixels in v views; `pixels` may be anything where they are not `valid`.

    Each pair of views proposes a point; the proposal that most observations agree with, refined on those, is kept.
    """
    rig = _Rig(cameras, world_from_cam)
    pixels = pixels.to(torch.float64)
    valid = valid & pixels.isfinite().all(2) & rig.contains(pixels)
    pixels = torch.where(valid[..., None], pixels, 0.0)
    n, v = valid.shape

    best = torch.full((n,), -torch.inf, dtype=torch.float64)
    points = torch.full((n, 3), torch.nan, dtype=torch.float64)
    support = torch.zeros_like(valid)
    for i, j in combinations(range(v), 2):
        pair = torch.zeros_like(valid)
        pair[:, i], pair[:, j] = valid[:, i], valid[:, j]
        proposed = _linear(rig, pixels, pair)
        agreeing, error = _support(rig, proposed, pixels, valid, gates, VOTE)
        # A pair too narrow to say where along the rays comes last; of equally many votes those that are nearer win.
        wide = _angle(rig.centres, proposed, i, j) >= gates.least_parallax
        near = torch.where(agreeing, error, 0).sum(1) / (agreeing.sum(1).clamp_min(1) * VOTE * gates.most_error)
        score = agreeing.sum(1) - 0.5 * near - torch.where(wide, 0.0, 2.0 * v)
        score = torch.where(agreeing[:, i] & agreeing[:, j], score, -torch.inf)
        better = score > best
        best = torch.where(better, score, best)
        points = torch.where(better[:, None], proposed, points)
        support = torch.where(better[:, None], agreeing, support)

    points = _refined(rig, points, pixels, support)
    agreeing, error = _support(rig, points, pixels, valid, gates)
    # What contradicts the rest goes, the worst first: it may be what makes the others look bad. Then what agrees comes.
    for _ in range(v):
        misses = support & ~agreeing
        worst = torch.where(misses, error, -1.0).argmax(1, keepdim=True)
        fewer = support & ~(misses & torch.zeros_like(misses).scatter_(1, worst, True))
        after = torch.where(misses.any(1, keepdim=True), fewer, agreeing)
        changed = ((after != support).any(1) & (after.sum(1) >= 2)).nonzero()[:, 0]
        if not len(changed):
            break
        support[changed] = after[changed]
        points[changed] = _refined(rig, points[changed], pixels[changed], support[changed])
        agreeing[changed], error[changed] = _support(rig, points[changed], pixels[changed], valid[changed], gates)
    kept = (agreeing | ~support).all(1) & (support.sum(1) >= max(2, gates.least_views))

    jacobian, _, depths = rig.linearized(points, pixels)
    covariances = gates.sigma**2 * _inverse(_normal_matrix(jacobian, support))
    axes = rig.rotations[:, 2]
    variances = torch.einsum("vi,nij,vj->nv", axes, covariances, axes)
    depth_sigmas = variances.clamp_min(0).sqrt() / depths
    parallax = torch.zeros(n, dtype=torch.float64)
    for i, j in combinations(range(v), 2):
        angle = _angle(rig.centres, points, i, j)
        parallax = torch.where(support[:, i] & support[:, j], torch.maximum(parallax, angle), parallax)
    sure = ((depth_sigmas >= 0) & (depth_sigmas <= gates.most_depth_sigma)) | ~support
    accepted = kept & sure.all(1) & (parallax >= gates.least_parallax) & points.isfinite().all(1)
    return Triangulated(rig.out(points), covariances, error, depths, depth_sigmas, parallax, support, accepted)


def triangulate_linear(
    pixels: Float[Tensor, "n v 2"],
    valid: Bool[Tensor, "n v"],
    cameras: Sequence[Camera],
    world_from_cam: Sequence[Rigid],
) -> Float[Tensor, "n 3"]:
    """The linear solution from all valid observations, float64, unchecked; not finite where rays are parallel.

    Every observation says that the point lies on two planes through the camera's centre, u = fx x / z + cx times z, and
    the same for v. (Times z, which is the homogeneous w: with clip space's z in its place the planes miss the centre by
    the near distance.) The point has the least sum of squared distances from those planes.
    """
    rig = _Rig(cameras, world_from_cam)
    pixels = torch.where(valid[..., None], pixels.to(torch.float64), 0.0)
    return rig.out(_linear(rig, pixels, valid))


class _Rig:
    """v cameras, stacked, with the origin in their middle: far from the world's origin no digits are lost."""

    def __init__(self, cameras: Sequence[Camera], world_from_cam: Sequence[Rigid]) -> None:
        if len(cameras) != len(world_from_cam):
            raise ValueError(f"{len(cameras)} cameras but {len(world_from_cam)} poses.")

        def rows(values: list[tuple[float, float]]) -> Float[Tensor, "v 2"]:
            return torch.tensor(values, dtype=torch.float64).reshape(-1, 2)

        self.focal = rows([(c.fx, c.fy) for c in cameras])
        self.principal = rows([(c.cx, c.cy) for c in cameras])
        self.size = rows([(float(c.width), float(c.height)) for c in cameras])
        centres = torch.stack([p.translation for p in world_from_cam]).double()
        self.origin = centres.mean(0)
        self.centres = centres - self.origin
        self.rotations = torch.stack([p.rotation.T for p in world_from_cam]).double()
        """cam_from_world; the rows are the camera's axes in the world."""

    def out(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return points + self.origin

    def contains(self, pixels: Float[Tensor, "n v 2"]) -> Bool[Tensor, "n v"]:
        return ((pixels >= 0) & (pixels < self.size)).all(-1)

    def normalized(self, pixels: Float[Tensor, "n v 2"]) -> Float[Tensor, "n v 2"]:
        """x / z and y / z."""
        return (pixels - self.principal) / self.focal

    def in_cam(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n v 3"]:
        return torch.einsum("vij,nvj->nvi", self.rotations, points[:, None] - self.centres)

    def linearized(
        self, points: Float[Tensor, "n 3"], pixels: Float[Tensor, "n v 2"]
    ) -> tuple[Float[Tensor, "n v 2 3"], Float[Tensor, "n v 2"], Float[Tensor, "n v"]]:
        """Derivatives of the projections by the point, px per unit; projection minus observation, px; depths."""
        inside = self.in_cam(points)
        z = inside[..., 2]
        projected = inside[..., :2] / z[..., None]
        by_axis = self.rotations[:, :2] - projected[..., None] * self.rotations[:, None, 2]
        jacobian = (self.focal / z[..., None])[..., None] * by_axis
        return jacobian, projected * self.focal + self.principal - pixels, z


def _linear(rig: _Rig, pixels: Float[Tensor, "n v 2"], use: Bool[Tensor, "n v"]) -> Float[Tensor, "n 3"]:
    """In the rig's frame."""
    x = rig.normalized(pixels)
    normals = rig.rotations[:, :2] - x[..., None] * rig.rotations[:, None, 2]
    normals = torch.nn.functional.normalize(normals, dim=3) * use[..., None, None]
    offsets = (normals * rig.centres[:, None]).sum(3)
    right = torch.einsum("nvai,nva->ni", normals, offsets)
    matrix = torch.einsum("nvai,nvaj->nij", normals, normals)
    return (_inverse(matrix) @ right[..., None])[..., 0]


def _refined(
    rig: _Rig, points: Float[Tensor, "n 3"], pixels: Float[Tensor, "n v 2"], use: Bool[Tensor, "n v"], steps: int = 2
) -> Float[Tensor, "n 3"]:
    """By Gauss-Newton steps on squared errors in pixels; a step that does not help is not taken."""
    jacobian, residual, depths = rig.linearized(points, pixels)
    cost = _cost(residual, depths, use)
    for _ in range(steps):
        gradient = torch.einsum("nvai,nva->ni", jacobian, torch.where(use[..., None], residual, 0.0))
        step = (_inverse(_normal_matrix(jacobian, use)) @ gradient[..., None])[..., 0]
        tried = points - step
        new_jacobian, new_residual, depths = rig.linearized(tried, pixels)
        new_cost = _cost(new_residual, depths, use)
        better = new_cost < cost
        points = torch.where(better[:, None], tried, points)
        jacobian = torch.where(better[:, None, None, None], new_jacobian, jacobian)
        residual = torch.where(better[:, None, None], new_residual, residual)
        cost = torch.where(better, new_cost, cost)
    return points


def _cost(
    residual: Float[Tensor, "n v 2"], depths: Float[Tensor, "n v"], use: Bool[Tensor, "n v"]
) -> Float[Tensor, "n"]:
    squared = residual.square().sum(2)
    squared = torch.where((depths > 0) & squared.isfinite(), squared, torch.inf)
    return torch.where(use, squared, 0.0).sum(1)


def _support(
    rig: _Rig,
    points: Float[Tensor, "n 3"],
    pixels: Float[Tensor, "n v 2"],
    valid: Bool[Tensor, "n v"],
    gates: Gates,
    slack: float = 1.0,
) -> tuple[Bool[Tensor, "n v"], Float[Tensor, "n v"]]:
    """Observations that a point is in front of and near to; and how near, px."""
    _, residual, depths = rig.linearized(points, pixels)
    error = residual.norm(dim=2)
    error = torch.where(valid & (depths > gates.near) & (depths > 0), error.nan_to_num(torch.inf), torch.inf)
    return error <= slack * gates.most_error, error


def _angle(centres: Float[Tensor, "v 3"], points: Float[Tensor, "n 3"], i: int, j: int) -> Float[Tensor, "n"]:
    """Degrees between two views' rays where they meet."""
    a, b = (torch.nn.functional.normalize(points - centres[k], dim=1) for k in (i, j))
    return (a * b).sum(1).clamp(-1, 1).arccos().rad2deg()


def _normal_matrix(jacobian: Float[Tensor, "n v 2 3"], use: Bool[Tensor, "n v"]) -> Float[Tensor, "n 3 3"]:
    j = torch.where(use[..., None, None], jacobian, 0.0)
    return torch.einsum("nvai,nvaj->nij", j, j)


def _inverse(matrix: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
    """Of symmetric 3x3 matrices; not finite where there is none."""
    a, b, c = matrix.unbind(1)
    columns = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 2)
    return columns / (a * columns[:, :, 0]).sum(1)[:, None, None]
