"""EDGS (Kotovenko et al. 2025), improved: dense matches placed on surfaces replace most of densification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from splat.core.capture import Capture
from splat.core.slots import Initializer, InitPlan, MatchingRequest
from splat.init import DenseSurfaces
from splat.init.dense_surfaces import MAX_MATCHING_SIZE, initial_budget
from splat.methods.base import DenseMatching

DEFAULTS: Mapping[str, Any] = {
    # Large structure is right from the start: photos are at full size sooner. What no photo supports fades (by 1.5 in
    # logits in all).
    "train.resolution.full_at": 0.3,
    "train.decay.factor": 0.99,
    "train.decay.every": 1 / 300,
}
"""What dense first Gaussians change about training; density control splits what is still too coarse."""


@dataclass(frozen=True)
class Edgs(DenseMatching):
    """Method `edgs`: Gaussians on the surfaces that dense matching finds."""

    name: ClassVar[str] = "edgs"
    summary: ClassVar[str] = "Gaussians on the surfaces that dense matching finds"

    init: DenseSurfaces = field(default_factory=DenseSurfaces)
    """The first Gaussians."""

    def defaults(self, preset: str) -> Mapping[str, Any]:
        return DEFAULTS

    def matching(self) -> MatchingRequest:
        return MatchingRequest(self.init.matching_size, MAX_MATCHING_SIZE, self.init.max_photos)

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        if plan is None:
            return self.init
        budget = self.init.budget or initial_budget(capture, plan.max_gaussians)
        return replace(self.init, matching_size=plan.matching_size, max_photos=plan.matching_photos, budget=budget)
