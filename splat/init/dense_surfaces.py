"""Dense initialization (after EDGS, Kotovenko et al. 2025): Gaussians on the surfaces that dense matching finds.

It differs from the paper (`published_edgs`) where the paper wastes: depth comes from several photos at once and is
checked for consistency with others (not per pair); each piece of surface is sampled in the one photo that shows it at
the highest resolution, so it is not repeated for every photo; a total budget goes where detail is; size and shape
follow spacing, focal length and normal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import DepthMap, DepthPrior, Init, Priors, Reporter, Silent
from splat.init.references import reference_views
from splat.init.sfm_points import MIN_POINTS, SfmPoints
from splat.init.surface_gaussians import SurfaceSampler, SurfaceSettings
from splat.init.view_surfaces import ViewSurface

MAX_MATCHING_SIZE = 640
"""Long side in px beyond which finer photos make dense matching slower but the first Gaussians no better."""
PIXELS_PER_GAUSSIAN = 160
MAX_SHARE_OF_CAP = 0.3
MAX_KEPT_MAPS = 40
"""Depth maps of at most so many photos are kept for training; with more the photos themselves say enough."""
FEW_POINTS = 200
MIN_MATCHED_SHARE = 0.05
"""With a smaller share of the usable pixels matched or predicted, the sparse points are the better start."""


def initial_budget(capture: Capture, cap: int | None = None) -> int:
    """How many Gaussians to start with, by default: see `DenseSurfaces.budget`."""
    pixels = sum(v.camera.width * v.camera.height for v in capture.views)
    wanted = max(1, pixels // PIXELS_PER_GAUSSIAN)
    return wanted if cap is None else max(1, min(wanted, round(MAX_SHARE_OF_CAP * cap)))


@dataclass(frozen=True)
class DenseSurfaces(SurfaceSettings):
    """A `slots.Initializer`: Gaussians at the depths that a depth prior is confident of, completed depths where no
    photo has any, and sparse points far from both."""

    budget: int = 0
    """First Gaussians, about. 0: one for every 160 pixels of all training photos, but at most 30 % of the cap (density
    control adds where they are too coarse; more to start with measured no better on fox and llff_fern)."""
    matching_size: int = 0
    """Long side of the photos that are matched, px. 0: as large as is planned to take at most an eighth of the run, and
    at most 640."""
    max_photos: int = 0
    """Photos that are matched, spread over all of them. 0: as many as can be matched at 240 px in that time."""
    keep_points: float = 3.0
    """Sparse points farther than this many spacings from any dense Gaussian are kept. 0: none are kept."""
    sparse: SfmPoints = field(default_factory=SfmPoints)
    """Gaussians of the sparse points."""

    sampler: ClassVar[type[SurfaceSampler]] = SurfaceSampler

    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init:
        """Reads `priors.depth`. Falls back to the sparse points, with a warning, where matching finds next to nothing.

        Raises SplatError where views have no pose, or there is no depth prior.
        """
        if priors is None or priors.depth is None:
            raise SplatError("Dense initialization needs a depth prior.")
        if self.support_views < 1:
            raise SplatError(f"support_views is {self.support_views}: give at least 1.")
        if not capture.posed or not capture.views:
            raise SplatError("Dense initialization needs photos with poses: run the poses stage.")
        sparse = self.sparse(capture, sh_degree, seed, Silent())
        if len(capture.views) < 2:
            return sparse
        surfaces, view_ids, maps = self._surfaces(capture, seed, report, priors.depth)
        sampler = self.sampler(self, surfaces, view_ids, self.budget or initial_budget(capture), sh_degree, seed)
        if sampler.total_weight == 0 or sampler.matched_share + sampler.predicted_share < MIN_MATCHED_SHARE:
            report.warn(f"dense matching found next to nothing to be sure of: {self._instead(capture)}")
            return sparse
        report.info(f"dense matching is sure of {100 * sampler.matched_share:.0f} % of the pixels.")
        sampler.sample_measured()
        samples = sampler.samples
        if not samples.count:
            report.warn("photos contradict all that dense matching found: starting from the sparse points")
            return sparse
        if self.fill > 0:
            sampler.sample_completed()
        kept = torch.zeros(len(sparse.gaussians), dtype=torch.bool)
        if capture.points is not None and len(capture.points) >= MIN_POINTS:  # else they are random
            kept = self._far_from(sparse.gaussians, torch.cat(samples.means), torch.cat(samples.spacings))
        rest = sparse.gaussians[kept]
        report.info(f"{samples.count:,} Gaussians by dense matching, {len(rest):,} sparse points beside them.")
        init = self.with_details(samples.init(rest), sampler)
        return replace(init, depths=tuple(maps)) if len(maps) == len(capture.views) <= MAX_KEPT_MAPS else init

    def _instead(self, capture: Capture) -> str:
        """What the scene starts from where nothing was matched, and what would help."""
        points = 0 if capture.points is None else len(capture.points)
        if points >= FEW_POINTS:
            return "starting from the sparse points"
        return (
            f"starting from {points} sparse points, too few for a scene that looks right between the photos; take them "
            "closer together, each turned by at most 30 degrees from the next"
        )

    def with_details(self, init: Init, sampler: SurfaceSampler) -> Init:
        """What a variant adds to the first Gaussians."""
        return init

    def _surfaces(
        self, capture: Capture, seed: int, report: Reporter, depth: DepthPrior
    ) -> tuple[list[ViewSurface], list[int], list[DepthMap]]:
        """The surfaces that matched photos see, the ids of these photos among all views, and their depth maps."""
        poses = [v.pose for v in capture.views]
        generator = torch.Generator().manual_seed(seed)
        view_ids = reference_views(poses, self.max_photos or len(poses), generator, restarts=1)
        matched = capture.select([i in set(view_ids) for i in range(len(poses))])
        small = matched.resized(self.matching_size or MAX_MATCHING_SIZE).in_memory(torch.get_num_threads())
        maps = depth(small, report, seed)
        working_sizes = [(v.camera.width, v.camera.height) for v in matched.views]
        surfaces = [ViewSurface(v, m, size) for v, m, size in zip(small.views, maps, working_sizes, strict=True)]
        return surfaces, view_ids, maps

    def _far_from(
        self, points: Gaussians, dense: Float[Tensor, "n 3"], spacing: Float[Tensor, "n"]
    ) -> Bool[Tensor, "p"]:
        """Sparse points that no dense Gaussian is near."""
        if self.keep_points <= 0:
            return torch.zeros(len(points), dtype=torch.bool)
        everything = torch.cat([points.means, dense])
        # By occupied cells: distances to the nearest neighbours would find other sparse points first.
        cell = self.keep_points * float(spacing.median())
        low = everything.amin(0)
        keys = ((everything - low) / cell).floor().long()
        taken = {tuple(k) for k in keys[len(points) :].unique(dim=0).tolist()}
        around = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
        return torch.tensor(
            [not any((a + x, b + y, c + z) in taken for x, y, z in around) for a, b, c in keys[: len(points)].tolist()],
            dtype=torch.bool,
        ).reshape(len(points))
