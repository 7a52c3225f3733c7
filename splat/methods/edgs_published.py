"""EDGS (Kotovenko et al. 2025) as published: two-view points of fixed numbers of pixels, and its own training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from splat.core.capture import Capture
from splat.core.slots import Initializer, InitPlan, MatchingRequest
from splat.init import PublishedEdgs
from splat.init.dense_surfaces import MAX_MATCHING_SIZE
from splat.methods.base import DenseMatching

MAX_GAUSSIANS = 1_000_000

DEFAULTS: Mapping[str, Any] = {
    # Nothing is added; what the photos do not hold against a slow decay is pruned.
    "train.density": "none",
    "train.none.prune_opacity": 0.005,
    "train.none.prune_every": 100 / 30_000,
    "train.decay.factor": 0.99,
    "train.decay.every": 10 / 30_000,
    "train.decay.until": 0.5,
    # The rates of 3DGS, positions held at what theirs has come to after 8,000 of 30,000 steps.
    "train.rates.means": 1.6e-4,
    "train.rates.means_final": 1.6e-6,
    "train.rates.means_hold": 8_000 / 30_000,
    "train.rates.sh0": 0.0025,
    "train.rates.sh_rest": 0.0025 / 20,
    "train.rates.opacities": 0.025,
    "train.rates.scales": 0.005,
    "train.rates.quats": 0.001,
    "train.resolution.start": 1.0,
    "train.sh.degree_every": 1_000 / 30_000,
    "train.near_camera": 0.0,
    "train.free_space": 0.0,
    "train.frame_margin": None,
    "train.surroundings.count": 0,
    "train.views.exposure": False,
    "train.min_transmittance": 1e-4,
}
"""The published training, in fractions of the run; pruning every 100 steps of 30,000, not every one."""


@dataclass(frozen=True)
class EdgsPublished(DenseMatching):
    """Method `edgs_published`: EDGS as published, initialization and training, to compare with."""

    name: ClassVar[str] = "edgs_published"
    summary: ClassVar[str] = "EDGS as published, to compare with"

    init: PublishedEdgs = field(default_factory=PublishedEdgs)
    """The first Gaussians."""

    def defaults(self, preset: str) -> Mapping[str, Any]:
        return DEFAULTS

    def max_gaussians(self, capture: Capture) -> int | None:
        """As many as are placed, at most a million: nothing is added."""
        references = min(self.init.num_refs, len(capture.train_views))
        return min(MAX_GAUSSIANS, self.init.matches_per_ref * references)

    def matching(self) -> MatchingRequest:
        return MatchingRequest(0, MAX_MATCHING_SIZE, 0, depth=False)

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        return self.init
