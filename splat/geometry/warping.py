"""A photo as another camera would see it, by that camera's depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.geometry.reproject import pixel_indices, project_points, read_bilinear


@dataclass(frozen=True, eq=False)
class Warped:
    """A photo warped into a view."""

    rgb: Float[Tensor, "h w 3"]
    """0 where `mask` is."""
    mask: Float[Tensor, "h w"]
    """1: the view knows a depth there, and its point is in the photo's frame; else 0."""
    agreement: Float[Tensor, "h w"]
    """In [0, 1]: whether the photo sees that point, by the photo's own depth. exp(-|d| / `scale`) of the relative
    difference d of the two depths; 0 where `mask` is, or the photo's depth is not known."""


def warp_photo(
    camera: Camera,
    world_from_cam: Rigid,
    depth: Float[Tensor, "h w"],
    photo_camera: Camera,
    world_from_photo: Rigid,
    photo: Float[Tensor, "hp wp 3"],
    photo_depth: Float[Tensor, "hp wp"],
    scale: float = 0.02,
) -> Warped:
    """The photo sampled where the view's points fall (bilinear; backward warping).

    Depths are z in world units, 0 where nothing is known. The photo's depth is read at the pixel that a point falls
    into, never interpolated over an edge.
    """
    points = world_from_cam.apply(camera.unproject(camera.pixel_centres().to(depth), depth).double())
    seen = project_points(photo_camera, world_from_photo, points)
    mask = (seen.in_frame & (depth > 0)).float()
    pixels = torch.where(mask[..., None] > 0, seen.pixels, 0).to(photo)
    rgb = read_bilinear(photo.permute(2, 0, 1), pixels, (photo_camera.width, photo_camera.height)).permute(1, 2, 0)
    row, column = pixel_indices(pixels, photo_camera.width, photo_camera.height)
    own = photo_depth[row, column]
    difference = (own / seen.depth.clamp_min(1e-9).to(own) - 1).abs()
    agreement = torch.where(own > 0, torch.exp(-difference / scale), 0) * mask
    return Warped(rgb * mask[..., None], mask, agreement)
