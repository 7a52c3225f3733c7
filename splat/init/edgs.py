"""Dense initialization (EDGS, Kotovenko et al. 2025): Gaussians on the surfaces that dense matching finds, instead of
densification.

Ours differs from the paper where the paper wastes: depth comes from several photos at once and is checked against
others (not per pair); each piece of surface is the business of the one photo that sees it best, so it is not repeated
for every photo; a total budget goes where detail is; size and shape follow spacing, focal length and normal.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.filling import filled
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import quat_from_matrix
from splat.core.reproject import there_and_back
from splat.core.slots import DepthMap, Init, Priors, Reporter, Silent
from splat.init.points import FEWEST_POINTS, Points

LARGEST_MATCHED = 640
"""Long side in px beyond which finer photos make dense matching slower but the first Gaussians no better."""


@dataclass(frozen=True)
class Edgs:
    """Gaussians at the depths that dense matching is sure of, sparse points where it is not."""

    pixels_per_gaussian: float = 80.0
    """Training pixels, over all photos, for each first Gaussian: the total budget. (Density control may add.)"""
    matching_size: int = 0
    """Long side of the photos that are matched, px. 0: as large as takes at most a fifth of the predicted run, and at
    most 640."""
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
    """How densely what no photo's depth explains is sampled, relative to what one does: blank walls, sky, what a single
    photo sees. Its depth is carried over from what looks alike around it (`core.filling`). 0: it is left empty."""
    fill_opacity: float = 0.6
    """Opacity of those."""
    fill_before: float = 0.05
    """They must not hide from another photo what it is sure of: not if they are nearer by more than this fraction."""
    keep_points: float = 3.0
    """Sparse points farther than this many spacings from any dense Gaussian are kept."""
    most_shift: float = 2.0
    """Pixels within which two photos' depth maps must lead to each other to see the same surface."""
    most_difference: float = 0.03
    """And the relative difference of depths."""

    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init:
        """Raises SplatError where views have no pose, or there is no depth prior."""
        if priors is None or priors.depth is None:
            raise SplatError("Dense initialization needs a depth prior.")
        if not capture.posed or not capture.views:
            raise SplatError("Dense initialization needs photos with poses: run the poses stage.")
        sparse = Points()(capture, sh_degree, seed, Silent())
        if len(capture.views) < 2:
            return sparse
        small = capture.resized(self.matching_size or LARGEST_MATCHED)
        maps = priors.depth(small, report, seed)
        budget = sum(v.camera.width * v.camera.height for v in capture.views) / self.pixels_per_gaussian
        surfaces = [_Surface(v, m) for v, m in zip(small.views, maps, strict=True)]
        owned = self._shared_out(surfaces)
        weights = [torch.where(o, s.importance(self.detail), 0) for o, s in zip(owned, surfaces, strict=True)]
        total = sum(float(w.sum()) for w in weights)
        if total == 0:
            report.warn("dense matching found nothing to be sure of: starting from the sparse points")
            return sparse
        known = sum(float(s.covered.sum()) for s in surfaces) / sum(s.covered.numel() for s in surfaces)
        report.info(f"dense matching is sure of {100 * known:.0f} % of the pixels.")
        generator = torch.Generator().manual_seed(seed)
        parts, ids, pixels, spacings = [], [], [], []

        def sample(i: int, surface: _Surface, density: Float[Tensor, "h w"], opacity: float | None = None) -> None:
            density = density.clamp(max=1.0)  # of samples per pixel
            chosen = stratified(density, generator)
            spacing = 1 / density.reshape(-1)[chosen].sqrt()
            others = [] if opacity is not None else [surfaces[o] for o in surface.neighbours]
            part = self._gaussians(surface, others, chosen, spacing, sh_degree)
            if opacity is not None:
                part = replace(part, logit_opacities=torch.logit(torch.full((len(part),), opacity)))
            parts.append(part)
            ids.append(torch.full((len(part),), i))
            pixels.append(surface.view.camera.pixel_centres().reshape(-1, 2)[chosen].float())
            spacings.append(spacing * surface.footprint.reshape(-1)[chosen])

        for i, (surface, weight) in enumerate(zip(surfaces, weights, strict=True)):
            sample(i, surface, budget / total * weight)
        if self.fill > 0:
            guesses = [s.guessed() for s in surfaces]
            for i, guess in enumerate(guesses):  # one after the other: what one has filled the next finds explained
                found = torch.cat([p.means for p in parts])
                open_to = guess.unexplained(found, budget / total) * self._plausible(guess, guesses)
                sample(i, guess, self.fill * budget / total * open_to, self.fill_opacity)
        dense = Gaussians.cat(parts)
        kept = torch.zeros(len(sparse.gaussians), dtype=torch.bool)
        if capture.points is not None and len(capture.points) >= FEWEST_POINTS:  # else they are random
            kept = self._far_from(sparse.gaussians, dense, torch.cat(spacings))
        report.info(f"{len(dense):,} Gaussians by dense matching, {int(kept.sum()):,} sparse points beside them.")
        rest = sparse.gaussians[kept]
        nowhere = torch.full((len(rest),), -1)
        return Init(
            Gaussians.cat([dense, rest]),
            torch.cat([*ids, nowhere]),
            torch.cat([*pixels, torch.full((len(rest), 2), torch.nan)]),
        )

    def _shared_out(self, surfaces: list[_Surface]) -> list[Bool[Tensor, "h w"]]:
        """The pixels of each photo whose surface no neighbour shows larger; among equals the first photo has it. On the
        way the photos' exposures are compared: sets the surfaces' `gain`."""
        owned = []
        pairs: list[tuple[int, int, Tensor]] = []
        for i, mine in enumerate(surfaces):
            best = mine.covered.clone()
            for o in mine.neighbours:
                other = surfaces[o]
                seen = there_and_back(
                    mine.view.camera, mine.pose, mine.depth, other.view.camera, other.pose, other.depth
                )
                same = seen.agrees(self.most_shift, self.most_difference) & other.covered[seen.row, seen.column]
                theirs = other.resolution[seen.row, seen.column]
                better = theirs > 1.05 * mine.resolution if i < o else theirs * 1.05 >= mine.resolution
                best &= ~(same & better)
                same &= mine.covered
                ratio = log_ratio(mine.rgb[same], other.rgb[seen.row[same], seen.column[same]])
                if ratio is not None:
                    pairs.append((i, o, ratio))
            owned.append(best)
        for surface, gain in zip(surfaces, gains(len(surfaces), pairs), strict=True):
            surface.gain = gain
        return owned

    def _plausible(self, guess: _Surface, guesses: list[_Surface]) -> Bool[Tensor, "h w"]:
        """Pixels whose guessed depth another photo's guess agrees with, and which hide nothing that one is sure of."""
        backed, hides = torch.zeros_like(guess.covered), torch.zeros_like(guess.covered)
        for o in guess.neighbours:
            other = guesses[o]
            seen = there_and_back(
                guess.view.camera, guess.pose, guess.depth, other.view.camera, other.pose, other.depth
            )
            backed |= seen.agrees(2 * self.most_shift, 2 * self.most_difference)
            sure = seen.inside & other.covered[seen.row, seen.column]
            hides |= sure & (seen.difference > self.fill_before)
        return backed & ~hides

    def _gaussians(
        self,
        s: _Surface,
        others: list[_Surface],
        chosen: Int[Tensor, "k"],
        spacing: Float[Tensor, "k"],
        sh_degree: int,
    ) -> Gaussians:
        """One for each chosen pixel; `spacing` is the distance to its neighbours in pixels, `others` may have a say in
        its colour."""
        depth, normal = s.depth.reshape(-1)[chosen], s.normals.reshape(-1, 3)[chosen]
        camera = s.view.camera
        pixels = camera.pixel_centres().float().reshape(-1, 2)[chosen]
        points = camera.unproject(pixels, depth)
        ray = torch.nn.functional.normalize(points, dim=1)
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
        turn = s.pose.rotation.float() @ torch.stack([across, along, normal], 2)
        sure = s.confidence.reshape(-1)[chosen]
        opacity = self.opacity * (0.5 + 0.5 * sure.clamp(0, 1))
        means = s.pose.apply(points).float()
        return Gaussians(
            means=means,
            quats_wxyz=quat_from_matrix(turn),
            log_scales=scales.clamp_min(1e-9).log(),
            logit_opacities=torch.logit(opacity),
            sh=rgb_to_sh(self._colours(s, others, means, chosen, spacing), sh_degree),
        )

    def _colours(
        self,
        s: _Surface,
        others: list[_Surface],
        means: Float[Tensor, "k 3"],
        chosen: Int[Tensor, "k"],
        spacing: Float[Tensor, "k"],
    ) -> Float[Tensor, "k 3"]:
        """The photo's own, or the median where at least two others see the same surface there, at the photos' mean
        exposure: a highlight, or somebody who walked through one photo, is outvoted."""
        row, column = chosen // s.depth.shape[1], chosen % s.depth.shape[1]
        seen = [s.colours(row, column, spacing)]
        for o in others:
            inside = o.pose.inverse().apply(means)
            pixels = o.view.camera.project(inside)
            u, v = pixels.unbind(1)
            column, row = (t.nan_to_num().clamp(0, n - 1).long() for t, n in zip((u, v), o.depth.shape[::-1]))
            same = (inside[:, 2] > 0) & o.view.camera.holds(pixels) & o.covered[row, column]
            same &= (o.depth[row, column] / inside[:, 2] - 1).abs() < self.most_difference
            seen.append(torch.where(same[:, None], o.colours(row, column, spacing), torch.nan))
        every = torch.stack(seen)
        enough = every[..., 0].isfinite().sum(0) >= 3
        return torch.where(enough[:, None], every.nanmedian(0).values, every[0])

    def _far_from(self, points: Gaussians, dense: Gaussians, spacing: Float[Tensor, "n"]) -> Bool[Tensor, "p"]:
        """Sparse points that no dense Gaussian is near."""
        if self.keep_points <= 0:
            return torch.zeros(len(points), dtype=torch.bool)
        everything = torch.cat([points.means, dense.means])
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


class _Surface:
    """What one photo knows of the surfaces it sees, at its matching size."""

    def __init__(self, view: View, found: DepthMap) -> None:
        assert view.world_from_cam is not None
        self.view, self.pose, self.neighbours = view, view.world_from_cam, found.neighbours
        photo = view.load()
        self.rgb = torch.from_numpy(photo.rgb).float() / 255
        self.depth, self.confidence = found.depth, found.confidence
        self.usable = torch.ones(self.depth.shape, dtype=torch.bool)
        for mask in (photo.weight, photo.alpha):
            if mask is not None:
                self.usable &= torch.from_numpy(mask) > 127
        self.covered = self.usable & (found.confidence > 0)
        assert found.normals_cam is not None
        self.normals = smoothed_normals(found.normals_cam, self.depth, self.covered)
        self.footprint = self.depth * (2 / (view.camera.fx + view.camera.fy))
        """World units per pixel across the ray."""
        cos = -(self.normals * view_rays(view)).sum(2)
        self.resolution = cos.clamp(0.05, 1) / self.footprint
        """How finely the photo shows the surface: edge-on or far away less than from the front or near."""
        self.gain = torch.ones(3)
        """By which the photo is brighter than the mean of all, per channel."""

    def unexplained(self, points: Float[Tensor, "n 3"], usual: float, cell: int = 16) -> Float[Tensor, "h w"]:
        """1 at pixels without a depth of their own, in cells of the photo into which fewer points of all photos fall
        than half the `usual` number per pixel; else 0."""
        h, w = self.depth.shape
        inside = self.pose.inverse().apply(points)
        pixels = self.view.camera.project(inside)
        seen = (inside[:, 2] > 0) & self.view.camera.holds(pixels)
        x, y = pixels.unbind(1)
        columns = math.ceil(w / cell)
        count = torch.zeros(math.ceil(h / cell) * columns)
        cells = (y[seen] / cell).long() * columns + (x[seen] / cell).long()
        count.index_add_(0, cells, torch.ones(len(cells)))
        taken = count > 0.5 * usual * cell**2
        grid = taken.reshape(-1, columns).repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:h, :w]
        return (self.usable & ~self.covered & ~grid).float()

    def guessed(self) -> _Surface:
        """The same photo with a depth everywhere, surfaces in the middle of nowhere facing the camera."""
        other = copy.copy(self)
        other.depth = filled(self.depth, self.confidence * self.covered, self.rgb)
        other.normals = -view_rays(self.view)
        other.footprint = self.footprint / self.depth * other.depth
        return other

    def importance(self, detail: float) -> Float[Tensor, "h w"]:
        """1 where the photo is flat, up to `detail` where it has the most edges."""
        grey = self.rgb.mean(2)
        dx = torch.nn.functional.pad((grey[:, 2:] - grey[:, :-2]).abs() / 2, (1, 1))
        dy = torch.nn.functional.pad((grey[2:] - grey[:-2]).abs() / 2, (0, 0, 1, 1))
        edges = (dx + dy)[None, None]
        edges = torch.nn.functional.avg_pool2d(edges, 5, 1, 2, count_include_pad=False)[0, 0]
        return 1 + (detail - 1) * (edges / 0.08).clamp(0, 1)

    def colours(
        self, row: Int[Tensor, "k"], column: Int[Tensor, "k"], spacing: Float[Tensor, "k"]
    ) -> Float[Tensor, "k 3"]:
        """Of the photo around each pixel, averaged over about the area its Gaussian stands for, at the photos' mean
        exposure."""
        level = spacing.clamp_min(1).log2().round().long().clamp(0, 4)
        image = self.rgb.permute(2, 0, 1)[None]
        out = torch.zeros(len(row), 3)
        for k in level.unique().tolist():
            width = 2 * (2**k // 2) + 1
            mean = torch.nn.functional.avg_pool2d(image, width, 1, width // 2, count_include_pad=False)
            mine = level == k
            out[mine] = mean[0, :, row[mine], column[mine]].T
        return out / self.gain


def log_ratio(a: Float[Tensor, "n 3"], b: Float[Tensor, "n 3"], fewest: int = 200) -> Float[Tensor, "3"] | None:
    """The median of log(a / b) per channel over pixels that are neither dark nor burnt out; None where too few are."""
    fine = ((a > 0.08) & (a < 0.92) & (b > 0.08) & (b < 0.92)).all(1)
    return (a[fine] / b[fine]).log().median(0).values if int(fine.sum()) >= fewest else None


def gains(count: int, pairs: list[tuple[int, int, Float[Tensor, "3"]]]) -> Float[Tensor, "v 3"]:
    """Brightness of each of `count` photos relative to their mean, per channel, from logarithms of ratios between
    pairs: the least-squares solution (as Brown & Lowe 2007 for panoramas), held near 1 where little is known."""
    system, right = 0.1 * torch.eye(count), torch.zeros(count, 3)
    for i, j, ratio in pairs:
        system[i, i] += 1
        system[j, j] += 1
        system[i, j] -= 1
        system[j, i] -= 1
        right[i] += ratio
        right[j] -= ratio
    logs = torch.linalg.solve(system, right)
    return (logs - logs.mean(0)).exp()


def view_rays(view: View) -> Float[Tensor, "h w 3"]:
    """Unit directions of pixel centres in the camera's frame."""
    pixels = view.camera.pixel_centres().float()
    return torch.nn.functional.normalize(view.camera.unproject(pixels, torch.ones(pixels.shape[:2])), dim=2)


def smoothed_normals(
    normals: Float[Tensor, "h w 3"], depth: Float[Tensor, "h w"], covered: Bool[Tensor, "h w"], window: int = 9
) -> Float[Tensor, "h w 3"]:
    """Averages over windows, of covered pixels at about the depth of the middle one (within 3 %)."""
    h, w = depth.shape
    reach = window // 2
    total = torch.zeros_like(normals)
    padded = torch.nn.functional.pad(torch.where(covered[..., None], normals, 0), (0, 0, reach, reach, reach, reach))
    near = torch.nn.functional.pad(depth, (reach, reach, reach, reach), value=torch.inf)
    for dy in range(0, window, 2):
        for dx in range(0, window, 2):
            like = (near[dy : dy + h, dx : dx + w] / depth - 1).abs() < 0.03
            total += torch.where(like[..., None], padded[dy : dy + h, dx : dx + w], 0)
    total = torch.where((total.norm(dim=2) > 1e-6)[..., None], total, normals)
    return torch.nn.functional.normalize(total, dim=2)


def stratified(density: Float[Tensor, "h w"], generator: torch.Generator) -> Int[Tensor, "k"]:
    """Pixels (flat numbers, ascending), as many as the densities (samples per pixel, at most 1) sum up to, spread
    evenly: along a curve that keeps to its neighbourhood, one sample for each unit of accumulated density."""
    h, w = density.shape
    order = _hilbert_order(h, w)
    along = density.reshape(-1)[order].double().cumsum(0) + float(torch.rand((), generator=generator))
    step = along.floor().long()
    before = torch.cat([step.new_zeros(1), step[:-1]])
    return order[step > before].sort().values


def _hilbert_order(h: int, w: int) -> Int[Tensor, "hw"]:
    """Pixels in the order of a Hilbert curve over the square around them."""
    bits = max(1, math.ceil(math.log2(max(h, w, 2))))
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    x, y = x.reshape(-1).clone(), y.reshape(-1).clone()
    key = torch.zeros_like(x)
    for b in reversed(range(bits)):
        rx, ry = (x >> b) & 1, (y >> b) & 1
        key = key * 4 + ((3 * rx) ^ ry)
        size = (1 << b) - 1
        flip, swap = (ry == 0) & (rx == 1), ry == 0
        low_x, low_y = x & size, y & size
        low_x, low_y = torch.where(flip, size - low_x, low_x), torch.where(flip, size - low_y, low_y)
        x, y = torch.where(swap, low_y, low_x), torch.where(swap, low_x, low_y)
    return key.argsort()
