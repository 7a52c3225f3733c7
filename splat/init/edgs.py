"""Dense initialization (EDGS, Kotovenko et al. 2025): Gaussians on the surfaces that dense matching finds, instead of
densification.

Ours differs from the paper where the paper wastes: depth comes from several photos at once and is checked against
others (not per pair); each piece of surface is the business of the one photo that sees it best, so it is not repeated
for every photo; a total budget goes where detail is; size and shape follow spacing, focal length and normal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import quat_from_matrix
from splat.core.reproject import witnessed
from splat.core.slots import Init, Priors, Reporter, Silent
from splat.init.faithful import FaithfulEdgs
from splat.init.points import FEWEST_POINTS, Points
from splat.init.references import reference_views
from splat.init.sampling import stratified
from splat.init.shell import Shell
from splat.init.surfaces import Surface, gains, log_ratio

LARGEST_MATCHED = 640
"""Long side in px beyond which finer photos make dense matching slower but the first Gaussians no better."""
PIXELS_PER_GAUSSIAN = 160
MOST_OF_CAP = 0.3
SURE_ENOUGH = 0.05
"""With less than this share of pixels matched, sparse points say more."""


def first_gaussians(capture: Capture, cap: int | None = None) -> int:
    """How many to start with: see `Edgs.budget`."""
    pixels = sum(v.camera.width * v.camera.height for v in capture.views)
    wanted = max(1, pixels // PIXELS_PER_GAUSSIAN)
    return wanted if cap is None else max(1, min(wanted, round(MOST_OF_CAP * cap)))


@dataclass(frozen=True)
class Edgs:
    """Gaussians at the depths that dense matching is sure of, sparse points where it is not."""

    faithful: bool = False
    """The published method, initialization and training, instead of ours (see --edgs.published)."""
    published: FaithfulEdgs = field(default_factory=FaithfulEdgs)
    """What --edgs.faithful does."""
    budget: int = 0
    """First Gaussians, about. 0: one for every 160 pixels of all training photos, but at most 30 % of the cap: density
    control adds where they are too coarse, and more of them do no better (fox, llff_fern)."""
    matching_size: int = 0
    """Long side of the photos that are matched, px. 0: as large as takes at most an eighth of the predicted run, and at
    most 640."""
    most_photos: int = 0
    """Photos that are matched, spread over all of them. 0: as many as can be at 240 px in that time."""
    detail: float = 3.0
    """How much more densely the most detailed pixels are sampled than flat ones."""
    overlap: float = 0.6
    """Standard deviation of a Gaussian across the surface, as a fraction of the distance to its neighbours."""
    thickness: float = 0.25
    """Standard deviation along the normal, as a fraction of that across."""
    most_stretch: float = 3.0
    """A surface seen from its edge is sampled thinly along one direction: Gaussians reach at most this much farther."""
    opacity: float = 0.8
    """Opacity of a Gaussian that all photos agree on; half of it where matching was least sure."""
    fill: float = 0.5
    """How densely what no photo's depth explains is sampled, relative to what one does: blank walls, shadows. Its depth
    is carried over from what looks alike around it (`core.filling`). 0: it is left empty."""
    fill_opacity: float = 0.6
    """Opacity of those."""
    witnesses: int = 60
    """Photos, evenly spread, that are asked about every Gaussian. 0: none, and every depth is believed."""
    most_before: float = 0.05
    """A photo sees past a Gaussian that is nearer than what it is sure to see by more than this fraction."""
    shell: Shell = field(default_factory=Shell)
    """What lies behind everything."""
    reserve: float = 0.0
    """Gaussians kept back, as a multiple of the budget: training adds those where its error is large."""
    keep_points: float = 3.0
    """Sparse points farther than this many spacings from any dense Gaussian are kept."""
    isotropic: bool = False
    """Balls instead of discs along the surface."""
    fuse: bool = True
    """What several photos see becomes one Gaussian; otherwise each photo makes its own."""
    most_shift: float = 2.0
    """Pixels within which two photos' depth maps must lead to each other to see the same surface."""
    most_difference: float = 0.03
    """And the relative difference of depths."""

    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init:
        """Raises SplatError where views have no pose, or there is no prior to ask."""
        if self.faithful:
            if priors is None or priors.matches is None:
                raise SplatError("The published dense initialization needs a matcher.")
            return self.published(capture, sh_degree, seed, report, priors.matches)
        if priors is None or priors.depth is None:
            raise SplatError("Dense initialization needs a depth prior.")
        if not capture.posed or not capture.views:
            raise SplatError("Dense initialization needs photos with poses: run the poses stage.")
        sparse = (priors.sparse or Points())(capture, sh_degree, seed, Silent())
        if len(capture.views) < 2:
            return sparse
        generator = torch.Generator().manual_seed(seed)
        numbers = reference_views([v.pose for v in capture.views], self.most_photos or len(capture.views), generator, 1)
        matched = capture.select([i in set(numbers) for i in range(len(capture.views))])
        small = matched.resized(self.matching_size or LARGEST_MATCHED).in_memory(torch.get_num_threads())
        maps = priors.depth(small, report, seed)
        budget = self.budget or first_gaussians(capture)
        surfaces = [
            Surface(s, m, (v.camera.width, v.camera.height))
            for s, m, v in zip(small.views, maps, matched.views, strict=True)
        ]
        owned = self._shared_out(surfaces)
        weights = [torch.where(o, s.importance(self.detail), 0) for o, s in zip(owned, surfaces, strict=True)]
        total = sum(float(w.sum()) for w in weights)
        known = sum(float(s.covered.sum()) for s in surfaces) / max(1.0, sum(float(s.usable.sum()) for s in surfaces))
        if total == 0 or known < SURE_ENOUGH:
            report.warn("dense matching found next to nothing to be sure of: starting from the sparse points")
            return sparse
        report.info(f"dense matching is sure of {100 * known:.0f} % of the pixels.")
        made, later = _Made(numbers), _Made(numbers)
        for i, (surface, weight) in enumerate(zip(surfaces, weights, strict=True)):
            self._sample(i, surface, surfaces, budget / total * weight, sh_degree, generator, made)
        if not made.count:
            report.warn("photos contradict all that dense matching found: starting from the sparse points")
            return sparse
        guesses = [s.guessed() for s in surfaces] if self.fill > 0 or self.reserve > 0 else []
        if self.reserve > 0:
            wanted = [g.importance(self.detail) * g.usable * self._backed(g, guesses) for g in guesses]
            all_wanted = max(1.0, sum(float(w.sum()) for w in wanted))
            for i, (guess, weight) in enumerate(zip(guesses, wanted, strict=True)):
                density = self.reserve * budget / all_wanted * weight
                self._sample(i, guess, surfaces, density, sh_degree, generator, later, guessed=True)
        if self.fill > 0:
            for i, guess in enumerate(guesses):  # one after the other: what one has filled the next finds explained
                open_to = guess.unexplained(torch.cat(made.means), self.fill * budget / total) * self._backed(
                    guess, guesses
                )
                density = self.fill * budget / total * open_to
                left = max(0.0, (1 + self.fill) * budget - made.count)  # guesses are never most of the scene
                density *= min(1.0, left / max(1.0, float(density.sum())))
                self._sample(i, guess, surfaces, density, sh_degree, generator, made, guessed=True)
        kept = torch.zeros(len(sparse.gaussians), dtype=torch.bool)
        if capture.points is not None and len(capture.points) >= FEWEST_POINTS:  # else they are random
            kept = self._far_from(sparse.gaussians, torch.cat(made.means), torch.cat(made.spacings))
        means = torch.cat([*made.means, sparse.gaussians.means[kept]])
        unexplained = [s.unexplained(means, 0.5 * budget / total) for s in surfaces]
        behind = self.shell(surfaces, unexplained, budget, sh_degree)
        report.info(
            f"{made.count:,} Gaussians by dense matching, {int(kept.sum()):,} sparse points beside them, "
            f"{0 if behind is None else len(behind):,} far behind."
        )
        rest = [sparse.gaussians[kept], *([] if behind is None else [behind])]
        return made.init(Gaussians.cat(rest), later.init() if later.count else None)

    def _sample(
        self,
        number: int,
        surface: Surface,
        surfaces: list[Surface],
        density: Float[Tensor, "h w"],
        sh_degree: int,
        generator: torch.Generator,
        made: _Made,
        guessed: bool = False,
    ) -> None:
        """Gaussians at as many pixels of `surface`, the `number`th, as the density (per pixel) sums up to, but for
        those that more photos see past than are sure to see; a guess must be in nobody's way."""
        density = density.clamp(max=1.0)
        chosen = stratified(density, generator)
        spacing = 1 / density.reshape(-1)[chosen].sqrt()
        points = surface.points(chosen)
        agree, see_past = self._witnesses(points, surfaces)
        kept = see_past <= (0 if guessed else agree)
        chosen, spacing, points = chosen[kept], spacing[kept], points[kept]
        if not len(chosen):
            return
        others = [] if guessed else [surfaces[o] for o in surface.neighbours]
        part = self._gaussians(surface, others, chosen, points, spacing, sh_degree)
        if guessed:
            part = replace(part, logit_opacities=torch.logit(torch.full((len(part),), self.fill_opacity)))
        made.parts.append(part)
        made.view_ids.append(torch.full((len(part),), made.numbers[number]))
        made.pixels.append(surface.pixels(chosen))
        made.spacings.append(spacing * surface.footprint.reshape(-1)[chosen])

    def _shared_out(self, surfaces: list[Surface]) -> list[Bool[Tensor, "h w"]]:
        """The pixels of each photo whose surface no neighbour shows larger; among equals the first photo has it. On the
        way the photos' exposures are compared: sets the surfaces' `gain`."""
        owned = []
        photos = [s.photo.reshape(-1, 3) for s in surfaces]
        pairs: list[tuple[int, int, Tensor]] = []
        for i, mine in enumerate(surfaces):
            best = mine.covered.clone().reshape(-1)
            for o in mine.neighbours:
                other = surfaces[o]
                seen = mine.seen_by(other, self.most_shift, self.most_difference)
                here = seen.agrees.reshape(-1).nonzero()[:, 0]
                there = seen.at.reshape(-1)[here]
                resolution, theirs = mine.resolution.reshape(-1)[here], other.resolution.reshape(-1)[there]
                better = theirs > 1.05 * resolution if i < o else theirs * 1.05 >= resolution
                if self.fuse:
                    best[here[better]] = False
                ratio = log_ratio(photos[i][here].float() / 255, photos[o][there].float() / 255)
                if ratio is not None:
                    pairs.append((i, o, ratio))
            owned.append(best.reshape(mine.covered.shape))
        for surface, gain in zip(surfaces, gains(len(surfaces), pairs), strict=True):
            surface.gain = gain
        return owned

    def _backed(self, guess: Surface, guesses: list[Surface]) -> Bool[Tensor, "h w"]:
        """Pixels whose guessed depth two other photos' guesses agree with, fewer where fewer have it in their frame."""
        backed, looks = torch.zeros(2, *guess.covered.shape, dtype=torch.int64)
        for o in guess.neighbours:
            seen = guess.seen_by(guesses[o], 2 * self.most_shift, 2 * self.most_difference, known=False, pixels=True)
            assert seen.pixels is not None
            backed += seen.agrees
            looks += guesses[o].view.camera.holds(seen.pixels)
        return backed >= looks.clamp_max(2)

    def _witnesses(
        self, points: Float[Tensor, "k 3"], surfaces: list[Surface]
    ) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
        """How many of all photos are sure to see a surface at the points, and how many are sure to see past them."""
        every = 1 + len(surfaces) // max(1, self.witnesses)
        asked = [s.witness for s in surfaces[::every]] if self.witnesses > 0 else []
        return witnessed(asked, points, self.most_difference, self.most_before)

    def _gaussians(
        self,
        s: Surface,
        others: list[Surface],
        chosen: Int[Tensor, "k"],
        means: Float[Tensor, "k 3"],
        spacing: Float[Tensor, "k"],
        sh_degree: int,
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
        size = self.overlap * spacing * s.footprint.reshape(-1)[chosen]
        stretch = (1 / cos).clamp(max=self.most_stretch)
        scales = torch.stack([size, size * stretch, self.thickness * size], 1)
        if self.isotropic:
            scales = size[:, None].expand(-1, 3)
        turn = s.pose.rotation.float() @ torch.stack([across, along, normal], 2)
        sure = s.confidence.reshape(-1)[chosen]
        opacity = self.opacity * (0.5 + 0.5 * sure.clamp(0, 1))
        return Gaussians(
            means=means,
            quats_wxyz=quat_from_matrix(turn),
            log_scales=scales.clamp_min(1e-9).log(),
            logit_opacities=torch.logit(opacity),
            sh=rgb_to_sh(self._colours(s, others, means, chosen, spacing), sh_degree),
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
            same &= (ratio - 1).abs() < self.most_difference
            seen.append(torch.where(same[:, None], o.colours(row, column, spacing), torch.nan))
        every = torch.stack(seen)
        enough = every[..., 0].isfinite().sum(0) >= 3
        return torch.where(enough[:, None], every.nanquantile(0.5, dim=0), every[0])

    def _far_from(
        self, points: Gaussians, dense: Float[Tensor, "n 3"], spacing: Float[Tensor, "n"]
    ) -> Bool[Tensor, "p"]:
        """Sparse points that no dense Gaussian is near."""
        if self.keep_points <= 0:
            return torch.zeros(len(points), dtype=torch.bool)
        everything = torch.cat([points.means, dense])
        # Distances to the nearest of the others are no answer where other sparse points are nearer: ask cell by cell.
        cell = self.keep_points * float(spacing.median())
        low = everything.amin(0)
        keys = ((everything - low) / cell).floor().long()
        taken = {tuple(k) for k in keys[len(points) :].unique(dim=0).tolist()}
        around = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
        return torch.tensor(
            [not any((a + x, b + y, c + z) in taken for x, y, z in around) for a, b, c in keys[: len(points)].tolist()],
            dtype=torch.bool,
        ).reshape(len(points))


@dataclass(eq=False)
class _Made:
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

    def init(self, rest: Gaussians | None = None, reserve: Init | None = None) -> Init:
        """All of them, and `rest`, which come from no photo."""
        parts, ids, pixels = list(self.parts), list(self.view_ids), list(self.pixels)
        if rest is not None and len(rest):
            parts.append(rest)
            ids.append(torch.full((len(rest),), -1))
            pixels.append(torch.full((len(rest), 2), torch.nan))
        return Init(Gaussians.cat(parts), torch.cat(ids), torch.cat(pixels), reserve)
