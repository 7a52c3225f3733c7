"""3D Gaussian Splatting (Kerbl et al. 2023): sparse points, multiplied by density control."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from splat.core.capture import Capture
from splat.core.slots import Initializer, InitPlan
from splat.init import SfmPoints
from splat.methods.base import OnePhase


@dataclass(frozen=True)
class Points(OnePhase):
    """Method `points`: Gaussians at the sparse points of structure from motion."""

    name: ClassVar[str] = "points"
    summary: ClassVar[str] = "Gaussians at the sparse points of structure from motion"

    init: SfmPoints = field(default_factory=SfmPoints)
    """The first Gaussians."""

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        return self.init
