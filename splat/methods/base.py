"""What most methods share: no settings of their own, no matching, one phase on the training photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from splat.core.capture import Capture
from splat.core.slots import Budget, Init, Initializer, InitPlan, MatchingRequest, Phase
from splat.init.dense_surfaces import MAX_MATCHING_SIZE, DenseSurfaces
from splat.losses import Losses
from splat.native import build
from splat.train.views import PhotoSource


class OnePhase:
    """A `slots.Method` but for its name, its summary and its `initializer`."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def unavailable(self) -> str | None:
        """It runs anywhere."""
        return None

    def check(self) -> None:
        """Any settings will do."""

    def defaults(self, preset: str) -> Mapping[str, Any]:
        """Nothing is changed about the settings of a run."""
        return {}

    def max_gaussians(self, capture: Capture) -> int | None:
        """The preset's cap."""
        return None

    def matching(self) -> MatchingRequest | None:
        """Photos are not matched."""
        return None

    def training_weights(self) -> str:
        """No networks."""
        return ""

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        """One phase on the training photos, as the settings of training have it."""
        return (budget.photo_phase,)


def photos_seed(phase: Phase) -> int:
    """The seed that a phase on photos draws them by."""
    return phase.source.seed if isinstance(phase.source, PhotoSource) else 0


class DenseMatching(OnePhase):
    """What methods that match photos pixel by pixel share besides."""

    def unavailable(self) -> str | None:
        """Without compiled kernels matching would take hours."""
        reason = build.unavailable()
        return None if reason is None else f"dense matching needs the compiled kernels ({reason})"


class OnSurfaces(DenseMatching):
    """What methods share whose first Gaussians lie on the surfaces that dense matching finds."""

    init: DenseSurfaces
    """A field of the method."""

    def matching(self) -> MatchingRequest:
        """As the initializer is set; what it leaves open the run decides."""
        return MatchingRequest(self.init.matching_size, MAX_MATCHING_SIZE, self.init.max_photos)

    def first_count(self, capture: Capture, max_gaussians: int) -> int:
        """How many Gaussians to start with, where the initializer does not say."""
        raise NotImplementedError

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        """The initializer, with what the run decided filled in."""
        if plan is None:
            return self.init
        budget = self.init.budget or self.first_count(capture, plan.max_gaussians)
        return replace(self.init, matching_size=plan.matching_size, max_photos=plan.matching_photos, budget=budget)

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        """One phase on the training photos, with the depth maps of matching where a loss reads them."""
        give_maps(budget.photo_phase, capture, init)
        return (budget.photo_phase,)


def give_maps(phase: Phase, capture: Capture, init: Init) -> None:
    """Give the photos of a phase the depth maps of the first Gaussians, and their normals, where a loss reads them."""
    losses, source = phase.losses, phase.source
    reads_depth, normals = (losses.reads_depth, losses.reads_normals) if isinstance(losses, Losses) else (True, True)
    if (reads_depth or normals) and isinstance(source, PhotoSource) and len(init.depths) == len(capture.views):
        source.give_depths(init.depths, normals)
