"""Benchmarks of few photos: poses from all photos, everything else from a few of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from splat.core.capture import Capture
from splat.core.slots import DepthPrior, Poser, PoseResult, Reporter, SparseMatcher
from splat.poses.known import MAX_PHOTOS, Known
from splat.poses.sfm import Sfm


def evenly_spread(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` indices, first and last included: round(linspace(0, count - 1, wanted)), halves to even (the
    split of the LLFF benchmarks of few views)."""
    if wanted >= count:
        return list(range(count))
    if wanted < 2:
        return [round((count - 1) / 2)][:wanted]
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def fewer(capture: Capture, photos: int) -> Capture:
    """`photos` of the training photos, evenly spread by name, and all that are held out."""
    train = sorted((v.name, i) for i, v in enumerate(capture.views) if v.role == "train")
    kept = {train[k][1] for k in evenly_spread(len(train), photos)}
    return capture.select([v.role == "test" or i in kept for i, v in enumerate(capture.views)])


@dataclass(frozen=True)
class Fewer:
    """Keeps `photos` of the posed training photos, evenly spread by name, and all that are held out. Sparse points are
    triangulated anew from the training photos that are left, so that the others say nothing but the poses."""

    poser: Poser
    photos: int
    known: Known
    """How points are triangulated."""

    def may_add_matches(self, capture: Capture) -> bool:
        """Whether a call would use a matcher beside SIFT."""
        if isinstance(self.poser, Sfm) and self.poser.may_add_matches(capture):
            return True
        asked = self.known.matches
        return asked == "disk" or (asked == "auto" and min(self.photos, len(capture.train_views)) <= MAX_PHOTOS)

    @property
    def needs_matcher(self) -> bool:
        """Whether a matcher beside SIFT was asked for by name."""
        return self.known.needs_matcher or (isinstance(self.poser, Sfm) and self.poser.needs_matcher)

    def __call__(
        self, capture: Capture, workdir: Path, report: Reporter, matcher: SparseMatcher | None = None,
        depth: DepthPrior | None = None,
    ) -> PoseResult:  # fmt: skip
        """`matcher` as for `Known` and `Sfm`, `depth` as for `Sfm`. Raises SplatError as `poser` does."""
        poser = replace(self.poser, triangulate=False) if isinstance(self.poser, Known) else self.poser
        if isinstance(poser, Sfm):
            result = poser(capture, workdir, report, matcher, depth)
        else:
            result = poser(capture, workdir, report)
        again = replace(self.known, check=False, triangulate=True)
        bare = replace(fewer(result.capture, self.photos), points=None, tracks=None)
        reduced = again(bare, workdir, report, matcher).capture
        used = f"{len(reduced.train_views)} of {len(result.capture.train_views)}"
        report.info(f"{used} photos are used for training")
        return replace(
            result,
            capture=reduced,
            total=len(reduced.views) + len(result.unregistered),
            details=result.details | {"train_photos": [v.name for v in reduced.train_views]},
        )
