"""What changes while training runs, each a small frozen dataclass of fractions of the run: 7,000 and 30,000 steps
behave alike. A run here is a phase of training (`slots.Phase`), and `progress` the fraction of its steps done."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.gaussians import Gaussians


def log_linear(start: float, end: float, progress: float) -> float:
    """From `start` to `end` (both > 0), a straight line in the logarithm."""
    t = min(max(progress, 0.0), 1.0)
    return math.exp((1 - t) * math.log(start) + t * math.log(end))


@dataclass(frozen=True)
class ResolutionSchedule:
    """Coarse photos first: cheap steps while only the large structure is wrong (as DashGaussian, Chen et al. 2025)."""

    start: float = 0.25
    """Photos start at this fraction of the working size and grow to 1; 1 = no schedule."""
    full_at: float = 0.6
    """Fraction of the steps from which photos have the working size; the coarser levels share the time before."""
    min_side: int = 250
    """No level is smaller than this on its long side, in px."""
    per_octave: int = 2
    """Levels between a size and its double."""

    def factors(self) -> tuple[float, ...]:
        """Every level, coarse to fine, ending in 1."""
        growths = max(0, math.ceil(-self.per_octave * math.log2(self.start) - 1e-9)) if self.start < 1 else 0
        return tuple(2.0 ** (-i / self.per_octave) for i in range(growths, -1, -1))

    def level(self, progress: float) -> int:
        """Index into `factors()`."""
        coarse = len(self.factors()) - 1
        if coarse == 0 or progress >= self.full_at:
            return coarse
        return min(coarse, int(progress / self.full_at * coarse))

    def factor_for(self, level: int, long_side: int) -> float:
        """The level's factor for a photo of this long side, `min_side` respected."""
        return min(1.0, max(self.factors()[level], self.min_side / long_side))


@dataclass(frozen=True)
class LearningRates:
    """Adam's step sizes. All but the opacities' are 1.6 to 2 times those of Kerbl et al. (2023), who train for 30,000
    steps: at 7,000 the longer strides are worth 0.3 dB on lego_400, as much as 2,500 more steps."""

    means: float = 3.2e-4
    """At the start, times the scene's extent."""
    means_final: float = 1.6e-6
    """At the end; a straight line in the logarithm between."""
    means_hold: float = 0.0
    """Until this fraction of the steps positions move at the rate that the line has there: Gaussians that start in the
    right place need not travel (EDGS: 8,000 of 30,000 steps)."""
    sh0: float = 4e-3
    """Colour that looks the same from everywhere."""
    sh_rest: float = 2.5e-4
    """View-dependent harmonics."""
    sh_rest_every: int = 1
    """Steps between two updates of the view-dependent harmonics, three quarters of a Gaussian's numbers (as Taming
    3DGS, Mallick et al. 2024). One update then stands for all: rate and decay of moments are those of so many steps."""
    opacities: float = 0.05
    """Logits."""
    scales: float = 8e-3
    """Logarithms."""
    quats: float = 2e-3
    others_final: float = 1.0
    """Fraction of all rates but the positions' that is left at the end; a straight line in the logarithm."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15

    def at(self, progress: float, scene_extent: float) -> StepSizes:
        """Those of one step. `scene_extent` in world units."""
        scale = log_linear(1.0, self.others_final, progress)
        return StepSizes(
            means=scene_extent * log_linear(self.means, self.means_final, max(progress, self.means_hold)),
            quats=scale * self.quats,
            scales=scale * self.scales,
            opacities=scale * self.opacities,
            sh0=scale * self.sh0,
            sh_rest=scale * self.sh_rest,
            sh_rest_every=max(1, self.sh_rest_every),
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            progress=progress,
        )


@dataclass(frozen=True)
class StepSizes:
    """Adam's step sizes in one step: see `LearningRates`."""

    means: float
    """World units."""
    quats: float
    scales: float
    opacities: float
    sh0: float
    sh_rest: float
    """As if the view-dependent harmonics were updated in every step."""
    sh_rest_every: int = 1
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15
    progress: float = 0.0
    """Of the phase: for rates that a parameterization has besides these."""


@dataclass(frozen=True)
class ShSchedule:
    """View-dependent colour is learned band by band, so that it does not explain what geometry should."""

    degree_every: float = 1 / 15
    """One more degree of spherical harmonics after each such fraction of the steps."""

    def degree(self, progress: float, highest: int) -> int:
        if self.degree_every <= 0:
            return highest
        return min(highest, int(progress / self.degree_every + 1e-9))


@dataclass(frozen=True)
class OpacityDecay:
    """Every so often all opacities sink a little; what the photos support climbs back, the rest fades and is pruned.
    A gentle stand-in for opacity resets (EDGS), and a regularizer where photos are few."""

    factor: float = 1.0
    """What an unopposed logit-exponential is multiplied by each time (EDGS: 0.99 every 10 steps); 1 = off."""
    every: float = 10 / 30_000
    """Fraction of the steps between two decays."""
    until: float = 0.5
    """Fraction of the steps after which decay stops."""

    def amount(self, step: int, steps: int) -> float:
        """To be added to every logit after this step of so many; 0 when it is not due."""
        every = max(1, round(self.every * steps))
        due = self.factor < 1 and step < self.until * steps and (step + 1) % every == 0
        return math.log(self.factor) if due else 0.0


@dataclass(frozen=True)
class Dropout:
    """Each step leaves out a random share of the Gaussians and strengthens the rest (DropGaussian, Park et al. 2025):
    with few photos it keeps Gaussians from hiding behind each other. Off when rendering for anything but training."""

    rate: float = 0.0
    """Share of Gaussians left out at the end of the run; 0 = off."""
    ramp: bool = True
    """Grow from 0 at the start to `rate` at the end; otherwise `rate` throughout."""

    def share(self, progress: float) -> float:
        return self.rate * progress if self.ramp else self.rate

    def keep(self, ids: Int[Tensor, "m"], progress: float, generator: torch.Generator) -> Tensor:
        """The ids that are drawn this step."""
        share = self.share(progress)
        if share <= 0:
            return ids
        return ids[torch.rand(len(ids), generator=generator).to(ids.device) >= share]

    def compensate(self, rows: Gaussians, progress: float) -> Gaussians:
        """The same rows with opacity / (1 - share), at most 0.99; differentiable."""
        share = self.share(progress)
        if share <= 0:
            return rows
        opacities = (rows.logit_opacities.sigmoid() / (1 - share)).clamp(1e-6, 0.99)
        return Gaussians(rows.means, rows.quats_wxyz, rows.log_scales, torch.logit(opacities), rows.sh)


@dataclass(frozen=True)
class Background:
    """What is seen where there is no Gaussian."""

    mode: Literal["fixed", "random-alpha", "random"] = "random-alpha"
    """fixed: always `rgb`. random-alpha: a new colour each step for photos with alpha, so that empty space must become
    transparent; `rgb` for others. random: a new colour for every photo, so that nothing may stay transparent."""
    rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The fixed colour, sRGB in [0, 1]."""

    def colour(self, has_alpha: bool, generator: torch.Generator) -> Float[Tensor, "3"]:
        if self.mode == "random" or (self.mode == "random-alpha" and has_alpha):
            return torch.rand(3, generator=generator)
        return torch.tensor(self.rgb, dtype=torch.float32)


@dataclass(frozen=True)
class Schedules:
    """What changes while a phase runs, in fractions of its steps. (The size of photos belongs to the target source.)"""

    rates: LearningRates = field(default_factory=LearningRates)
    sh: ShSchedule = field(default_factory=ShSchedule)
    opacity_decay: OpacityDecay = field(default_factory=OpacityDecay)
    dropout: Dropout = field(default_factory=Dropout)
    background: Background = field(default_factory=Background)
