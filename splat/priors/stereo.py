"""Depth, normal and confidence per pixel of posed photos, without learned weights: PatchMatch stereo.

The depth map of each photo is computed coarse to fine against a few source photos (`neighbours`, `stereo_search`), and
smoothed within what matching can tell (`stereo_smoothing`). What matching then knows about each depth
(`stereo_features`) makes the probability that it is right (`stereo_confidence`): the confidence. Where photos are few,
each then tries what the others are more confident of (`stereo_exchange`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import DepthMap, Reporter
from splat.native import build
from splat.priors.neighbours import Overlap, overlap
from splat.priors.stereo_confidence import probability
from splat.priors.stereo_exchange import transferred, with_theirs
from splat.priors.stereo_features import features
from splat.priors.stereo_search import Planes, PlaneSearch, StereoView, grey_of, pyramid, upsampled
from splat.priors.stereo_smoothing import disparity_rate, smoothed

FEW = 8
"""Photos of a capture: see `Stereo.extra_rounds`."""
WIDE = 300.0
"""Pixels that a point moves in another photo when its depth changes by its own size: with more, smoothing changes
next to nothing and is left out."""


@dataclass(frozen=True)
class Stereo:
    """PatchMatch stereo between posed photos."""

    sources: int = 4
    """Number of source photos for each photo, at most 8."""
    best: int = 2
    """The cost is the mean over this many best source photos, at most 4: robust to occlusion in the others."""
    hypotheses: int = 64
    """Depths of the plane sweep at the coarsest size."""
    rounds: tuple[int, ...] = (3, 4, 3, 1)
    """Rounds of PatchMatch at each size, from the coarsest to the photos' own; each is half the next. A coarse start
    carries depth across what has little texture."""
    extra_rounds: int = 1
    """More rounds at the photos' own size where there are at most 8 photos: every pixel counts then."""
    exchange: float = 0.25
    """Where there are at most 8 photos, each also tries the planes of the others. This is by how much (1 - NCC) one of
    theirs may fit worse than one's own, where nothing speaks for one's own. 0: nothing is exchanged."""
    min_parallax: float = 0.5
    """Smallest angle between the rays of a photo and of a source, degrees: below it every depth would be consistent, so
    the source says nothing."""
    min_probability: float = 0.8
    """Least probability of a depth that counts as measured; those below are weak evidence in depth completion."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A metric depth map per view of the capture, at the working size.

        Raises SplatError without compiled kernels, ValueError where a view has no pose.
        """
        views, pairs = self.views(capture)
        return self.match(views, pairs, report, seed)

    def views(self, capture: Capture) -> tuple[list[StereoView], list[list[int]]]:
        """The photos of a posed capture to match, and for each the indices of its source photos."""
        if not 1 <= self.best <= min(4, self.sources) or self.sources > 8:
            raise SplatError(
                f"--stereo.sources {self.sources} and --stereo.best {self.best} are invalid: give at most 8 sources "
                "and 1 to 4 best of them."
            )
        found = overlap(capture)
        views = []
        for i, view in enumerate(capture.views):
            near, far = found.depths[i].tolist()
            views.append(StereoView(view.camera, view.pose, grey_of(view.rgb()), (near, far)))
        return views, self.pairs(found)

    def pairs(self, found: Overlap) -> list[list[int]]:
        """For each view the indices of its source views."""
        return [found.neighbours(i, self.sources) for i in range(len(found.score))]

    def match(
        self, views: Sequence[StereoView], pairs: Sequence[Sequence[int]], report: Reporter, seed: int = 0
    ) -> list[DepthMap]:
        """`__call__` for photos in memory; `pairs[i]` are the indices of the source views of view i."""
        found = self.search(views, pairs, report, seed)
        return [self.depth_map(views, found, i, others) for i, others in enumerate(pairs)]

    # ---------------------------------------------------------------------------------------------------- search

    def search(
        self, views: Sequence[StereoView], pairs: Sequence[Sequence[int]], report: Reporter, seed: int = 0
    ) -> list[Searched]:
        """The best planes of every view, whether they are right or not."""
        if reason := build.unavailable():
            raise SplatError(f"Dense stereo needs the compiled kernels: {reason}")
        pyramids = [pyramid(v, len(self.rounds)) for v in views]
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(len(views))]
        found = []
        for i, others in enumerate(pairs):
            found.append(self._search(pyramids, i, others, generators[i]))
            report.progress(i + 1, len(views), what="stereo")
        return self._exchanged(views, found, pairs, generators) if self.exchange and len(views) <= FEW else found

    def _exchanged(
        self,
        views: Sequence[StereoView],
        found: Sequence[Searched],
        pairs: Sequence[Sequence[int]],
        generators: Sequence[torch.Generator],
    ) -> list[Searched]:
        """Every view again, with what its sources found."""
        maps = [self.depth_map(views, found, i, others) for i, others in enumerate(pairs)]
        finer = 0.5 ** (len(self.rounds) - 1)
        out = []
        for i, others in enumerate(pairs):
            if not others:
                out.append(found[i])
                continue
            search = self._search_of(views, i, others)
            theirs = [transferred(views[i], views[o], found[o].planes, maps[o].confidence >= 0.5) for o in others]
            planes = with_theirs(search, found[i].planes, maps[i].confidence, theirs, self.exchange)
            planes = search.round(planes, finer / self.hypotheses, finer, generators[i])
            out.append(Searched(self._smoothed(planes, search), found[i].volume))
        return out

    def _search_of(self, views: Sequence[StereoView], i: int, others: Sequence[int]) -> PlaneSearch:
        low, high = (1 / d for d in reversed(views[i].depths))
        return PlaneSearch(views[i], [views[o] for o in others], min(self.best, len(others)), low, high)

    def _search(
        self, pyramids: list[list[StereoView]], i: int, others: Sequence[int], generator: torch.Generator
    ) -> Searched:
        """The planes of view i, coarse to fine. Without source views: mid-range depth and the largest cost."""
        levels = len(self.rounds)
        low, high = (1 / d for d in reversed(pyramids[i][0].depths))
        if not others:
            c = pyramids[i][0].camera
            flat = torch.zeros(3, c.height, c.width)
            flat[0] = 0.5 * (low + high)
            return Searched(Planes(flat, torch.full((c.height, c.width), 2.0)), torch.zeros(0, 1, 1))
        planes: Planes | None = None
        for level in reversed(range(levels)):
            view = pyramids[i][level]
            search = PlaneSearch(view, [pyramids[o][level] for o in others], min(self.best, len(others)), low, high)
            if planes is None:
                planes, volume = search.sweep(self.hypotheses)
                spread, turn = 1.0 / self.hypotheses, 1.0
            else:
                planes = search.with_costs(upsampled(planes, view.camera))
                spread, turn = spread / 2, turn / 2
            extra = self.extra_rounds if level == 0 and len(pyramids) <= FEW else 0
            for k in range(self.rounds[levels - 1 - level] + extra):
                planes = search.round(planes, spread * 0.5**k, turn * 0.5**k, generator)
        assert planes is not None
        return Searched(self._smoothed(planes, search), volume)

    @staticmethod
    def _smoothed(planes: Planes, search: PlaneSearch) -> Planes:
        rate = disparity_rate(search.view, planes.planes[0], search.sources)
        seen = rate[rate > 0]
        if not len(seen) or float(seen.median()) > WIDE:
            return planes
        return search.with_costs(smoothed(planes.planes, planes.cost, search.view.grey, rate))

    # ---------------------------------------------------------------------------------------------------- probability

    def features(
        self, views: Sequence[StereoView], found: Sequence[Searched], i: int, others: Sequence[int]
    ) -> Float[Tensor, "f h w"]:
        """What matching knows about the planes of view i (`stereo_features`); it needs source views."""
        search = self._search_of(views, i, others)
        sources = [(views[o], found[o].planes) for o in others]
        return features(views[i], found[i].planes, search, found[i].volume, sources, self.min_parallax)

    def depth_map(
        self, views: Sequence[StereoView], found: Sequence[Searched], i: int, others: Sequence[int]
    ) -> DepthMap:
        """The depth map of view i. Confidence is the probability that the depth is right, 0 without source views."""
        planes = found[i].planes
        confidence = torch.zeros_like(planes.cost)
        if others:
            confidence = probability(self.features(views, found, i, others))
        normals = planes.normals(views[i].camera)
        return DepthMap(planes.depth, confidence, "metric", normals, tuple(others), self.min_probability)


@dataclass(frozen=True, eq=False)
class Searched:
    """What the search found for a view."""

    planes: Planes
    volume: Float[Tensor, "k hc wc"]
    """Costs of the sweep at the coarsest size; none without source views."""
