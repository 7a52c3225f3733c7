"""Normals of the surfaces in a depth map, and slopes of inverse depth, which stand for them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera


def normals_of_slopes(
    camera: Camera, inverse: Float[Tensor, "h w"], slopes: Float[Tensor, "2 h w"]
) -> Float[Tensor, "h w 3"]:
    """Unit normals in the camera's frame, towards the camera, of the planes on which inverse depth is `inverse` at a
    pixel and changes by `slopes` per pixel to the right and downwards."""
    x, y = camera.pixel_centres().to(inverse).unbind(2)
    # On a plane n . X = d inverse depth is n . ((x - cx) / fx, (y - cy) / fy, 1) / d.
    nx, ny = slopes[0] * camera.fx, slopes[1] * camera.fy
    nz = inverse - nx * (x - camera.cx) / camera.fx - ny * (y - camera.cy) / camera.fy
    return -torch.nn.functional.normalize(torch.stack([nx, ny, nz], 2), dim=2)


def slopes_of_normals(
    camera: Camera, depth: Float[Tensor, "h w"], normals_cam: Float[Tensor, "h w 3"], steepest: float = 0.1
) -> Float[Tensor, "2 h w"]:
    """The inverse of `normals_of_slopes`. The cosine between normal and ray counts as at least `steepest`."""
    x, y = camera.pixel_centres().to(depth).unbind(2)
    ray = torch.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, torch.ones_like(x)], 2)
    towards = -(normals_cam * ray).sum(2)
    towards = depth * torch.maximum(towards, steepest * ray.norm(dim=2))
    return -torch.stack([normals_cam[..., 0] / camera.fx, normals_cam[..., 1] / camera.fy]) / towards


def normals_of_depth(camera: Camera, depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """Unit normals in the camera's frame, towards the camera, from differences between neighbouring pixels."""
    inverse = 1 / depth
    padded = torch.nn.functional.pad(inverse[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    dx, dy = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    dx[:, [0, -1]] *= 2  # of one pixel, not two, at the borders
    dy[[0, -1]] *= 2
    return normals_of_slopes(camera, inverse, torch.stack([dx, dy]))
