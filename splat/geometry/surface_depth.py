"""Where the surface is along each pixel's ray, from Gaussians: depth for meshes and point clouds.

A Gaussian stands for the piece of surface through its densest points along the rays of the pixels that it covers. To
first order that is the plane through its centre with normal Sigma^-1 mu (mu: the centre, in camera axes), as in RaDe-GS
(Zhang et al. 2024): the shortest axis of a flat Gaussian, the direction towards the camera of a round one. On a plane
inverse depth is affine in the pixel, so planes are blended exactly with three extra channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid, matrix_from_quat
from splat.core.slots import Rasterizer, RasterSettings

MIN_ALPHA = 0.5
"""There is a surface where at least this much of the ray is stopped."""
_MIN_COSINE = 0.1
"""Between a plane's normal and the ray. The drawn footprint of a Gaussian that is seen edge-on is widened by the 0.3
px^2 of `RasterSettings.mode`, and its plane means nothing there."""


@dataclass(frozen=True, eq=False)
class SurfaceDepth:
    """One view of the surface."""

    depth: Float[Tensor, "h w"]
    """z-depth, world units; 0 where nothing is."""
    normals_cam: Float[Tensor, "h w 3"]
    """Unit normals in camera axes, towards the camera."""
    spread: Float[Tensor, "h w"]
    """Standard deviation, relative to the depth, of what the pixel blends: small on a surface, large where the pixel
    mixes two, or looks through a veil."""
    alpha: Float[Tensor, "h w"]
    rgb: Float[Tensor, "h w 3"]
    """Colour of what is there, without background."""


def planes_of(gaussians: Gaussians, camera: Camera, cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "n 3"]:
    """(c, a, b) per Gaussian: inverse depth at pixel (x, y) is c + a (x - w/2) + b (y - h/2)."""
    turn = cam_from_world[:3, :3]
    mu = gaussians.means @ turn.T + cam_from_world[:3, 3]
    axes = turn @ matrix_from_quat(gaussians.quats_wxyz)
    inverse = (-2 * (gaussians.log_scales - gaussians.log_scales.amin(1, keepdim=True))).exp()
    local = torch.einsum("nji,nj->ni", axes, mu)
    ray = normalize(mu, dim=1)
    n = normalize(torch.einsum("nij,nj->ni", axes, inverse * local), dim=1)
    cosine = (n * ray).sum(1, keepdim=True)
    # Turned towards the ray where it is seen nearly edge-on.
    across = normalize(n - cosine * ray, dim=1)
    n = torch.where(cosine < _MIN_COSINE, _MIN_COSINE * ray + (1 - _MIN_COSINE**2) ** 0.5 * across, n)
    n = n / (n * mu).sum(1, keepdim=True)
    a, b = n[:, 0] / camera.fx, n[:, 1] / camera.fy
    c = n[:, 2] + a * (camera.width / 2 - camera.cx) + b * (camera.height / 2 - camera.cy)
    return torch.stack([c, a, b], 1)


def surface_depth(
    gaussians: Gaussians, camera: Camera, world_from_cam: Rigid, rasterizer: Rasterizer, settings: RasterSettings
) -> SurfaceDepth:
    """The surface that one camera sees, without gradients."""
    with torch.no_grad():
        cam_from_world = world_from_cam.inverse().matrix().to(gaussians.means)
        rows = gaussians[rasterizer.visible(gaussians, camera, cam_from_world, settings)]
        inverse = 1 / (rows.means @ cam_from_world[2, :3] + cam_from_world[2, 3]).clamp(min=settings.near)
        features = torch.cat([planes_of(rows, camera, cam_from_world), inverse[:, None], inverse[:, None].square()], 1)
        black = gaussians.means.new_zeros(3)
        render = rasterizer(rows, camera, cam_from_world, black, settings, features=features)
        assert render.features is not None
        alpha = render.alpha.clamp(min=1e-6)
        c, a, b, mean, square = (render.features / alpha[..., None]).unbind(2)
        x, y = camera.pixel_centres().to(c).unbind(2)
        on_planes = c + a * (x - camera.width / 2) + b * (y - camera.height / 2)
        known = (render.alpha >= MIN_ALPHA) & (on_planes > 1e-9)
        depth = torch.where(known, 1 / on_planes.clamp(min=1e-9), 0)
        spread = (square - mean.square()).clamp(min=0).sqrt() / mean.clamp(min=1e-9)
        nx, ny = a * camera.fx, b * camera.fy
        nz = c - a * (camera.width / 2 - camera.cx) - b * (camera.height / 2 - camera.cy)
        normals = -normalize(torch.stack([nx, ny, nz], 2), dim=2)
        rgb = (render.rgb / alpha[..., None]).clamp(0, 1)
    return SurfaceDepth(depth, normals, spread, render.alpha, rgb)
