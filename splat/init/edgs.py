"""Dense initialization (EDGS, Kotovenko et al. 2025): Gaussians on the surfaces that dense matching finds, instead of
densification.

Ours differs from the paper where the paper wastes: depth comes from several photos at once and is checked against
others (not per pair); each piece of surface is the business of the one photo that sees it best, so it is not repeated
for every photo; a total budget goes where detail is; size and shape follow spacing, focal length and normal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import DepthPrior, Init, Priors, Reporter, Silent
from splat.init.faithful import FaithfulEdgs
from splat.init.placing import Placing
from splat.init.points import FEWEST_POINTS, Points
from splat.init.references import reference_views
from splat.init.surfaces import Surface

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
    margin: float = 0.1
    """Guesses go beyond the frames of photos by this share of their size: somebody who walks looks there."""
    fill_opacity: float = 0.6
    """Opacity of those."""
    witnesses: int = 60
    """Photos, evenly spread, that are asked about every Gaussian. 0: none, and every depth is believed."""
    most_before: float = 0.05
    """A photo sees past a Gaussian that is nearer than what it is sure to see by more than this fraction."""
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
        surfaces, numbers = self._surfaces(capture, seed, report, priors.depth)
        budget = self.budget or first_gaussians(capture)
        placing = Placing(self, surfaces, numbers, budget, sh_degree, seed)
        if placing.total == 0 or placing.known < SURE_ENOUGH:
            report.warn("dense matching found next to nothing to be sure of: starting from the sparse points")
            return sparse
        report.info(f"dense matching is sure of {100 * placing.known:.0f} % of the pixels.")
        placing.measured()
        made = placing.made
        if not made.count:
            report.warn("photos contradict all that dense matching found: starting from the sparse points")
            return sparse
        if self.fill > 0:
            placing.guessed()
        kept = torch.zeros(len(sparse.gaussians), dtype=torch.bool)
        if capture.points is not None and len(capture.points) >= FEWEST_POINTS:  # else they are random
            kept = self._far_from(sparse.gaussians, torch.cat(made.means), torch.cat(made.spacings))
        rest = sparse.gaussians[kept]
        report.info(f"{made.count:,} Gaussians by dense matching, {len(rest):,} sparse points beside them.")
        return made.init(rest)

    def _surfaces(
        self, capture: Capture, seed: int, report: Reporter, depth: DepthPrior
    ) -> tuple[list[Surface], list[int]]:
        """What matched photos know, and their numbers among all."""
        poses = [v.pose for v in capture.views]
        generator = torch.Generator().manual_seed(seed)
        numbers = reference_views(poses, self.most_photos or len(poses), generator, restarts=1)
        matched = capture.select([i in set(numbers) for i in range(len(poses))])
        small = matched.resized(self.matching_size or LARGEST_MATCHED).in_memory(torch.get_num_threads())
        maps = depth(small, report, seed)
        whole = [(v.camera.width, v.camera.height) for v in matched.views]
        return [Surface(s, m, size) for s, m, size in zip(small.views, maps, whole, strict=True)], numbers

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
