"""CoherentGS (Paliwal et al. 2024) as published: one Gaussian per pixel, decoders of depth and opacity.

Written from a description of the paper and of its released code. Schedules are fractions of the second stage's 13,000
steps, so a run of any length has all of them; shorter runs learn the decoders faster in proportion. Where paper and
code differ the code is followed, and the paper can be chosen: colour (`pixels.train_colour`), the weight of the flow
term (`pixels.flow_weight`) and the share of the masked variation (`losses.layered_from`). Departures, besides those of
the first Gaussians (`init.published_coherent`):

- depth and flow come from dense stereo instead of two networks: pixels match where the depth maps of two photos agree;
- depth stays positive: no Gaussian is nearer to its camera than 0.2 units (`train.models.pixel_rays`);
- the variation of disparity is taken inside the layers (`losses.layers`); a border between layers costs nothing;
- the VGG term is left out: of a weight of 0.05 its code applies a thirty-second of one layer, 0.0016 in all;
- sizes and rotations follow the code, free from the first step; the paper fixes them for 8,000 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from splat.core.capture import Capture
from splat.core.slots import Budget, Init, Initializer, InitPlan, MatchingRequest, Parameterization, Phase
from splat.init.dense_surfaces import MAX_MATCHING_SIZE
from splat.init.published_coherent import PublishedCoherent, depth_unit
from splat.methods.base import DenseMatching, photos_seed
from splat.train.density import NoDensity
from splat.train.models.pixel_rays import PixelRays, PixelSettings
from splat.train.models.ray_fields import STEPS
from splat.train.supersampling import Supersampling
from splat.train.views import PhotoSource

DEFAULTS: Mapping[str, Any] = {
    "train.density": "none",
    "train.none.prune_opacity": 0.0,
    "train.near_camera": 0.0,
    "train.free_space": 0.0,
    "train.frame_margin": None,
    "train.surroundings.count": 0,
    "train.decay.factor": 1.0,
    "train.dropout.rate": 0.0,
    "train.resolution.start": 1.0,
    "train.background.mode": "fixed",
    "train.background.rgb": (1.0, 1.0, 1.0),
    "train.views.exposure": False,
    "train.min_transmittance": 1e-4,
    "train.rates.sh0": 5e-4,
    "train.rates.sh_rest": 5e-5,
    "train.rates.scales": 1e-4,
    "train.rates.quats": 1e-5,
    # Degree 0 until step 15,000, which is the 8,000th of the second stage, then one more every 1,000.
    "train.sh.first_degree": 8_000 / STEPS,
    "train.sh.degree_every": 1_000 / STEPS,
    "losses.l1": 0.8,
    "losses.coarse": 0.8,
    "losses.dssim": 0.2,
    "losses.layered": 5.0,
}
RESOLUTIONS = {"fast": 252, "default": 504, "quality": 504}
"""px: the published 504; every pixel of every photo is a Gaussian."""


@dataclass(frozen=True)
class CoherentPublished(DenseMatching):
    """Method `coherent_published`: CoherentGS as published, to compare with. Slow without a GPU: on one core a step at
    126 px takes half a second, at 504 px ten."""

    name: ClassVar[str] = "coherent_published"
    summary: ClassVar[str] = "CoherentGS as published, to compare with"

    init: PublishedCoherent = field(default_factory=PublishedCoherent)
    """The first Gaussians."""
    pixels: PixelSettings = field(default_factory=PixelSettings)
    """How their depth, opacity and colour are learned."""
    supersampling: Supersampling = field(default_factory=lambda: Supersampling(max_factor=4))
    """Renders larger than the photos, late in the run."""

    def defaults(self, preset: str) -> Mapping[str, Any]:
        steps = {"iterations": STEPS} if preset == "quality" else {}
        return {**DEFAULTS, **steps, "max_resolution": RESOLUTIONS[preset]}

    def max_gaussians(self, capture: Capture) -> int | None:
        """One for every pixel: nothing is added."""
        return max(1, sum(v.camera.width * v.camera.height for v in capture.train_views))

    def matching(self) -> MatchingRequest:
        return MatchingRequest(self.init.matching_size, MAX_MATCHING_SIZE, 0)

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        return self.init if plan is None else replace(self.init, matching_size=plan.matching_size)

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        """One, in which Gaussians are neither added nor removed, whatever density control was chosen."""
        whole, views = budget.photo_phase, capture.views
        if init.rays is None or init.view_ids is None or init.pixels is None:
            return (whole,)
        unit = depth_unit(views, init.depths)
        if isinstance(whole.source, PhotoSource):
            whole.source.give_layers(_layer_maps(capture, init), unit)

        def pixels(model: Parameterization, init: Init) -> Parameterization:
            return PixelRays(model.gaussians(), init, views, self.pixels, budget.steps, unit)

        source = self.supersampling.of(whole.source, photos_seed(whole))
        return (replace(whole, source=source, density=NoDensity(), parameterize=pixels, name="pixels"),)


def _layer_maps(capture: Capture, init: Init) -> list[Tensor]:
    """The layer of every pixel of every photo, -1 where it has no Gaussian."""
    assert init.rays is not None and init.view_ids is not None and init.pixels is not None
    maps = []
    for i, view in enumerate(capture.views):
        layers = torch.full((view.camera.height, view.camera.width), -1)
        mine = init.view_ids == i
        x, y = init.pixels[mine].floor().long().unbind(1)
        layers[y, x] = init.rays.layers[mine]
        maps.append(layers)
    return maps
