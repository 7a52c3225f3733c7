"""What most methods share: no settings of their own, no matching, one phase on the training photos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from splat.core.capture import Capture
from splat.core.slots import Budget, Init, MatchingRequest, Phase
from splat.native import build


class OnePhase:
    """A `slots.Method` but for its name, its summary and its `initializer`."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def unavailable(self) -> str | None:
        """It runs anywhere."""
        return None

    def defaults(self, preset: str) -> Mapping[str, Any]:
        """Nothing is changed about the settings of a run."""
        return {}

    def max_gaussians(self, capture: Capture) -> int | None:
        """The preset's cap."""
        return None

    def matching(self) -> MatchingRequest | None:
        """Photos are not matched."""
        return None

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        """One phase on the training photos, as the settings of training have it."""
        return (budget.photo_phase,)


class DenseMatching(OnePhase):
    """What methods that match photos pixel by pixel share besides."""

    def unavailable(self) -> str | None:
        """Without compiled kernels matching would take hours."""
        reason = build.unavailable()
        return None if reason is None else f"dense matching needs the compiled kernels ({reason})"
