"""Putting Gaussians on the surfaces that photos see: where, how many, how large, and in which colour."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import quat_from_matrix
from splat.core.reproject import witnessed
from splat.core.slots import Init
from splat.init.sampling import stratified
from splat.init.surfaces import Surface, gains, log_ratio

if TYPE_CHECKING:
    from splat.init.edgs import Edgs


class Placing:
    """About `budget` Gaussians on the surfaces of some photos, as the settings say.

    `numbers` are those of the photos among all views.
    """

    def __init__(
        self, settings: Edgs, surfaces: list[Surface], numbers: list[int], budget: int, sh_degree: int, seed: int
    ) -> None:
        self.settings, self.surfaces, self.numbers = settings, surfaces, numbers
        self.budget, self.sh_degree = budget, sh_degree
        self.generator = torch.Generator().manual_seed(seed)
        self.made = Made(numbers)
        owned = _shared_out(surfaces, settings)
        self.weights = [torch.where(o, s.importance(settings.detail), 0) for o, s in zip(owned, surfaces, strict=True)]
        self.total = sum(float(w.sum()) for w in self.weights)

    @property
    def density(self) -> float:
        """Gaussians per pixel where the photo is flat."""
        return self.budget / max(1.0, self.total)

    @property
    def known(self) -> float:
        """Share of the usable pixels whose depth matching is sure of."""
        usable = sum(float(s.usable.sum()) for s in self.surfaces)
        return sum(float(s.covered.sum()) for s in self.surfaces) / max(1.0, usable)

    # -------------------------------------------------------------------------------------------------------- places

    def measured(self) -> None:
        """Those at depths that matching is sure of."""
        for i, (surface, weight) in enumerate(zip(self.surfaces, self.weights, strict=True)):
            self._sample(i, surface, self.density * weight, self.made)

    def guessed(self) -> None:
        """Then those where no photo's depth explains what is seen, at depths carried over from around: one photo after
        the other, so that what one has filled the next finds explained."""
        fill = self.settings.fill
        for i, guess in enumerate(self.guesses):
            density = fill * self.density
            open_to = density * guess.unexplained(torch.cat(self.made.means), density) * self._backed(guess)
            left = max(0.0, (1 + fill) * self.budget - self.made.count)  # guesses are never most of the scene
            open_to *= min(1.0, left / max(1.0, float(open_to.sum())))
            self._sample(i, guess, open_to, self.made, guessed=True)

    @cached_property
    def guesses(self) -> list[Surface]:
        """The photos with a depth everywhere."""
        return [s.guessed(self.settings.margin) for s in self.surfaces]

    def _sample(
        self, number: int, surface: Surface, density: Float[Tensor, "h w"], made: Made, guessed: bool = False
    ) -> None:
        """Gaussians at as many pixels of `surface`, the `number`th, as the density (per pixel) sums up to, but for
        those that more photos see past than are sure to see; a guess must be in nobody's way."""
        density = density.clamp(max=1.0)
        chosen = stratified(density, self.generator)
        spacing = 1 / density.reshape(-1)[chosen].sqrt()
        points = surface.points(chosen)
        agree, see_past = self._witnesses(points)
        kept = see_past <= (0 if guessed else agree)
        chosen, spacing, points = chosen[kept], spacing[kept], points[kept]
        if not len(chosen):
            return
        others = [] if guessed else [self.surfaces[o] for o in surface.neighbours]
        part = self._gaussians(surface, others, chosen, points, spacing)
        if guessed:
            faint = torch.full((len(part),), self.settings.fill_opacity)
            part = replace(part, logit_opacities=torch.logit(faint))
        made.parts.append(part)
        made.view_ids.append(torch.full((len(part),), self.numbers[number]))
        made.pixels.append(surface.pixels(chosen))
        made.spacings.append(spacing * surface.footprint.reshape(-1)[chosen])

    def _backed(self, guess: Surface) -> Bool[Tensor, "h w"]:
        """Pixels whose guessed depth two other photos' guesses agree with, fewer where fewer have it in their frame."""
        shift, difference = 2 * self.settings.most_shift, 2 * self.settings.most_difference
        backed, looks = torch.zeros(2, *guess.covered.shape, dtype=torch.int64)
        for o in guess.neighbours:
            seen = guess.seen_by(self.guesses[o], shift, difference, known=False, pixels=True)
            assert seen.pixels is not None
            backed += seen.agrees
            theirs = self.surfaces[o].view.camera  # what they only guess of, they do not look at
            looks += theirs.contains(seen.pixels - seen.pixels.new_tensor(self.guesses[o].offset))
        return backed >= looks.clamp_max(2)

    def _witnesses(self, points: Float[Tensor, "k 3"]) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
        """How many of all photos are sure to see a surface at the points, and how many are sure to see past them."""
        s = self.settings
        every = 1 + len(self.surfaces) // max(1, s.witnesses)
        asked = [surface.witness for surface in self.surfaces[::every]] if s.witnesses > 0 else []
        return witnessed(asked, points, s.most_difference, s.most_before)

    # ----------------------------------------------------------------------------------------------------- Gaussians

    def _gaussians(
        self,
        s: Surface,
        others: list[Surface],
        chosen: Int[Tensor, "k"],
        means: Float[Tensor, "k 3"],
        spacing: Float[Tensor, "k"],
    ) -> Gaussians:
        """One for each chosen pixel, at its point; `spacing` is the distance to its neighbours in pixels, `others` may
        have a say in its colour."""
        normal = s.normals.reshape(-1, 3)[chosen]
        ray = s.rays.reshape(-1, 3)[chosen]
        cos = -(ray * normal).sum(1).clamp(-1, -1e-3)
        # Across the surface: `across` is seen at its length, `along` is foreshortened.
        helper = torch.tensor([1.0, 0.0, 0.0]).expand_as(ray)
        sideways = torch.linalg.cross(ray, normal)
        sideways = torch.where((sideways.norm(dim=1) > 1e-3)[:, None], sideways, torch.linalg.cross(ray, helper))
        across = torch.nn.functional.normalize(sideways, dim=1)
        along = torch.linalg.cross(normal, across)
        size = self.settings.overlap * spacing * s.footprint.reshape(-1)[chosen]
        stretch = (1 / cos).clamp(max=self.settings.most_stretch)
        scales = torch.stack([size, size * stretch, self.settings.thickness * size], 1)
        if self.settings.isotropic:
            scales = size[:, None].expand(-1, 3)
        turn = s.pose.rotation.float() @ torch.stack([across, along, normal], 2)
        sure = s.confidence.reshape(-1)[chosen]
        opacity = self.settings.opacity * (0.5 + 0.5 * sure.clamp(0, 1))
        return Gaussians(
            means=means,
            quats_wxyz=quat_from_matrix(turn),
            log_scales=scales.clamp_min(1e-9).log(),
            logit_opacities=torch.logit(opacity),
            sh=rgb_to_sh(self._colours(s, others, means, chosen, spacing), self.sh_degree),
        )

    def _colours(
        self,
        s: Surface,
        others: list[Surface],
        means: Float[Tensor, "k 3"],
        chosen: Int[Tensor, "k"],
        spacing: Float[Tensor, "k"],
    ) -> Float[Tensor, "k 3"]:
        """The photo's own, or the median where at least two others see the same surface there, at the photos' mean
        exposure: a highlight, or somebody who walked through one photo, is outvoted."""
        row, column = chosen // s.depth.shape[1], chosen % s.depth.shape[1]
        seen = [s.colours(row, column, spacing)]
        for o in others:
            ratio, row, column, same = o.sees(means)
            same &= (ratio - 1).abs() < self.settings.most_difference
            seen.append(torch.where(same[:, None], o.colours(row, column, spacing), torch.nan))
        every = torch.stack(seen)
        enough = every[..., 0].isfinite().sum(0) >= 3
        return torch.where(enough[:, None], every.nanquantile(0.5, dim=0), every[0])


def _shared_out(surfaces: list[Surface], settings: Edgs) -> list[Bool[Tensor, "h w"]]:
    """The pixels of each photo whose surface no neighbour shows larger; among equals the first photo has it. On the
    way the photos' exposures are compared: sets the surfaces' `gain`."""
    owned = []
    photos = [s.photo.reshape(-1, 3) for s in surfaces]
    pairs: list[tuple[int, int, Tensor]] = []
    for i, mine in enumerate(surfaces):
        best = mine.covered.clone().reshape(-1)
        for o in mine.neighbours:
            other = surfaces[o]
            seen = mine.seen_by(other, settings.most_shift, settings.most_difference)
            here = seen.agrees.reshape(-1).nonzero()[:, 0]
            there = seen.at.reshape(-1)[here]
            resolution, theirs = mine.resolution.reshape(-1)[here], other.resolution.reshape(-1)[there]
            better = theirs > 1.05 * resolution if i < o else theirs * 1.05 >= resolution
            if settings.fuse:
                best[here[better]] = False
            ratio = log_ratio(photos[i][here].float() / 255, photos[o][there].float() / 255)
            if ratio is not None:
                pairs.append((i, o, ratio))
        owned.append(best.reshape(mine.covered.shape))
    for surface, gain in zip(surfaces, gains(len(surfaces), pairs), strict=True):
        surface.gain = gain
    return owned


@dataclass(eq=False)
class Made:
    """Gaussians so far, photo by photo."""

    numbers: list[int]
    """Of the views that photos are of."""
    parts: list[Gaussians] = field(default_factory=list)
    view_ids: list[Int[Tensor, "k"]] = field(default_factory=list)
    pixels: list[Float[Tensor, "k 2"]] = field(default_factory=list)
    spacings: list[Float[Tensor, "k"]] = field(default_factory=list)
    """Distances to neighbours, world units."""

    @property
    def count(self) -> int:
        return sum(map(len, self.parts))

    @property
    def means(self) -> list[Tensor]:
        return [p.means for p in self.parts]

    def init(self, rest: Gaussians | None = None) -> Init:
        """All of them, and `rest`, which come from no photo."""
        parts, ids, pixels = list(self.parts), list(self.view_ids), list(self.pixels)
        if rest is not None and len(rest):
            parts.append(rest)
            ids.append(torch.full((len(rest),), -1))
            pixels.append(torch.full((len(rest), 2), torch.nan))
        return Init(Gaussians.cat(parts), torch.cat(ids), torch.cat(pixels))
