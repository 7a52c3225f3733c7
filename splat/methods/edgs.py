"""EDGS (Kotovenko et al. 2025), improved: dense matches placed on surfaces replace most of densification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from splat.core.capture import Capture
from splat.init import DenseSurfaces
from splat.init.dense_surfaces import initial_budget
from splat.methods.base import OnSurfaces

DEFAULTS: Mapping[str, Any] = {
    # Large structure is right from the start: photos are at full size sooner. What no photo supports fades (by 1.5 in
    # logits in all).
    "train.resolution.full_at": 0.3,
    "train.decay.factor": 0.99,
    "train.decay.every": 1 / 300,
}
"""What dense first Gaussians change about training; density control splits what is still too coarse."""


@dataclass(frozen=True)
class Edgs(OnSurfaces):
    """Method `edgs`: Gaussians on the surfaces that dense matching finds."""

    name: ClassVar[str] = "edgs"
    summary: ClassVar[str] = "Gaussians on the surfaces that dense matching finds"

    init: DenseSurfaces = field(default_factory=DenseSurfaces)
    """The first Gaussians."""

    def defaults(self, preset: str) -> Mapping[str, Any]:
        return DEFAULTS

    def first_count(self, capture: Capture, max_gaussians: int) -> int:
        return initial_budget(capture, max_gaussians)
