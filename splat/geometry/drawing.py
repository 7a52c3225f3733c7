"""Drawing one view of Gaussians: cull without gradients, gather, draw."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import Rasterizer, RasterSettings, Render


def draw(
    gaussians: Gaussians,
    camera: Camera,
    cam_from_world: Float[Tensor, "4 4"],
    rasterizer: Rasterizer,
    settings: RasterSettings,
    background: Float[Tensor, "3"],
    features: Float[Tensor, "n c"] | None = None,
) -> Render:
    """One image [h w] of the Gaussians over the background colour. Differentiable, except for the choice of the culled
    rows.

    Rows that cannot touch the image are culled first; per-Gaussian fields of the render are of the remaining rows. Pose
    and background must be on the device of the Gaussians.
    """
    with torch.no_grad():
        ids = rasterizer.visible(gaussians, camera, cam_from_world, settings)
    own = None if features is None else features[ids]
    return rasterizer(gaussians[ids], camera, cam_from_world, background, settings, features=own)


def draw_view(
    gaussians: Gaussians,
    camera: Camera,
    world_from_cam: Rigid,
    rasterizer: Rasterizer,
    settings: RasterSettings,
    background: Float[Tensor, "3"],
    features: Float[Tensor, "n c"] | None = None,
) -> Render:
    """One image of the Gaussians from a pose, without gradients."""
    with torch.no_grad():
        return draw(
            gaussians,
            camera,
            world_from_cam.inverse().matrix().to(gaussians.means),
            *(rasterizer, settings, background, features),
        )
