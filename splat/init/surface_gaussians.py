"""Sampling Gaussians on the surfaces that photos see: where, how many, how large, and in which colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import quat_from_matrix
from splat.core.slots import Init
from splat.geometry.reproject import count_support
from splat.init.sampling import stratified
from splat.init.view_surfaces import ViewSurface, gains, log_ratio


@dataclass(frozen=True)
class SurfaceSettings:
    """How Gaussians are sampled on surfaces: what `SurfaceSampler` reads."""

    detail: float = 3.0
    """How much more densely the most detailed pixels are sampled than flat ones."""
    overlap: float = 0.6
    """Standard deviation of a Gaussian across the surface, as a fraction of the distance to its neighbours."""
    thickness: float = 0.25
    """Standard deviation along the normal, as a fraction of that across."""
    max_stretch: float = 3.0
    """A surface seen at a grazing angle is sampled thinly along one direction: Gaussians are stretched along it by at
    most this factor."""
    opacity: float = 0.8
    """Opacity where the depth prior's confidence is 1; half of it where the confidence is 0."""
    fill: float = 0.5
    """How densely surfaces without a measured depth (blank walls, shadows) are sampled, relative to measured ones.
    Their depth is completed from surroundings of like colour. 0: they are left empty."""
    margin: float = 0.1
    """Completed depth extends beyond the photos' frames by this share of their size, where novel views will look."""
    fill_opacity: float = 0.6
    """Opacity of Gaussians at completed depths."""
    support_views: int = 60
    """Every Gaussian is checked against the depth maps of about this many photos, evenly spread; at least 1. It is kept
    unless it violates the free space of more of them than support it."""
    max_free_space: float = 0.05
    """A Gaussian violates a photo's free space when it is nearer than the surface the photo sees there by more than
    this fraction of the Gaussian's depth."""
    max_shift: float = 2.0
    """Two photos show the same surface where projecting a pixel by one's depth map and back by the other's moves it by
    less than this, px."""
    max_depth_difference: float = 0.03
    """And changes its depth by less than this fraction."""


class SurfaceSampler:
    """About `budget` Gaussians on the surfaces of some photos.

    `surfaces`: of the matched photos; `view_ids`: their ids among all views. `owned_by_other`, `support` and
    `scales_of` are the parts that a variant may override.
    """

    def __init__(
        self,
        settings: SurfaceSettings,
        surfaces: Sequence[ViewSurface],
        view_ids: Sequence[int],
        budget: int,
        sh_degree: int,
        seed: int,
    ) -> None:
        self.settings, self.surfaces, self.view_ids = settings, surfaces, view_ids
        self.budget, self.sh_degree = budget, sh_degree
        self.generator = torch.Generator().manual_seed(seed)
        self.samples = Samples()
        owned = self._owned_pixels()
        self.weights = [torch.where(o, s.importance(settings.detail), 0) for o, s in zip(owned, surfaces, strict=True)]
        """Of each photo's pixels [h w]: how densely they are sampled, relative to flat ones; 0 where another photo's
        pixels stand for the surface."""
        self.total_weight = sum(float(w.sum()) for w in self.weights)

    @property
    def density(self) -> float:
        """Gaussians per pixel where the photo is flat."""
        return self.budget / max(1.0, self.total_weight)

    @property
    def matched_share(self) -> float:
        """Share of the usable pixels that have a measured depth."""
        usable = sum(float(s.usable.sum()) for s in self.surfaces)
        return sum(float(s.covered.sum()) for s in self.surfaces) / max(1.0, usable)

    @property
    def predicted_share(self) -> float:
        """Share of the usable pixels at which the depth of a prior stands in (`DepthMap.predicted`)."""
        usable = sum(float(s.usable.sum()) for s in self.surfaces)
        return sum(float(s.predicted.sum()) for s in self.surfaces if s.predicted is not None) / max(1.0, usable)

    @cached_property
    def completed(self) -> list[ViewSurface]:
        """The photos with a depth at every pixel, and beyond their frames."""
        return [s.completed(self.settings.margin) for s in self.surfaces]

    # ------------------------------------------------------------------------------------- which pixels, which points

    def sample_measured(self) -> None:
        """Add Gaussians at measured depths."""
        for i, (surface, weight) in enumerate(zip(self.surfaces, self.weights, strict=True)):
            self._sample(i, surface, self.density * weight)

    def sample_completed(self) -> None:
        """Then add Gaussians at completed depths where no sampled surface explains a photo: one photo after the other,
        so that what one has filled the next finds explained."""
        fill = self.settings.fill
        for i, surface in enumerate(self.completed):
            density = fill * self.density
            wanted = density * surface.unexplained(torch.cat(self.samples.means), density) * self._confirmed(surface)
            left = max(0.0, (1 + fill) * self.budget - self.samples.count)  # never most of the scene
            wanted *= min(1.0, left / max(1.0, float(wanted.sum())))
            self._sample(i, surface, wanted, completed=True)

    def _owned_pixels(self) -> list[Bool[Tensor, "h w"]]:
        """The pixels of each photo whose surface no neighbour shows at a higher resolution. In the same pass, since
        both need the consistent pixels of every pair, the photos' exposures are compared: sets the surfaces' `gain`."""
        s = self.settings
        owned = []
        photos = [surface.photo.reshape(-1, 3) for surface in self.surfaces]
        pairs: list[tuple[int, int, Tensor]] = []
        for i, surface in enumerate(self.surfaces):
            best = surface.covered.clone().reshape(-1)
            for o in surface.neighbours:
                found = surface.consistency(self.surfaces[o], s.max_shift, s.max_depth_difference)
                own = found.consistent.reshape(-1).nonzero()[:, 0]
                others = found.pixel_ids.reshape(-1)[own]
                best[own[self.owned_by_other(i, o, own, others)]] = False
                ratio = log_ratio(photos[i][own].float() / 255, photos[o][others].float() / 255)
                if ratio is not None:
                    pairs.append((i, o, ratio))
            owned.append(best.reshape(surface.covered.shape))
        for surface, gain in zip(self.surfaces, gains(len(self.surfaces), pairs), strict=True):
            surface.gain = gain
        return owned

    def owned_by_other(
        self, photo: int, other: int, pixel_ids: Int[Tensor, "m"], other_pixel_ids: Int[Tensor, "m"]
    ) -> Bool[Tensor, "m"]:
        """Of pixels of a photo that show the same surface as pixels of another photo: those that are left to the other,
        because it has a clearly higher resolution there; of about equal ones the first photo owns the surface."""
        own = self.surfaces[photo].resolution.reshape(-1)[pixel_ids]
        others = self.surfaces[other].resolution.reshape(-1)[other_pixel_ids]
        return others > 1.05 * own if photo < other else others * 1.05 >= own

    def support(self, points: Float[Tensor, "k 3"]) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
        """How many of the `support_views` support each world point, and in how many it violates free space: see
        `reproject.count_support`."""
        s = self.settings
        every = 1 + len(self.surfaces) // s.support_views
        views = [surface.posed_depth for surface in self.surfaces[::every]]
        return count_support(views, points, s.max_depth_difference, s.max_free_space)

    def _sample(
        self, number: int, surface: ViewSurface, density: Float[Tensor, "h w"], completed: bool = False
    ) -> None:
        """Add Gaussians at as many pixels of `surface`, the `number`th, as the density (per pixel) sums up to, without
        those that violate the free space of more views than support them; completed depths may violate none."""
        density = density.clamp(max=1.0)
        pixel_ids = stratified(density, self.generator)
        spacing = 1 / density.reshape(-1)[pixel_ids].sqrt()
        points = surface.points(pixel_ids)
        support, violations = self.support(points)
        kept = violations <= (0 if completed else support)
        pixel_ids, spacing, points = pixel_ids[kept], spacing[kept], points[kept]
        if not len(pixel_ids):
            return
        others = [] if completed else [self.surfaces[o] for o in surface.neighbours]
        part = self._gaussians(surface, others, pixel_ids, points, spacing)
        if completed:
            opacities = torch.full((len(part),), self.settings.fill_opacity)
            part = replace(part, logit_opacities=torch.logit(opacities))
        self.samples.gaussians.append(part)
        self.samples.view_ids.append(torch.full((len(part),), self.view_ids[number]))
        self.samples.pixels.append(surface.pixels(pixel_ids))
        self.samples.spacings.append(spacing * surface.footprint.reshape(-1)[pixel_ids])

    def _confirmed(self, surface: ViewSurface) -> Bool[Tensor, "h w"]:
        """Pixels whose completed depth is consistent with two other photos' completed depths; with fewer where fewer
        have the point in their frames."""
        shift, difference = 2 * self.settings.max_shift, 2 * self.settings.max_depth_difference
        consistent, in_frame = torch.zeros(2, *surface.covered.shape, dtype=torch.int64)
        for o in surface.neighbours:
            found = surface.consistency(self.completed[o], shift, difference, measured_only=False, pixels=True)
            assert found.pixels is not None
            consistent += found.consistent
            camera = self.surfaces[o].view.camera  # the photo's own frame, without the margin
            in_frame += camera.contains(found.pixels - found.pixels.new_tensor(self.completed[o].offset))
        return consistent >= in_frame.clamp_max(2)

    # ------------------------------------------------------------------------------------- shape, opacity and colour

    def _gaussians(
        self,
        s: ViewSurface,
        others: Sequence[ViewSurface],
        pixel_ids: Int[Tensor, "k"],
        means: Float[Tensor, "k 3"],
        spacing: Float[Tensor, "k"],
    ) -> Gaussians:
        """One for each pixel, at its point; `spacing` is the distance to its neighbours in pixels, `others` may vote on
        its colour."""
        normal = s.normals.reshape(-1, 3)[pixel_ids]
        ray = s.rays.reshape(-1, 3)[pixel_ids]
        cos = -(ray * normal).sum(1).clamp(-1, -1e-3)
        # Two tangents of the surface: `across` is seen at its length, `along` is foreshortened.
        helper = torch.tensor([1.0, 0.0, 0.0]).expand_as(ray)
        sideways = torch.linalg.cross(ray, normal)
        sideways = torch.where((sideways.norm(dim=1) > 1e-3)[:, None], sideways, torch.linalg.cross(ray, helper))
        across = torch.nn.functional.normalize(sideways, dim=1)
        along = torch.linalg.cross(normal, across)
        size = self.settings.overlap * spacing * s.footprint.reshape(-1)[pixel_ids]
        world_from_local = s.pose.rotation.float() @ torch.stack([across, along, normal], 2)
        confidence = s.confidence.reshape(-1)[pixel_ids]
        opacity = self.settings.opacity * (0.5 + 0.5 * confidence.clamp(0, 1))
        return Gaussians(
            means=means,
            quats_wxyz=quat_from_matrix(world_from_local),
            log_scales=self.scales_of(size, cos).clamp_min(1e-9).log(),
            logit_opacities=torch.logit(opacity),
            sh=rgb_to_sh(self._colours(s, others, means, pixel_ids, spacing), self.sh_degree),
        )

    def scales_of(self, size: Float[Tensor, "k"], cos: Float[Tensor, "k"]) -> Float[Tensor, "k 3"]:
        """Standard deviations, world units, along the two tangents (the second is foreshortened) and the normal.

        `size`: that of a surface seen from the front, world units. `cos`: of the angle between the normal and the
        direction to the camera, above 0."""
        stretch = (1 / cos).clamp(max=self.settings.max_stretch)
        return torch.stack([size, size * stretch, self.settings.thickness * size], 1)

    def _colours(
        self,
        s: ViewSurface,
        others: Sequence[ViewSurface],
        means: Float[Tensor, "k 3"],
        pixel_ids: Int[Tensor, "k"],
        spacing: Float[Tensor, "k"],
    ) -> Float[Tensor, "k 3"]:
        """The photo's own, or the median over photos where at least two others see the same surface there, all at the
        photos' mean exposure: highlights, and what passed through a single photo, are outvoted."""
        row, column = pixel_ids // s.depth.shape[1], pixel_ids % s.depth.shape[1]
        votes = [s.colours(row, column, spacing)]
        for o in others:
            found = o.look_up(means)
            same = found.agrees(self.settings.max_depth_difference)
            votes.append(torch.where(same[:, None], o.colours(found.row, found.column, spacing), torch.nan))
        colours = torch.stack(votes)
        enough = colours[..., 0].isfinite().sum(0) >= 3
        return torch.where(enough[:, None], colours.nanquantile(0.5, dim=0), colours[0])


@dataclass(eq=False)
class Samples:
    """Gaussians sampled so far, photo by photo."""

    gaussians: list[Gaussians] = field(default_factory=list)
    view_ids: list[Int[Tensor, "k"]] = field(default_factory=list)
    """Ids, among all views, of the photos they come from."""
    pixels: list[Float[Tensor, "k 2"]] = field(default_factory=list)
    """Of these photos at their working size."""
    spacings: list[Float[Tensor, "k"]] = field(default_factory=list)
    """Distances to neighbours, world units."""

    @property
    def count(self) -> int:
        return sum(map(len, self.gaussians))

    @property
    def means(self) -> list[Tensor]:
        return [g.means for g in self.gaussians]

    def init(self, rest: Gaussians) -> Init:
        """All of them, and `rest`, which come from no photo."""
        parts, ids, pixels = list(self.gaussians), list(self.view_ids), list(self.pixels)
        if len(rest):
            parts.append(rest)
            ids.append(torch.full((len(rest),), -1))
            pixels.append(torch.full((len(rest), 2), torch.nan))
        return Init(Gaussians.cat(parts), torch.cat(ids), torch.cat(pixels))
