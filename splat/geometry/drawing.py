"""Drawing one view of Gaussians: cull without gradients, gather, draw."""

from __future__ import annotations

from dataclasses import replace

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
    beyond: Gaussians | None = None,
) -> Render:
    """One image of the Gaussians from a pose, without gradients. `beyond`: Gaussians that are behind all of them; they
    are part of the colours, over the background, and of nothing else."""
    with torch.no_grad():
        pose = world_from_cam.inverse().matrix().to(gaussians.means)
        render = draw(gaussians, camera, pose, rasterizer, settings, background, features)
        if beyond is None:
            return render
        behind = draw(beyond.to(gaussians.means.device), camera, pose, rasterizer, settings, background)
        return over(render, behind.rgb, background)


def over(render: Render, image: Float[Tensor, "h w 3"], background: Float[Tensor, "3"]) -> Render:
    """A render that was made over `background`, over an image instead."""
    return replace(render, rgb=render.rgb + (1 - render.alpha)[..., None] * (image - background))
