"""First Gaussians of the far background and of the sky, beside those of dense surfaces (after LM-Gaussian).

Matching is unsure of what is far: the parallax is small, and a sky has none. What only confident depths start from is
then missing, and near Gaussians grow to stand in for it. Here a pixel without a measured depth becomes background where
its depth is more than `far` times the photo's median one and another photo agrees, or nearly all of its region is as
far; and where it is sky: bright and smooth, connected to the top of the photo. Each region keeps a far depth of its own
(one sphere for all of it fits no photo well); sky lies beyond every measured surface, outside the ball around all of
them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.slots import Init
from splat.geometry.reproject import check_consistency
from splat.init.ray_surfaces import RaySurfaces
from splat.init.surface_gaussians import SurfaceSampler
from splat.init.view_surfaces import ViewSurface

_SKY_BEYOND = 1.5
"""Sky is at least so many times as far as anything else in its photo,"""
_OUTSIDE = 1.1
"""and so many times as far from the middle of the scene as the farthest measured surface."""
_FARTHEST = 30.0
"""Background is at most so many median depths away: beyond it, where exactly no longer shows."""
_BORDER = 4
"""px by which sky grows, where nothing is measured."""


@dataclass(frozen=True)
class BackgroundSurfaces(RaySurfaces):
    """As the surfaces of `coherent` or of `edgs`, and background behind them."""

    background: float = 0.2
    """Gaussians of the background, at most, as a fraction of those of measured surfaces; 0: none."""
    far: float = 1.5
    """Background is farther than so many times the median depth of its photo."""
    far_share: float = 0.8
    """A region is far where so large a share of its pixels is."""
    agree_depth: float = 0.15
    """Two photos agree about a far pixel where depths differ by less than this fraction,"""
    agree_shift: float = 3.0
    """and pixels, there and back, by less than this, px."""
    sky_brightness: float = 0.45
    """The least mean brightness of a pixel of sky, in [0, 1]."""
    sky_texture: float = 0.03
    """The largest change from pixel to pixel, smoothed, of sky."""
    along_rays: bool | None = None
    """Say of each Gaussian how far it may slide along its ray, as in `coherent` (default: with at most
    `--lm.max-bound-photos` photos); else they are free from the first step on."""
    keep_points: float = 3.0
    """Where Gaussians are free, sparse points farther than this many spacings from any dense one are kept. 0: none."""

    sampler: ClassVar[type[SurfaceSampler]]

    def with_details(self, init: Init, sampler: SurfaceSampler) -> Init:
        if self.along_rays is False:
            return init
        init = super().with_details(init, sampler)
        assert isinstance(sampler, BackgroundSampler)
        if init.rays is None:
            return init
        first, end = sampler.background_rows
        probability = init.rays.probability.clone()
        probability[first:end] = 1.0
        reach = init.rays.nearest.new_tensor([1 - self.probable_reach, 1 + self.probable_reach])
        nearest, farthest = init.rays.nearest.clone(), init.rays.farthest.clone()
        nearest[first:end], farthest[first:end] = reach[0], reach[1]
        return replace(init, rays=replace(init.rays, probability=probability, nearest=nearest, farthest=farthest))


class BackgroundSampler(SurfaceSampler):
    """A `SurfaceSampler` that adds the background after the measured surfaces."""

    settings: BackgroundSurfaces
    background_rows: tuple[int, int] = (0, 0)
    """First row of the samples that is of the background, and the row after its last."""

    def sample_measured(self) -> None:
        super().sample_measured()
        if not self.samples.count or self.settings.background <= 0:
            return
        first = self.samples.count
        regions = self.background
        wanted = sum(float((b.depth > 0).sum()) for b in regions)
        left = self.settings.background * self.budget
        density = min(self.density, left / max(1.0, wanted))
        parts = len(self.samples.means)
        for i, (surface, found) in enumerate(zip(self.surfaces, regions, strict=True)):
            weight = (found.depth > 0).float() * density
            if placed := self.samples.means[parts:]:  # what earlier photos have placed this one need not
                weight = weight * surface.unexplained(torch.cat(placed), density)
            if bool(weight.any()):
                self._sample(i, _at_depth(surface, found.depth), weight, completed=True)
        self.background_rows = (first, self.samples.count)

    @cached_property
    def completed(self) -> list[ViewSurface]:
        """As the base class has it, without the pixels that are background: their depth is not that of what is beside
        them."""
        out = [s.completed(self.settings.margin) for s in self.surfaces]
        if self.settings.background > 0:
            for whole, found in zip(out, self.background, strict=True):
                left, top = whole.offset
                h, w = found.depth.shape
                rows, columns = (
                    torch.arange(-top, h + top).clamp(0, h - 1),
                    torch.arange(-left, w + left).clamp(0, w - 1),
                )
                whole.usable = whole.usable & (found.depth == 0)[rows][:, columns]
        return out

    @cached_property
    def background(self) -> list[Background]:
        """Of each photo."""
        return backgrounds(self.surfaces, self.settings)


BackgroundSurfaces.sampler = BackgroundSampler


@dataclass(frozen=True, eq=False)
class Background:
    """What of a photo is background."""

    depth: Float[Tensor, "h w"]
    """z, world units; 0 where it is not."""
    sky: Bool[Tensor, "h w"]


def backgrounds(surfaces: Sequence[ViewSurface], s: BackgroundSurfaces) -> list[Background]:
    """The background of each photo."""
    skies = [_sky_of(surface, s) for surface in surfaces]
    found = [_far_pixels(i, surfaces, sky, s) for i, sky in enumerate(skies)]
    points = [surface.points(surface.covered.reshape(-1).nonzero()[:, 0]) for surface in surfaces]
    points += [surface.pose.translation[None].float() for surface in surfaces]
    points += [_points_at(surface, depth) for surface, depth in zip(surfaces, found, strict=True)]
    everything = torch.cat(points)
    middle = everything.median(0).values
    radius = float((everything - middle).norm(dim=1).max())
    out = []
    for surface, depth, sky in zip(surfaces, found, skies, strict=True):
        here = torch.maximum(depth, surface.known)
        beyond = _SKY_BEYOND * float(here.max())
        outside = _depth_outside(surface, middle, _OUTSIDE * radius)
        out.append(Background(torch.where(sky, outside.clamp_min(beyond), depth), sky))
    return out


def sky_mask(
    photo: Tensor, brightness: float = 0.45, texture: float = 0.03, min_share: float = 0.01
) -> Bool[Tensor, "h w"]:
    """Where a photo (uint8 [h w 3]) shows sky: bright and smooth pixels in regions that reach its top border, of at
    least `min_share` of it. A white ceiling is one too, by this; what was measured never counts (`backgrounds`)."""
    rgb = photo.numpy().astype(np.float32) / 255
    grey = rgb.mean(2)
    dx, dy = np.abs(np.diff(grey, axis=1, append=grey[:, -1:])), np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    change = cv2.blur(np.maximum(dx, dy), (5, 5))
    # Sky is blue, white or grey: what is bright by its blue counts as bright, what is yellow or green does not.
    bright = 0.5 * (grey + rgb[..., 2]) >= brightness
    plain = (bright & (change <= texture) & (rgb[..., 2] >= rgb[..., :2].max(2) - 0.08)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(plain, connectivity=4)
    tops = np.unique(labels[0][plain[0] > 0])
    kept = [k for k in tops if stats[k, cv2.CC_STAT_AREA] >= min_share * plain.size]
    return torch.from_numpy(np.isin(labels, kept) & (plain > 0))


def _sky_of(surface: ViewSurface, s: BackgroundSurfaces) -> Bool[Tensor, "h w"]:
    """Sky among the pixels without a measured depth. Where matching measured most of a region the region is no sky."""
    sky = sky_mask(surface.photo, s.sky_brightness, s.sky_texture)
    out = torch.zeros_like(sky)
    for region in _regions(sky):
        if float(surface.covered[region].float().mean()) < 0.2:
            out |= region
    # The smoothed texture of its border is not that of sky.
    out = torch.nn.functional.max_pool2d(out[None].float(), 2 * _BORDER + 1, 1, _BORDER)[0] > 0
    return out & surface.usable & ~surface.covered


def _far_pixels(
    index: int, surfaces: Sequence[ViewSurface], sky: Bool[Tensor, "h w"], s: BackgroundSurfaces
) -> Float[Tensor, "h w"]:
    """The depth of far pixels that are not measured, where two photos agree or the whole region is far; else 0."""
    surface = surfaces[index]
    guess = torch.where(surface.usable, surface.depth, 0)
    known = surface.known[surface.known > 0]
    if not len(known):
        return torch.zeros_like(guess)
    median = float(known.median())
    candidate = surface.usable & ~surface.covered & ~sky & (guess > 0) & guess.isfinite()
    far = candidate & (guess > s.far * median)
    agree = torch.zeros_like(far)
    for o in surface.neighbours:
        other = surfaces[o]
        found = check_consistency(
            *(surface.view.camera, surface.pose, torch.where(far, guess, 0)),
            *(other.view.camera, other.pose, torch.where(other.usable, other.depth, 0)),
            *(s.agree_shift, s.agree_depth),
            pixels=False,
        )
        agree |= found.consistent
    depth = torch.where(far & agree, guess, 0)
    for region in _regions(candidate):
        if float(far[region].float().mean()) >= s.far_share:
            own = float(guess[region & far].median())
            depth = torch.where(region & (depth == 0), own, depth)
    return depth.clamp_max(_FARTHEST * median)


def _regions(mask: Bool[Tensor, "h w"], min_pixels: int = 25) -> list[Bool[Tensor, "h w"]]:
    """Connected parts of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.numpy().astype(np.uint8), connectivity=4)
    return [torch.from_numpy(labels == k) for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= min_pixels]


def _depth_outside(surface: ViewSurface, middle: Float[Tensor, "3"], radius: float) -> Float[Tensor, "h w"]:
    """The z-depth at which the ray of each pixel leaves the ball around `middle` that the camera is in."""
    centre = surface.pose.translation.float() - middle
    rays = surface.rays @ surface.pose.rotation.float().T
    along = (rays * centre).sum(2)
    distance = -along + (along.square() - centre.square().sum() + radius**2).clamp_min(0).sqrt()
    return distance * surface.rays[..., 2]


def _points_at(surface: ViewSurface, depth: Float[Tensor, "h w"]) -> Float[Tensor, "n 3"]:
    ids: Int[Tensor, "n"] = (depth > 0).reshape(-1).nonzero()[:, 0]
    return _at_depth(surface, depth).points(ids)


def _at_depth(surface: ViewSurface, depth: Float[Tensor, "h w"]) -> ViewSurface:
    """The same photo with pixels at another depth (0: none), on surfaces that face the camera."""
    other = copy.copy(surface)
    other.depth = depth
    other.normals = -surface.rays
    other.footprint = depth * (2 / (surface.view.camera.fx + surface.view.camera.fy))
    other.confidence = torch.zeros_like(depth)
    return other
