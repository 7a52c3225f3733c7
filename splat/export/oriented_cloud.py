"""Points with normals, from Gaussians: those of the surface that the photos' cameras see, turned towards them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from splat.core.gaussians import Gaussians
from splat.core.geometry import matrix_from_quat
from splat.core.slots import PathCamera, Rasterizer, RasterSettings
from splat.export.deliverable import Scene
from splat.export.pointcloud import points_with_rows
from splat.geometry.surface_depth import surface_depth

_SIDE = 320
"""Long side, px, of the depth maps that say which camera sees a Gaussian."""
_BEHIND = 1.05
"""A camera sees a Gaussian that is no farther than this multiple of the surface's depth."""
_SEEN = 1000.0
"""A camera that sees a Gaussian counts as so many that have it in the frame."""


@dataclass(frozen=True, eq=False)
class OrientedCloud:
    """n points in the frame of the output."""

    positions: Float[Tensor, "n 3"]
    """float64; the local origin is added."""
    normals: Float[Tensor, "n 3"]
    """Unit, outwards."""
    rgb: Float[Tensor, "n 3"]
    """In [0, 1], sRGB."""


def cloud_of(scene: Scene, samples: int | None = None) -> OrientedCloud:
    """One point per Gaussian that is at least 0.3 opaque, or `samples` points that cover the surfaces evenly (see
    `points_from_gaussians`). A normal is the shortest axis of the Gaussian, turned towards the cameras that see it;
    those of a bare file, which has no cameras, away from the median of all points."""
    cloud, rows = points_with_rows(scene.surfaces, samples)
    axes = shortest_axes(scene.surfaces)
    if scene.trained is None:
        outwards = scene.gaussians.means - scene.gaussians.means.median(0).values
    else:
        t = scene.trained
        cameras = [PathCamera(v.camera, v.pose) for v in t.capture.views if v.world_from_cam is not None]
        towards = towards_cameras(t.gaussians.to(t.device), cameras, t.raster, scene.settings).cpu()
        outwards = towards @ t.file_from_world.rotation.T.to(towards)
    axes = torch.where((axes * outwards).sum(1, keepdim=True) < 0, -axes, axes)
    offset = torch.tensor(scene.offset, dtype=torch.float64)
    return OrientedCloud(cloud.positions.double() + offset, axes[rows], cloud.rgb)


def shortest_axes(gaussians: Gaussians) -> Float[Tensor, "n 3"]:
    """Unit vectors along the shortest axis of each Gaussian, of either sign."""
    which = gaussians.log_scales.argmin(1)
    turns = matrix_from_quat(gaussians.quats_wxyz)
    return turns[torch.arange(len(turns), device=turns.device), :, which]


def towards_cameras(
    gaussians: Gaussians, cameras: Sequence[PathCamera], rasterizer: Rasterizer, settings: RasterSettings
) -> Float[Tensor, "n 3"]:
    """Sum of the directions from each Gaussian to the cameras that see it; where none does, to those that have it in
    the frame, or else to all cameras."""
    total = torch.zeros_like(gaussians.means)
    for c in cameras:
        camera = c.camera.at_most(_SIDE)
        surface = surface_depth(gaussians, camera, c.world_from_cam, rasterizer, settings).depth
        local = c.world_from_cam.inverse().apply(gaussians.means)
        pixels = camera.project(local)
        inside = (local[:, 2] > settings.near) & camera.contains(pixels)
        column, row = torch.where(inside[:, None], pixels, 0).long().unbind(1)
        depth = surface[row, column]
        sees = inside & ((local[:, 2] <= _BEHIND * depth) | (depth <= 0))
        weight = 1e-3 + inside.to(local) + _SEEN * sees.to(local)
        total += weight[:, None] * normalize(c.world_from_cam.translation.to(local) - gaussians.means, dim=1)
    return total
