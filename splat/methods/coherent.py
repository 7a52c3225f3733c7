"""CoherentGS (Paliwal et al. 2024), improved: Gaussians bound to the rays of their pixels, for few photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from splat.core.capture import Capture
from splat.core.slots import Budget, Init, Parameterization, Phase
from splat.geometry.reproject import posed_depths
from splat.init.ray_surfaces import RaySurfaces
from splat.methods.base import OnSurfaces, give_maps, photos_seed
from splat.methods.edgs import DEFAULTS as EDGS
from splat.train.density import NoDensity
from splat.train.density.pruning import with_innermost
from splat.train.models.free import FreeGaussians
from splat.train.models.ray_bound import RayBound, RaySettings
from splat.train.supersampling import Supersampling
from splat.train.views import PhotoSource
from splat.train.virtual_views import VirtualSource, VirtualViews

PIXELS_PER_GAUSSIAN = 20
"""Training pixels, over all photos, for each Gaussian at the end; more Gaussians learn few photos by heart."""
FIRST_SHARE = 0.5
"""Of these, how many the first ones are: the others are added in the free phase."""
MIN_GAUSSIANS, MAX_GAUSSIANS = 20_000, 600_000


@dataclass(frozen=True)
class Coherent(OnSurfaces):
    """Method `coherent`: Gaussians that slide along the rays of their pixels."""

    name: ClassVar[str] = "coherent"
    summary: ClassVar[str] = "Gaussians that slide along the rays of their pixels, for few photos"

    init: RaySurfaces = field(default_factory=RaySurfaces)
    """The first Gaussians."""
    rays: RaySettings = field(default_factory=RaySettings)
    """How they slide."""
    virtual: VirtualViews = field(default_factory=VirtualViews)
    """Targets of cameras between the photos."""
    supersampling: Supersampling = field(default_factory=Supersampling)
    """Renders larger than the photos."""
    bound: float = 0.7
    """Fraction of the steps after which Gaussians are free, and more are added where the error stays."""

    def defaults(self, preset: str) -> Mapping[str, Any]:
        return EDGS

    def max_gaussians(self, capture: Capture) -> int | None:
        pixels = sum(v.camera.width * v.camera.height for v in capture.train_views)
        return min(MAX_GAUSSIANS, max(MIN_GAUSSIANS, pixels // PIXELS_PER_GAUSSIAN))

    def first_count(self, capture: Capture, max_gaussians: int) -> int:
        return max(1, round(FIRST_SHARE * max_gaussians))

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        """Bound to rays, then free. All free where the first Gaussians come from no pixels."""
        whole = budget.photo_phase
        give_maps(whole, capture, init)
        seed = photos_seed(whole)
        whole = self._with_virtual_views(capture, init, whole)
        whole = replace(whole, source=self.supersampling.of(whole.source, seed))
        bound = round(self.bound * budget.steps)
        if init.rays is None or bound == 0:
            return (whole,)
        views = capture.views

        def on_rays(model: Parameterization, init: Init) -> Parameterization:
            return RayBound(model.gaussians(), init, views, self.rays)

        def free(model: Parameterization, init: Init) -> Parameterization:
            return FreeGaussians(model.gaussians())

        faint = with_innermost(whole.density, NoDensity(prune_opacity=0.005))
        first = replace(whole, steps=bound, density=faint, parameterize=on_rays, name="rays")
        second = replace(whole, steps=budget.steps - bound, parameterize=free, name="free")
        return (first, second) if second.steps else (first,)

    def _with_virtual_views(self, capture: Capture, init: Init, phase: Phase) -> Phase:
        source, views = phase.source, capture.views
        depths = posed_depths(views, init.depths)
        if not (self.virtual.every and depths and isinstance(source, PhotoSource)):
            return phase
        virtual = VirtualSource(source, depths, self.virtual, source.seed)
        every = max(1, phase.steps // max(1, self.virtual.rounds))
        return replace(phase, source=virtual, round_every=every, on_round=virtual.renew)
