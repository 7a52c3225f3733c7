"""Where a view's depth map says its pixels are in another view, and what that view's depth map says about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid


@dataclass(frozen=True, eq=False)
class ThereAndBack:
    """Of every pixel of view a, by way of view b."""

    inside: Bool[Tensor, "h w"]
    """b sees the point, as far as its frame goes."""
    pixels: Float[Tensor, "h w 2"]
    """Where b sees it, in pixels; means nothing where it is not inside."""
    row: Int[Tensor, "h w"]
    """The pixel of b it falls into (the nearest where it is not inside)."""
    column: Int[Tensor, "h w"]
    shift: Float[Tensor, "h w"]
    """Pixels by which b's own depth there, taken back to a, misses the pixel."""
    difference: Float[Tensor, "h w"]
    """Depth in a by b's account over a's own, minus one; positive: b sees farther, past the point."""

    def agrees(self, most_shift: float, most_difference: float) -> Bool[Tensor, "h w"]:
        return self.inside & (self.shift < most_shift) & (self.difference.abs() < most_difference)


def there_and_back(
    camera_a: Camera,
    world_from_a: Rigid,
    depth_a: Float[Tensor, "h w"],
    camera_b: Camera,
    world_from_b: Rigid,
    depth_b: Float[Tensor, "hb wb"],
) -> ThereAndBack:
    """Depths are z; b's is that of the pixel a point falls into, never an average over an edge."""
    pixels = camera_a.pixel_centres().to(depth_a)
    b_from_a = world_from_b.inverse() @ world_from_a
    in_b = b_from_a.apply(camera_a.unproject(pixels, depth_a))
    there = camera_b.project(in_b)
    u, v = there.unbind(-1)
    inside = (in_b[..., 2] > 0) & camera_b.holds(there)
    row = v.nan_to_num().clamp(0, camera_b.height - 1).long()
    column = u.nan_to_num().clamp(0, camera_b.width - 1).long()
    back = b_from_a.inverse().apply(camera_b.unproject(there, depth_b[row, column]))
    shift = (camera_a.project(back) - pixels).norm(dim=-1)
    difference = torch.where(back[..., 2] > 0, back[..., 2] / depth_a - 1, torch.inf)
    return ThereAndBack(inside, there, row, column, shift, difference)


def parallax(
    camera: Camera, world_from_cam: Rigid, depth: Float[Tensor, "h w"], centre: Float[Tensor, "3"]
) -> Float[Tensor, "h w"]:
    """Degrees between the ray of every pixel and the ray to the same point from another camera's centre (world)."""
    points = camera.unproject(camera.pixel_centres().to(depth), depth)
    others = points - world_from_cam.inverse().apply(centre).to(points)
    across = torch.linalg.cross(points, others).norm(dim=-1)
    return torch.atan2(across, (points * others).sum(-1)).rad2deg()
