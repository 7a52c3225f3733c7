"""A truncated signed distance field in sparse blocks of voxels (Curless & Levoy 1996), fused from depth maps.

Positive in front of the surface. Only blocks of 4 x 4 x 4 voxels near a surface have memory. What no depth map says
anything about stays without weight, so that `surface_nets` leaves it open.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid

SIDE = 4
"""Voxels of a block, each way."""
_BIAS, _BITS = 1 << 20, 21
_BLOCKS_AT_ONCE = 8192
_FREE_WEIGHT = 0.25
"""Of a view that sees past a voxel, farther in front of its surface than the truncation, relative to one that measures
the surface there."""
_MAX_STEP = 3.0
"""Of depth between neighbouring pixels beyond what a plane has, in truncations: beyond it there is an edge."""


@dataclass(frozen=True, eq=False)
class SurfaceMap:
    """What one camera measures of the surface."""

    camera: Camera
    world_from_cam: Rigid
    depth: Float[Tensor, "h w"]
    """z-depth, world units; 0: not known."""
    distance: Float[Tensor, "h w"]
    """Of the camera from the tangent plane of the surface at each pixel."""
    weight: Float[Tensor, "h w"]
    """Of the measurement; 0: it only bounds free space."""
    rgb: Float[Tensor, "h w 3"]


def pack(blocks: Int[Tensor, "n 3"]) -> Int[Tensor, "n"]:
    """One integer per triple of coordinates between -2^20 and 2^20, in their lexicographic order."""
    x, y, z = (blocks + _BIAS).unbind(1)
    return (x << (2 * _BITS)) | (y << _BITS) | z


def unpack(keys: Int[Tensor, "n"]) -> Int[Tensor, "n 3"]:
    mask = (1 << _BITS) - 1
    return torch.stack([keys >> (2 * _BITS), (keys >> _BITS) & mask, keys & mask], 1) - _BIAS


def find(sorted_keys: Int[Tensor, "m"], keys: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The row of each key; -1: it has none."""
    if not len(sorted_keys):
        return torch.full_like(keys, -1)
    at = torch.searchsorted(sorted_keys, keys).clamp(max=len(sorted_keys) - 1)
    return torch.where(sorted_keys[at] == keys, at, -1)


def blocks_near(view: SurfaceMap, voxel: float, truncation: float, stride: int = 1) -> Int[Tensor, "n"]:
    """Keys, sorted, of the blocks that have a point within `truncation` (along each axis) of a measured pixel."""
    known = (view.weight > 0)[::stride, ::stride]
    pixels = view.camera.pixel_centres()[::stride, ::stride].to(view.depth.device)[known]
    points = view.world_from_cam.apply(view.camera.unproject(pixels.float(), view.depth[::stride, ::stride][known]))
    size = SIDE * voxel
    steps = 1 + math.ceil(2 * truncation / size)  # no farther apart than blocks are wide
    offsets = torch.linspace(-truncation, truncation, steps).tolist()
    x, y, z = (
        [((axis + o) / size).floor().long().clamp(-_BIAS, _BIAS - 1) for o in offsets] for axis in points.unbind(1)
    )
    found = [pack(torch.stack(block, 1)).unique() for block in itertools.product(x, y, z)]
    return torch.cat(found).unique()


class Tsdf:
    """The field. `fuse` every view, then read `values`."""

    def __init__(self, keys: Int[Tensor, "m"], voxel: float, truncation: float) -> None:
        """`keys`: sorted keys of the blocks to have."""
        self.keys, self.voxel, self.truncation = keys, voxel, truncation
        shape, device = (len(keys), SIDE**3), keys.device
        self.sum = torch.zeros(shape, device=device)
        """Of weight x distance / truncation."""
        self.weight = torch.zeros(shape, device=device)
        self.colour_weight = torch.zeros(shape, device=device)
        self.rgb = torch.zeros(*shape, 3, device=device)
        self.views = torch.zeros(shape, dtype=torch.uint8, device=device)
        """How many views measured the surface within the truncation."""
        local = torch.stack(torch.meshgrid(*[torch.arange(SIDE)] * 3, indexing="ij"), -1).reshape(-1, 3)
        self._local = local.to(device)

    def corners(self, blocks: Tensor) -> Float[Tensor, "k n 3"]:
        """Positions of all voxels of some blocks, given by their rows."""
        first = unpack(self.keys[blocks]) * SIDE
        return (first[:, None] + self._local).float() * self.voxel

    def fuse(self, view: SurfaceMap) -> None:
        """Add what one view measures, and what it sees past."""
        device = self.keys.device
        cam_from_world = view.world_from_cam.inverse().matrix().float().to(device)
        nearest = -torch.nn.functional.max_pool2d(-torch.where(view.depth > 0, view.depth, 0)[None], 3, 1, 1)[0]
        tables = view.depth, view.distance, view.weight, nearest
        maps = torch.stack([m.float() for m in tables], 2).reshape(-1, 4)
        rgb = view.rgb.reshape(-1, 3)
        near, free, trust = self._blocks_of(view, cam_from_world)
        self.sum[free] += _FREE_WEIGHT * trust[:, None]
        self.weight[free] += _FREE_WEIGHT * trust[:, None]
        for rows in near.split(_BLOCKS_AT_ONCE):
            self._fuse_blocks(rows, view.camera, cam_from_world, maps, rgb)

    def _blocks_of(
        self, view: SurfaceMap, cam_from_world: Tensor
    ) -> tuple[Int[Tensor, "k"], Int[Tensor, "l"], Float[Tensor, "l"]]:
        """Rows of the blocks that the camera sees near a surface, and of those that all lie in front of everything that
        it sees there, with the mean weight of that. Others are hidden, or not in the frame."""
        c = view.camera
        size = SIDE * self.voxel
        radius = 3**0.5 / 2 * size
        x, y, z = ((unpack(self.keys).float() + 0.5) * size @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]).unbind(
            1
        )
        ahead = z > radius
        for at, focal, middle, length in ((x, c.fx, c.cx, c.width), (y, c.fy, c.cy, c.height)):
            for sign, edge in ((1, length - middle), (-1, middle)):
                # distance beyond the plane through this edge of the frame
                ahead &= (sign * focal * at - edge * z) < radius * (focal**2 + edge**2) ** 0.5
        rows = ahead.nonzero()[:, 0]
        x, y, z = x[rows], y[rows], z[rows]
        u = (c.fx * x / z + c.cx).clamp(0, c.width - 1)
        v = (c.fy * y / z + c.cy).clamp(0, c.height - 1)
        reach = max(c.fx, c.fy) * radius / (z - radius).clamp(min=1e-9)
        # the truncation is a distance from the surface; along a slanted ray it is longer
        band = self.truncation * torch.maximum(view.depth / view.distance.clamp(min=1e-9), torch.ones_like(view.depth))
        band = torch.where(view.weight > 0, band, self.truncation)
        ends = (view.depth - band).clamp(min=0), torch.where(view.depth > 0, view.depth + band, 0)
        low, high, trust = _around(*ends, view.weight, u, v, reach)
        near = (z + radius > low) & (z - radius < high)
        free = z + radius < low
        return rows[near], rows[free], trust[free]

    def _fuse_blocks(self, rows: Tensor, camera: Camera, cam_from_world: Tensor, maps: Tensor, rgb: Tensor) -> None:
        points = self.corners(rows).reshape(-1, 3)
        x, y, z = (points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]).unbind(1)
        inverse = 1 / z.clamp(min=1e-9)
        u, v = camera.fx * x * inverse + camera.cx, camera.fy * y * inverse + camera.cy
        inside = (z > 1e-9) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        at = inside.nonzero()[:, 0]
        pixel = v[at].long() * camera.width + u[at].long()
        depth, distance, weight, nearest = maps[pixel].unbind(1)
        z = z[at]
        ahead = distance * (1 - z / depth.clamp(min=1e-9)) / self.truncation
        measured = (weight > 0) & (ahead > -1) & (ahead < 1)
        past = (nearest > 0) & ~measured & (z < nearest - self.truncation)  # of all around it, too
        # behind the surface less is known the farther it is: it may be thin
        share = torch.where(ahead < -0.25, (1 + ahead) / 0.75, 1.0)
        w = torch.where(measured, weight * share, torch.where(past, _FREE_WEIGHT * weight, 0.0))
        value = torch.where(measured, ahead, 1.0)
        used = w > 0
        at, w, value, measured, pixel = at[used], w[used], value[used], measured[used], pixel[used]
        flat = rows[at // SIDE**3] * SIDE**3 + at % SIDE**3
        self.sum.view(-1)[flat] += w * value
        self.weight.view(-1)[flat] += w
        flat, w, pixel = flat[measured], w[measured], pixel[measured]
        views = self.views.view(-1)
        views[flat] = (views[flat] + 1).clamp(max=250)
        self.colour_weight.view(-1)[flat] += w
        self.rgb.view(-1, 3)[flat] += w[:, None] * rgb[pixel]

    def values(self, min_views: int = 1) -> Float[Tensor, "m n"]:
        """Distance / truncation of every voxel; NaN where fewer than `min_views` views measured it."""
        known = (self.views >= min_views) & (self.weight > 0)
        return torch.where(known, self.sum / self.weight.clamp(min=1e-12), torch.nan)

    def colours(self) -> Float[Tensor, "m n 3"]:
        return self.rgb / self.colour_weight.clamp(min=1e-12)[..., None]


def _around(
    nearest: Float[Tensor, "h w"],
    farthest: Float[Tensor, "h w"],
    weights: Float[Tensor, "h w"],
    u: Float[Tensor, "k"],
    v: Float[Tensor, "k"],
    reach: Float[Tensor, "k"],
) -> tuple[Float[Tensor, "k"], Float[Tensor, "k"], Float[Tensor, "k"]]:
    """Within `reach` pixels of (u, v), or a little more: the minimum of `nearest`, the maximum of `farthest`, and the
    mean of the weights; from coarser and coarser maps."""
    low, high, mean = torch.zeros_like(u), torch.zeros_like(u), torch.zeros_like(u)
    nearest, farthest, weights = nearest[None], farthest[None], weights[None]
    side, left = 1, torch.ones_like(u, dtype=torch.bool)
    while bool(left.any()):
        whole = min(nearest.shape[1:]) <= 2
        here = left if whole else left & (reach <= side)
        column, row = (u[here] / side).long(), (v[here] / side).long()
        if whole:
            low[here], high[here], mean[here] = nearest.min(), farthest.max(), weights.mean()
        else:
            low[here] = -torch.nn.functional.max_pool2d(-nearest, 3, 1, 1)[0][row, column]
            high[here] = torch.nn.functional.max_pool2d(farthest, 3, 1, 1)[0][row, column]
            mean[here] = torch.nn.functional.avg_pool2d(weights, 3, 1, 1, count_include_pad=False)[0][row, column]
        left = left & ~here
        nearest = -torch.nn.functional.max_pool2d(-nearest, 2, 2, ceil_mode=True)
        farthest = torch.nn.functional.max_pool2d(farthest, 2, 2, ceil_mode=True)
        weights = torch.nn.functional.avg_pool2d(weights, 2, 2, ceil_mode=True)
        side *= 2
    return low, high, mean


def measured_pixels(depth: Float[Tensor, "h w"], truncation: float) -> Bool[Tensor, "h w"]:
    """Pixels whose depth is known and on no edge: inverse depth, which is linear on a plane, bends by less than a
    step of three times `truncation` to all sides."""
    known = depth > 0
    inverse = torch.where(known, 1 / depth.clamp(min=1e-9), 0)
    padded = torch.nn.functional.pad(inverse[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    bend_x = (padded[1:-1, 2:] + padded[1:-1, :-2] - 2 * inverse).abs()
    bend_y = (padded[2:, 1:-1] + padded[:-2, 1:-1] - 2 * inverse).abs()
    return known & (torch.maximum(bend_x, bend_y) * depth.square() < _MAX_STEP * truncation)
