"""Floaters: what is drawn in space that photos see past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import Rasterizer, RasterSettings
from splat.geometry.drawing import draw_view
from splat.geometry.reproject import PosedDepth, count_support, look_up_depth, project_points


def floating(
    means: Float[Tensor, "n 3"], depths: Sequence[PosedDepth], max_free_space: float = 0.05, min_views: int = 2
) -> Bool[Tensor, "n"]:
    """Points nearer than what at least `min_views` photos see there by more than the fraction `max_free_space` of their
    depth: space that these photos see through."""
    _, violations = count_support(depths, means.cpu().float(), 0.0, max_free_space)
    return (violations >= min_views).to(means.device)


def nearest_measured(depths: Sequence[PosedDepth]) -> list[float]:
    """Per photo, the depth nearer than which it measured next to nothing (two percent of its depths); 0 without."""
    known = [d.depth[d.depth > 0] for d in depths]
    return [float(k.quantile(0.02)) if 0 < len(k) < 2**24 else 0.0 for k in known]


def veiling(
    means: Float[Tensor, "n 3"],
    depths: Sequence[PosedDepth],
    nearest: Sequence[float],
    between: Sequence[PosedDepth],
    max_depth_difference: float = 0.03,
    max_free_space: float = 0.4,
    margin: float = 0.5,
) -> Bool[Tensor, "n"]:
    """Points in the frame of a photo, or beside it by up to `margin` of its size, that are nearer to it than `nearest`
    (per photo, world units), lie on no surface that any photo measured, and hide a measured one from a camera between
    the photos (`between`, see `between.surfaces_between`) by more than `max_free_space`.

    They grow before one photo, to explain what it could not match, and veil the scene from everywhere else. What is
    near but hides nothing, as the ground before the feet, stays.
    """
    points = means.cpu().float()
    near = torch.zeros(len(points), dtype=torch.bool)
    for view, limit in zip(depths, nearest, strict=True):
        seen = project_points(view.camera, view.world_from_cam, points)
        size = seen.pixels.new_tensor([view.camera.width, view.camera.height])
        around = ((seen.pixels / size - 0.5).abs() < 0.5 + margin).all(1)
        near |= around & (seen.depth > 0) & (seen.depth < limit)
    ids = near.nonzero()[:, 0]
    support, _ = count_support(depths, points[ids], max_depth_difference, 0.0)
    _, hides = count_support(between, points[ids], 0.0, max_free_space)
    near[ids] = (support == 0) & (hides > 0)
    return near.to(means.device)


def seen_past(means: Float[Tensor, "n 3"], depths: Sequence[PosedDepth], min_views: int = 2) -> Float[Tensor, "n"]:
    """By which fraction of their depth at least `min_views` photos see past each point, in [0, 1); 0 where fewer do.

    It is the depth from the surface to the point, over that of the surface: what is above x / (1 + x) is `floating` for
    `max_free_space` x.
    """
    points = means.detach().cpu().float()
    past = torch.zeros(min_views, len(points))
    for d in depths:
        found = look_up_depth(d.camera, d.world_from_cam, d.depth, points)
        share = torch.where(found.known & (found.ratio > 1), 1 - 1 / found.ratio, 0).float()
        past = torch.cat([past, share[None]]).topk(min_views, dim=0).values
    return past[-1]


@dataclass(frozen=True)
class Floating:
    """What one camera sees of it, in units of a fully covered pixel."""

    weight: float
    """Blended weight of Gaussians whose centres are `floating`."""
    total: float
    """Blended weight of all."""

    @property
    def share(self) -> float:
        return self.weight / self.total if self.total > 0 else 0.0


def floating_weights(
    gaussians: Gaussians,
    depths: Sequence[PosedDepth],
    cameras: Sequence[tuple[Camera, Rigid]],
    raster: Rasterizer,
    settings: RasterSettings,
) -> list[Floating]:
    """For each of the cameras (with `world_from_cam`)."""
    marks = floating(gaussians.means, depths).to(gaussians.means)[:, None]
    black = gaussians.means.new_zeros(3)
    out = []
    for camera, world_from_cam in cameras:
        render = draw_view(gaussians, camera, world_from_cam, raster, settings, black, marks)
        assert render.features is not None
        out.append(Floating(float(render.features.sum()), float(render.alpha.sum())))
    return out


def share_of(found: Sequence[Floating]) -> float | None:
    """The share of the blended weight that floats, over all pixels of all cameras, in [0, 1]. None where nothing is
    drawn."""
    everything = sum(f.total for f in found)
    return sum(f.weight for f in found) / everything if everything > 0 else None
