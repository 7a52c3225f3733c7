"""Schedules of a phase of training (`slots.Phase`): frozen dataclasses whose times are fractions of the phase's steps,
so that the same settings serve 7,000 and 30,000 steps. `progress` is the fraction of the steps done, in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.gaussians import Gaussians


def log_linear(start: float, end: float, progress: float) -> float:
    """Log-linear interpolation from `start` to `end`, both > 0."""
    t = min(max(progress, 0.0), 1.0)
    return math.exp((1 - t) * math.log(start) + t * math.log(end))


@dataclass(frozen=True)
class ResolutionSchedule:
    """Coarse-to-fine training photos (as DashGaussian, Chen et al. 2025): early steps are cheap."""

    start: float = 0.25
    """Photos start at this fraction of the working size and grow to 1; 1 = no schedule."""
    full_at: float = 0.6
    """Fraction of the steps after which photos have the working size; the coarser levels share the steps before."""
    min_side: int = 250
    """No level is smaller than this on its long side, in px."""
    per_octave: int = 2
    """Number of levels per doubling of the size."""

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
        """The factor of a level for a photo of this long side (px), subject to `min_side`."""
        return min(1.0, max(self.factors()[level], self.min_side / long_side))


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of Adam. All but that of opacities are 1.6 to 2 times those of 3DGS (Kerbl et al. 2023), which
    trains for 30,000 steps. At 7,000 steps this gains 0.3 dB on lego_400, as much as 2,500 more steps."""

    means: float = 3.2e-4
    """At the start; multiplied by the scene extent."""
    means_final: float = 1.6e-6
    """At the end; log-linear in between."""
    means_hold: float = 0.0
    """Until this fraction of the steps, the rate is the one scheduled for that fraction: for Gaussians that start at
    the right position (EDGS: 8,000 of 30,000 steps)."""
    sh0: float = 4e-3
    """SH degree 0: the view-independent colour."""
    sh_rest: float = 2.5e-4
    """SH of higher degrees: the view-dependent colour."""
    sh_rest_every: int = 1
    """Steps between two updates of the higher SH degrees, three quarters of all parameters (as Taming 3DGS, Mallick et
    al. 2024). Rate and decay of moments of an update are those of so many steps."""
    opacities: float = 0.05
    """Logits."""
    scales: float = 8e-3
    """Logarithms."""
    quats: float = 2e-3
    others_final: float = 1.0
    """Factor at the end on all rates but that of positions; log-linear from 1."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15

    def at(self, progress: float, scene_extent: float) -> StepSizes:
        """The rates of one step. `scene_extent` in world units."""
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
    """Learning rates of one step: see `LearningRates`."""

    means: float
    """World units."""
    quats: float
    scales: float
    opacities: float
    sh0: float
    sh_rest: float
    """The rate for updates in every step (see `sh_rest_every`)."""
    sh_rest_every: int = 1
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15
    progress: float = 0.0
    """Progress of the phase, for further rates that a parameterization may have."""


@dataclass(frozen=True)
class ShSchedule:
    """SH degrees are added one by one, so that view-dependent colour does not make up for wrong geometry."""

    degree_every: float = 1 / 15
    """Fraction of the steps between two increases of the SH degree."""
    first_degree: float | None = None
    """Fraction of the steps at which degree 1 begins (default: `degree_every`)."""

    def degree(self, progress: float, highest: int) -> int:
        if self.degree_every <= 0:
            return highest
        late = 0.0 if self.first_degree is None else self.first_degree - self.degree_every
        return min(highest, max(0, int((progress - late) / self.degree_every + 1e-9)))


@dataclass(frozen=True)
class OpacityDecay:
    """Lowers all opacities a little at regular intervals. Gaussians that the photos support recover, the others fade
    and are pruned. Replaces opacity resets (EDGS), and regularizes scenes with few photos."""

    factor: float = 1.0
    """Factor on exp(logit) at each decay (EDGS: 0.99 every 10 steps); 1 = off."""
    every: float = 10 / 30_000
    """Fraction of the steps between two decays."""
    until: float = 0.5
    """Fraction of the steps after which decay stops."""

    def amount(self, step: int, steps: int) -> float:
        """What to add to all opacity logits after step `step` of `steps`; 0 if no decay is due."""
        every = max(1, round(self.every * steps))
        due = self.factor < 1 and step < self.until * steps and (step + 1) % every == 0
        return math.log(self.factor) if due else 0.0


@dataclass(frozen=True)
class Dropout:
    """Each training step leaves out random Gaussians and raises the opacity of the rest (DropGaussian, Park et al.
    2025). With few photos this reduces overfitting: occluded Gaussians get gradients too."""

    rate: float = 0.0
    """Fraction of Gaussians left out at the end of the run; 0 = off."""
    ramp: bool = True
    """Grow from 0 at the start to `rate` at the end; otherwise `rate` throughout."""

    def share(self, progress: float) -> float:
        return self.rate * progress if self.ramp else self.rate

    def keep(self, ids: Int[Tensor, "m"], progress: float, generator: torch.Generator) -> Tensor:
        """The ids that this step renders."""
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
    """Background colour of training renders."""

    mode: Literal["fixed", "random-alpha", "random"] = "random-alpha"
    """fixed: always `rgb`. random-alpha: a random colour each step for photos with alpha, so that empty space becomes
    transparent; `rgb` for others. random: a random colour for all photos, so that nothing stays transparent."""
    rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The fixed colour, sRGB in [0, 1]."""

    def colour(self, has_alpha: bool, generator: torch.Generator) -> Float[Tensor, "3"]:
        if self.mode == "random" or (self.mode == "random-alpha" and has_alpha):
            return torch.rand(3, generator=generator)
        return torch.tensor(self.rgb, dtype=torch.float32)


@dataclass(frozen=True)
class Schedules:
    """All schedules of a phase, except the resolution of photos, which belongs to the target source."""

    rates: LearningRates = field(default_factory=LearningRates)
    sh: ShSchedule = field(default_factory=ShSchedule)
    opacity_decay: OpacityDecay = field(default_factory=OpacityDecay)
    dropout: Dropout = field(default_factory=Dropout)
    background: Background = field(default_factory=Background)
