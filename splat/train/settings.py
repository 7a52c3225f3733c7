"""What a user may say about training, and the phase on the training photos that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.schedules import (
    Background,
    Dropout,
    LearningRates,
    OpacityDecay,
    ResolutionSchedule,
    Schedules,
    ShSchedule,
)
from splat.core.slots import DensitySettings, Objective, Phase, RasterSettings
from splat.train.density import DENSITIES, DefaultDensity, MCMCDensity, NoDensity
from splat.train.density.near_camera import NearCamera
from splat.train.models.view_model import ViewSettings
from splat.train.views import PhotoSource, Posed

if TYPE_CHECKING:
    DensityName = str
else:
    DensityName = Literal[tuple(DENSITIES)]


@dataclass(frozen=True)
class Training:
    """How Gaussians are optimized."""

    density: DensityName = "default"
    """How their number changes: default (split where the image's gradient is large), mcmc (relocate and grow to --cap),
    none."""
    default: DefaultDensity = field(default_factory=DefaultDensity)
    mcmc: MCMCDensity = field(default_factory=MCMCDensity)
    none: NoDensity = field(default_factory=NoDensity)
    rates: LearningRates = field(default_factory=LearningRates)
    resolution: ResolutionSchedule = field(default_factory=ResolutionSchedule)
    sh: ShSchedule = field(default_factory=ShSchedule)
    decay: OpacityDecay = field(default_factory=OpacityDecay)
    dropout: Dropout = field(default_factory=Dropout)
    background: Background = field(default_factory=Background)
    min_transmittance: float = 1 / 255
    """While training, a pixel is done where less than this is left of the light from behind: what a display cannot show
    is not computed. Everything else is drawn down to 1e-4."""
    near_camera: float = 0.3
    """No Gaussian may be nearer to a training photo's camera than this fraction of the nearest sparse point it sees:
    no haze before the lens. 0: anywhere."""
    views: ViewSettings = field(default_factory=ViewSettings)
    capacity: int | None = None
    """On a GPU, a capacity of so many (tile, Gaussian) pairs of a photo: no step then waits for their count. It grows
    where it is too small, and until then the farthest Gaussians are left out (default: count, and wait)."""
    graph: Literal["auto", "on", "off"] = "auto"
    """On a GPU, record a step as a CUDA graph and replay it, which saves the time of asking for its kernels: takes
    --train.capacity and the native rasterizer. auto: where it can be done; on: and say where it cannot."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints; one is also written on Ctrl-C."""
    checkpoint_every: int = 0
    """Also after every so many steps; 0: by the clock alone."""
    evaluate_at: tuple[int, ...] = ()
    """Also measure the held-out photos after these steps (0: before the first), and how far Gaussians travel: see
    `timeline` and `displacement` in metrics.json. The seconds in the timeline are of training alone. Steps are of one
    photo each, as with --iterations."""

    def chosen_density(self, max_gaussians: int) -> DensitySettings:
        """The settings that `density` names, with the cap where they have one."""
        settings: DensitySettings = getattr(self, self.density)
        has_cap = any(f.name == "cap" for f in fields(settings))  # type: ignore[arg-type]
        return replace(settings, cap=max_gaussians) if has_cap else settings  # type: ignore[type-var]

    @property
    def schedules(self) -> Schedules:
        """Over the whole run, which is one phase."""
        return Schedules(self.rates, self.sh, self.decay, self.dropout, self.background)


def photo_phase(
    training: Training,
    losses: Objective,
    photos: Sequence[Posed],
    steps: int,
    max_gaussians: int,
    raster: RasterSettings,
    *,
    centres: Float[Tensor, "v 3"] | None = None,
    nearest: Float[Tensor, "v"] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Phase:
    """One phase of all `steps` on the training photos, as the user's settings have it.

    `centres` of the photos' cameras (world) and the depth of the nearest point that each is known to see (world units)
    are what keeps the space before the lenses empty; None: nothing does.
    """
    density = training.chosen_density(max_gaussians)
    if training.near_camera > 0 and centres is not None and nearest is not None:
        density = NearCamera(density, centres.float(), training.near_camera * nearest.float())
    return Phase(
        steps=steps,
        source=PhotoSource(photos, training.resolution, seed, device),
        losses=losses,
        density=density,
        schedules=training.schedules,
        raster=replace(raster, min_transmittance=training.min_transmittance),
    )
