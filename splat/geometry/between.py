"""Cameras between photos, and the measured surfaces as they see them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid, matrix_from_quat, quats_on_one_side
from splat.geometry.focus import nearest_alike
from splat.geometry.reproject import PosedDepth, project_points

_SIDE, _WIDER = 160, 0.25
_NEIGHBOURS, _STEPS = 3, (0.25, 0.5, 0.75)
_MAX_POINTS = 20_000


def pose_between(a: Rigid, b: Rigid, t: float) -> Rigid:
    """`world_from_cam` a share t of the way from camera a to camera b."""
    qa, qb = quats_on_one_side(torch.stack([a.rotation, b.rotation]))
    turn = torch.nn.functional.normalize((1 - t) * qa + t * qb, dim=0)
    return Rigid(matrix_from_quat(turn), a.translation + t * (b.translation - a.translation))


def surfaces_between(depths: Sequence[PosedDepth]) -> list[PosedDepth]:
    """What all photos measured, as small depth maps of cameras on the ways between neighbouring photos; the frames of
    these reach beyond those of the photos by a quarter on each side."""
    points = torch.cat([_points(d) for d in depths]) if depths else torch.zeros(0, 3)
    poses = [d.world_from_cam for d in depths]
    pairs = {tuple(sorted((i, j))) for i in range(len(poses)) for j in nearest_alike(poses, i, _NEIGHBOURS)}
    out = []
    for i, j in sorted(pairs):
        camera = _wider(depths[i].camera)
        for t in _STEPS:
            pose = pose_between(poses[i], poses[j], t)
            out.append(PosedDepth(camera, pose, splatted(camera, pose, points)))
    return out


def splatted(camera: Camera, world_from_cam: Rigid, points: Float[Tensor, "n 3"]) -> Float[Tensor, "h w"]:
    """The depth of the nearest point that falls into each pixel or into one of the eight around it; 0 where none
    does."""
    seen = project_points(camera, world_from_cam, points)
    column, row = seen.pixels[seen.in_frame].long().unbind(1)
    nearest = nearest_around(camera, row * camera.width + column, seen.depth[seen.in_frame].float())
    return torch.where(nearest.isfinite(), nearest, 0).contiguous()


def nearest_around(camera: Camera, at: Int[Tensor, "n"], z: Float[Tensor, "n"]) -> Float[Tensor, "h w"]:
    """The least depth of points, given by pixel (row x width + column), in each pixel and the eight around it; infinite
    where there are none."""
    far = torch.full((camera.height * camera.width,), torch.inf)
    far.scatter_reduce_(0, at, z, "amin")
    return -torch.nn.functional.max_pool2d(-far.reshape(1, camera.height, camera.width), 3, 1, 1)[0]


def _points(depth: PosedDepth) -> Float[Tensor, "n 3"]:
    known = depth.depth > 0
    every = 1 + int(known.sum()) // _MAX_POINTS
    pixels, z = depth.camera.pixel_centres()[known][::every].float(), depth.depth[known][::every]
    return depth.world_from_cam.apply(depth.camera.unproject(pixels, z)).float()


def _wider(camera: Camera) -> Camera:
    c = camera.at_most(_SIDE)
    x, y = round(_WIDER * c.width), round(_WIDER * c.height)
    return Camera(c.fx, c.fy, c.cx + x, c.cy + y, c.width + 2 * x, c.height + 2 * y)
