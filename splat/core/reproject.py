"""Where a view's depth map says its pixels are in another view, and what that view's depth map says about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.native import bindings
from splat.native.ops import compiled


@dataclass(frozen=True, eq=False)
class ForwardBackward:
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


def forward_backward(
    camera_a: Camera,
    world_from_a: Rigid,
    depth_a: Float[Tensor, "h w"],
    camera_b: Camera,
    world_from_b: Rigid,
    depth_b: Float[Tensor, "hb wb"],
) -> ForwardBackward:
    """Depths are z; b's is that of the pixel a point falls into, never an average over an edge."""
    pixels = camera_a.pixel_centres().to(depth_a)
    b_from_a = world_from_b.inverse() @ world_from_a
    in_b = b_from_a.apply(camera_a.unproject(pixels, depth_a))
    there = camera_b.project(in_b)
    u, v = there.unbind(-1)
    inside = (in_b[..., 2] > 0) & camera_b.contains(there)
    row = v.nan_to_num().clamp(0, camera_b.height - 1).long()
    column = u.nan_to_num().clamp(0, camera_b.width - 1).long()
    back = b_from_a.inverse().apply(camera_b.unproject(there, depth_b[row, column]))
    shift = (camera_a.project(back) - pixels).norm(dim=-1)
    difference = torch.where(back[..., 2] > 0, back[..., 2] / depth_a - 1, torch.inf)
    return ForwardBackward(inside, there, row, column, shift, difference)


def parallax(
    camera: Camera, world_from_cam: Rigid, depth: Float[Tensor, "h w"], centre: Float[Tensor, "3"]
) -> Float[Tensor, "h w"]:
    """Degrees between the ray of every pixel and the ray to the same point from another camera's centre (world)."""
    points = camera.unproject(camera.pixel_centres().to(depth), depth)
    others = points - world_from_cam.inverse().apply(centre).to(points)
    across = torch.linalg.cross(points, others).norm(dim=-1)
    return torch.atan2(across, (points * others).sum(-1)).rad2deg()


@dataclass(frozen=True, eq=False)
class Agreement:
    """Which pixels of view a view b sees a surface of at the same place; pixels by their numbers."""

    at: Int[Tensor, "h w"]
    """The pixel of b that each pixel's point falls into (the nearest where that is outside)."""
    agrees: Bool[Tensor, "h w"]
    pixels: Float[Tensor, "h w 2"] | None = None
    """Where b sees it, in pixels, where asked for."""


def agreement(
    camera_a: Camera,
    world_from_a: Rigid,
    depth_a: Float[Tensor, "h w"],
    camera_b: Camera,
    world_from_b: Rigid,
    depth_b: Float[Tensor, "hb wb"],
    most_shift: float,
    most_difference: float,
    least_parallax: float = 0.0,
    pixels: bool = False,
) -> Agreement:
    """`forward_backward` all in one, and compiled where it can be: pixels whose depths are above 0, miss each other by
    less than `most_shift` px and the fraction `most_difference`, and are seen along rays at least `least_parallax`
    degrees (below 90) apart."""
    if not compiled(depth_a, depth_b):
        seen = forward_backward(camera_a, world_from_a, depth_a, camera_b, world_from_b, depth_b)
        at = seen.row * camera_b.width + seen.column
        agrees = seen.agrees(most_shift, most_difference) & (depth_a > 0) & (depth_b.reshape(-1)[at] > 0)
        if least_parallax > 0:
            agrees &= parallax(camera_a, world_from_a, depth_a, world_from_b.translation) >= least_parallax
        return Agreement(at, agrees, seen.pixels if pixels else None)
    b_from_a = world_from_b.inverse() @ world_from_a
    maps = [*_pixel_map(camera_a, camera_b, b_from_a), *_pixel_map(camera_b, camera_a, b_from_a.inverse())]
    at = torch.empty(depth_a.shape, dtype=torch.int32)
    agreed = torch.empty(depth_a.shape, dtype=torch.uint8)
    there = torch.empty(*depth_a.shape, 2) if pixels else None
    bindings.call(
        "splat_agreement",
        *(camera_a.height, camera_a.width, depth_a.contiguous()),
        *(camera_a.fx, camera_a.fy, camera_a.cx, camera_a.cy),
        *(camera_b.height, camera_b.width, depth_b.contiguous(), bindings.doubles(maps)),
        *(most_shift, most_difference, math.tan(math.radians(least_parallax)), there, at, agreed),
    )
    return Agreement(at, agreed.bool(), there)


def _pixel_map(camera_a: Camera, camera_b: Camera, b_from_a: Rigid) -> list[float]:
    """A by rows and b: pixel p of a at depth z is at A p z + b in b."""
    a, b = camera_a.matrix(), camera_b.matrix()
    return [*(b @ b_from_a.rotation @ torch.linalg.inv(a)).reshape(-1).tolist(), *(b @ b_from_a.translation).tolist()]


@dataclass(frozen=True, eq=False)
class Witness:
    """A view and what it knows of the surfaces it sees."""

    camera: Camera
    world_from_cam: Rigid
    depth: Float[Tensor, "h w"]
    """0 where nothing is known."""

    @cached_property
    def pixel_from_world(self) -> Float[Tensor, "3 4"]:
        inside = self.world_from_cam.inverse()
        return self.camera.matrix() @ torch.cat([inside.rotation, inside.translation[:, None]], 1).double()


def witnessed(
    witnesses: Sequence[Witness], points: Float[Tensor, "n 3"], most_difference: float, most_before: float
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """How many see a surface at points of the world (their depth there differs by less than the fraction
    `most_difference`), and how many see past them (theirs is larger by more than `most_before`)."""
    agree, see_past = torch.zeros(2, len(points), dtype=torch.int32)
    points = points.contiguous()
    for w in witnesses:
        if compiled(points, w.depth):
            bindings.call(
                "splat_witness",
                *(len(points), points, w.camera.height, w.camera.width, w.depth.contiguous(), w.pixel_from_world),
                *(most_difference, most_before, agree, see_past),
            )
            continue
        inside = w.world_from_cam.inverse().apply(points)
        pixels = w.camera.project(inside)
        column, row = (t.nan_to_num().clamp(0, n - 1).long() for t, n in zip(pixels.unbind(1), w.depth.shape[::-1]))
        own = w.depth[row, column]
        seen = (inside[:, 2] > 0) & w.camera.contains(pixels) & (own > 0)
        ratio = own / inside[:, 2]
        agree += seen & ((ratio - 1).abs() < most_difference)
        see_past += seen & (ratio > 1 + most_before)
    return agree, see_past
