"""Drawing a cloud of points: what is known of how a scene looks from elsewhere, and where nothing is known."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.geometry.between import nearest_around
from splat.geometry.reproject import project_points

_SAME_SURFACE = 0.03
"""Points farther than the nearest one around a pixel by more than this fraction are hidden by it."""


def render_points(
    camera: Camera, world_from_cam: Rigid, points: Float[Tensor, "n 3"], colours: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"]]:
    """The mean colour of the nearest points that fall into each pixel, and in which pixels there are any; black
    elsewhere.

    A point is hidden where one of the eight pixels around its own, or this itself, has a nearer one: points behind a
    surface do not show through the gaps between its points.
    """
    h, w = camera.height, camera.width
    seen = project_points(camera, world_from_cam, points)
    column, row = seen.pixels[seen.in_frame].long().unbind(1)
    z, rgb, at = seen.depth[seen.in_frame].float(), colours[seen.in_frame].float(), row * w + column
    front = z <= (1 + _SAME_SURFACE) * nearest_around(camera, at, z).reshape(-1)[at]
    count, total = torch.zeros(h * w), torch.zeros(h * w, 3)
    count.index_add_(0, at[front], torch.ones(int(front.sum())))
    total.index_add_(0, at[front], rgb[front])
    image = (total / count.clamp_min(1)[:, None]).reshape(h, w, 3)
    return image, (count > 0).reshape(h, w)
