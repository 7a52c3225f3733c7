"""Points in posed views with depth maps: projection, depth lookup, and whether depth maps agree.

Forward-backward consistency: a pixel of view a is projected into view b by a's depth and back into a by b's depth; it
is consistent when it returns to about the same pixel at about the same depth (as in multi-view stereo, e.g.
Schoenberger et al. 2016, section 4). Depths are z in world units; 0 where nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.geometry import Rigid
from splat.core.slots import DepthMap
from splat.native import bindings
from splat.native.ops import compiled


@dataclass(frozen=True, eq=False)
class Projection:
    """Points as one view sees them."""

    pixels: Float[Tensor, "*n 2"]
    """Pixel coordinates; meaningless where `in_frame` is false."""
    depth: Float[Tensor, "*n"]
    """z in the camera's frame, world units."""
    in_frame: Bool[Tensor, "*n"]
    """In front of the camera and inside its frame, occluded or not."""


def project_points(camera: Camera, world_from_cam: Rigid, points: Float[Tensor, "*n 3"]) -> Projection:
    """World points projected into a view."""
    in_cam = world_from_cam.inverse().apply(points)
    pixels = camera.project(in_cam)
    return Projection(pixels, in_cam[..., 2], (in_cam[..., 2] > 0) & camera.contains(pixels))


def pixel_indices(
    pixels: Float[Tensor, "*n 2"], width: int, height: int
) -> tuple[Int[Tensor, "*n"], Int[Tensor, "*n"]]:
    """Row and column of the pixel that each coordinate falls into; the nearest one outside of the frame, 0 for NaN."""
    column, row = (t.nan_to_num().clamp(0, n - 1).long() for t, n in zip(pixels.unbind(-1), (width, height)))
    return row, column


def pixel_transfer(camera_a: Camera, camera_b: Camera, b_from_a: Rigid) -> Float[Tensor, "12"]:
    """Maps pixels with a depth from view a to view b: A [3 3] by rows, then t [3], float64.

    Pixel p = (x, y, 1) of a at depth z is at A p + t / z in b, homogeneous (Hartley & Zisserman, section 9.5).
    """
    ka, kb = camera_a.matrix(), camera_b.matrix()
    rotation, translation = b_from_a.rotation.double(), b_from_a.translation.double()
    return torch.cat([(kb @ rotation @ torch.linalg.inv(ka)).reshape(-1), kb @ translation])


@dataclass(frozen=True, eq=False)
class DepthLookup:
    """What a view's depth map says at points of the world."""

    row: Int[Tensor, "n"]
    """The pixel that each point falls into (the nearest one where it is out of the frame)."""
    column: Int[Tensor, "n"]
    ratio: Float[Tensor, "n"]
    """The map's depth over the point's own: above 1 the view sees a surface behind the point, below 1 the point is
    occluded."""
    known: Bool[Tensor, "n"]
    """The point is in the frame, at a pixel whose depth is known (above 0)."""

    def agrees(self, max_depth_difference: float) -> Bool[Tensor, "n"]:
        """Points that lie on the surface that the view sees, up to that relative difference of depth."""
        return self.known & ((self.ratio - 1).abs() < max_depth_difference)


def look_up_depth(
    camera: Camera, world_from_cam: Rigid, depth: Float[Tensor, "h w"], points: Float[Tensor, "n 3"]
) -> DepthLookup:
    """The depth map of a view at world points: that of the pixel a point falls into, never interpolated over an
    edge."""
    projected = project_points(camera, world_from_cam, points)
    row, column = pixel_indices(projected.pixels, depth.shape[1], depth.shape[0])
    own = depth[row, column]
    return DepthLookup(row, column, own / projected.depth, projected.in_frame & (own > 0))


# ------------------------------------------------------------------------------------ two depth maps against each other


@dataclass(frozen=True, eq=False)
class ForwardBackward:
    """Every pixel of view a, projected into view b by a's depth and back into a by b's."""

    in_frame: Bool[Tensor, "h w"]
    """The pixel's point is in front of b and inside its frame."""
    pixels: Float[Tensor, "h w 2"]
    """Where it is in b, px; meaningless where it is not in the frame."""
    row: Int[Tensor, "h w"]
    """The pixel of b it falls into (the nearest one where it is not in the frame)."""
    column: Int[Tensor, "h w"]
    shift: Float[Tensor, "h w"]
    """Distance in a between the pixel and where b's depth projects back to, px."""
    depth_difference: Float[Tensor, "h w"]
    """Depth in a of the point by b's depth, over a's own, minus 1; positive where b sees a surface behind the point."""

    def consistent(self, max_shift: float, max_depth_difference: float) -> Bool[Tensor, "h w"]:
        return self.in_frame & (self.shift < max_shift) & (self.depth_difference.abs() < max_depth_difference)


def forward_backward(
    camera_a: Camera,
    world_from_a: Rigid,
    depth_a: Float[Tensor, "h w"],
    camera_b: Camera,
    world_from_b: Rigid,
    depth_b: Float[Tensor, "hb wb"],
) -> ForwardBackward:
    """Project every pixel of a into b and back. b's depth is that of the pixel a point falls into, never interpolated
    over an edge."""
    pixels = camera_a.pixel_centres().to(depth_a)
    b_from_a = world_from_b.inverse() @ world_from_a
    in_b = b_from_a.apply(camera_a.unproject(pixels, depth_a))
    forward = camera_b.project(in_b)
    in_frame = (in_b[..., 2] > 0) & camera_b.contains(forward)
    row, column = pixel_indices(forward, camera_b.width, camera_b.height)
    backward = b_from_a.inverse().apply(camera_b.unproject(forward, depth_b[row, column]))
    shift = (camera_a.project(backward) - pixels).norm(dim=-1)
    difference = torch.where(backward[..., 2] > 0, backward[..., 2] / depth_a - 1, torch.inf)
    return ForwardBackward(in_frame, forward, row, column, shift, difference)


def parallax(
    camera: Camera, world_from_cam: Rigid, depth: Float[Tensor, "h w"], centre: Float[Tensor, "3"]
) -> Float[Tensor, "h w"]:
    """Degrees between the ray of every pixel and the ray to the same point from another camera's centre (world)."""
    points = camera.unproject(camera.pixel_centres().to(depth), depth)
    others = points - world_from_cam.inverse().apply(centre).to(points)
    across = torch.linalg.cross(points, others).norm(dim=-1)
    return torch.atan2(across, (points * others).sum(-1)).rad2deg()


@dataclass(frozen=True, eq=False)
class Consistency:
    """Which pixels of view a show a surface that view b's depth map has at the same place."""

    pixel_ids: Int[Tensor, "h w"]
    """The pixel of b (row x width + column) that each pixel's point falls into; the nearest one out of the frame."""
    consistent: Bool[Tensor, "h w"]
    pixels: Float[Tensor, "h w 2"] | None = None
    """Where the point is in b, px, where asked for."""


def check_consistency(
    camera_a: Camera,
    world_from_a: Rigid,
    depth_a: Float[Tensor, "h w"],
    camera_b: Camera,
    world_from_b: Rigid,
    depth_b: Float[Tensor, "hb wb"],
    max_shift: float,
    max_depth_difference: float,
    min_parallax: float = 0.0,
    pixels: bool = False,
) -> Consistency:
    """Forward-backward consistency of two depth maps, compiled where it can be.

    A pixel of a is consistent when both depths are above 0, projecting it into b and back moves it by less than
    `max_shift` px and changes its depth by less than the fraction `max_depth_difference`, and the two views' rays to
    the point are at least `min_parallax` degrees (below 90) apart.
    """
    if not compiled(depth_a, depth_b):
        found = forward_backward(camera_a, world_from_a, depth_a, camera_b, world_from_b, depth_b)
        ids = found.row * camera_b.width + found.column
        consistent = found.consistent(max_shift, max_depth_difference) & (depth_a > 0) & (depth_b.reshape(-1)[ids] > 0)
        if min_parallax > 0:
            consistent &= parallax(camera_a, world_from_a, depth_a, world_from_b.translation) >= min_parallax
        return Consistency(ids, consistent, found.pixels if pixels else None)
    b_from_a = world_from_b.inverse() @ world_from_a
    maps = [
        *pixel_transfer(camera_a, camera_b, b_from_a).tolist(),
        *pixel_transfer(camera_b, camera_a, b_from_a.inverse()).tolist(),
    ]
    ids = torch.empty(depth_a.shape, dtype=torch.int32)
    consistent = torch.empty(depth_a.shape, dtype=torch.uint8)
    forward = torch.empty(*depth_a.shape, 2) if pixels else None
    bindings.call(
        "splat_agreement",
        *(camera_a.height, camera_a.width, depth_a.contiguous()),
        *(camera_a.fx, camera_a.fy, camera_a.cx, camera_a.cy),
        *(camera_b.height, camera_b.width, depth_b.contiguous(), bindings.doubles(maps)),
        *(max_shift, max_depth_difference, math.tan(math.radians(min_parallax)), forward, ids, consistent),
    )
    return Consistency(ids, consistent.bool(), forward)


# ------------------------------------------------------------------------------- many depth maps against points


@dataclass(frozen=True, eq=False)
class PosedDepth:
    """A view and its depth map."""

    camera: Camera
    world_from_cam: Rigid
    depth: Float[Tensor, "h w"]
    """0 where nothing is known."""

    @cached_property
    def pixel_from_world(self) -> Float[Tensor, "3 4"]:
        """The projection matrix, float64."""
        cam_from_world = self.world_from_cam.inverse()
        top = torch.cat([cam_from_world.rotation, cam_from_world.translation[:, None]], 1)
        return self.camera.matrix() @ top.double()


def match_inverse_depth(
    homogeneous: Float[Tensor, "m 3"], shift: Float[Tensor, "3"], pixels: Float[Tensor, "m 2"]
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m 2"], Float[Tensor, "m 2"]]:
    """Of matches: the inverse depth w at which `homogeneous + w shift` (pixels of another view, see `pixel_transfer`)
    is nearest to `pixels`; and the two sides of the equation w along = wanted that it solves by least squares."""
    along = shift[:2] - pixels * shift[2]
    wanted = pixels * homogeneous[:, 2:] - homogeneous[:, :2]
    return (along * wanted).sum(1) / along.square().sum(1).clamp_min(1e-300), along, wanted


def read_bilinear(
    image: Float[Tensor, "c h w"], pixels: Float[Tensor, "a b 2"], size: tuple[int, int]
) -> Float[Tensor, "c a b"]:
    """Values of an image at pixel coordinates of one of `size` (width, height), which the image may have in another
    resolution; beyond its frame those of the border."""
    grid = (2 * pixels / pixels.new_tensor(size) - 1).to(image)
    return torch.nn.functional.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)[0]


def posed_depths(views: Sequence[View], maps: Sequence[DepthMap], measured: bool = True) -> list[PosedDepth]:
    """The depths of views, one map each, at the maps' own sizes: `measured` ones, or also those that are doubtful.
    None where there are not as many maps."""
    if len(maps) != len(views):
        return []
    return [
        PosedDepth(
            v.camera.resized(m.depth.shape[1], m.depth.shape[0]),
            v.pose,
            m.known if measured else torch.where(m.confidence > 0, m.depth, 0),
        )
        for v, m in zip(views, maps, strict=True)
    ]


def count_support(
    views: Sequence[PosedDepth], points: Float[Tensor, "n 3"], max_depth_difference: float, max_free_space: float
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """How many views support each world point, and in how many it violates free space.

    A view supports a point that lies on the surface it sees: their depths differ by less than the fraction
    `max_depth_difference`. The point violates the view's free space when what the view sees there is farther by more
    than the fraction `max_free_space`. Views that know no depth there, or in which the point is occluded, count as
    neither.
    """
    support, violations = torch.zeros(2, len(points), dtype=torch.int32)
    points = points.contiguous()
    for v in views:
        if compiled(points, v.depth):
            bindings.call(
                "splat_count_support",
                *(len(points), points, v.camera.height, v.camera.width, v.depth.contiguous(), v.pixel_from_world),
                *(max_depth_difference, max_free_space, support, violations),
            )
            continue
        found = look_up_depth(v.camera, v.world_from_cam, v.depth, points)
        support += found.agrees(max_depth_difference)
        violations += found.known & (found.ratio > 1 + max_free_space)
    return support, violations
