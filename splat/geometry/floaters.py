"""Floaters: what is drawn in space that photos see past."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import Rasterizer, RasterSettings
from splat.geometry.drawing import draw_view
from splat.geometry.reproject import PosedDepth, count_support


def floating(
    means: Float[Tensor, "n 3"], depths: Sequence[PosedDepth], max_free_space: float = 0.05, min_views: int = 2
) -> Bool[Tensor, "n"]:
    """Points nearer than what at least `min_views` photos see there by more than the fraction `max_free_space` of their
    depth: space that these photos see through."""
    _, violations = count_support(depths, means.cpu().float(), 0.0, max_free_space)
    return (violations >= min_views).to(means.device)


def floater_share(
    gaussians: Gaussians,
    depths: Sequence[PosedDepth],
    cameras: Sequence[tuple[Camera, Rigid]],
    raster: Rasterizer,
    settings: RasterSettings,
) -> float | None:
    """The share of the blended weight, over all pixels of these cameras, that belongs to Gaussians whose centres are
    `floating`, in [0, 1]. None where nothing is drawn. `cameras`: with `world_from_cam`."""
    marks = floating(gaussians.means, depths).to(gaussians.means)[:, None]
    black = gaussians.means.new_zeros(3)
    floats = everything = 0.0
    for camera, world_from_cam in cameras:
        render = draw_view(gaussians, camera, world_from_cam, raster, settings, black, marks)
        assert render.features is not None
        floats += float(render.features.sum())
        everything += float(render.alpha.sum())
    return floats / everything if everything > 0 else None
