"""Density control as sampling (3DGS-MCMC, Kheradmand et al. 2024): faint Gaussians move to where opaque ones are, the
number grows to a cap, and noise keeps faint ones exploring. From the paper's mathematics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import matrix_from_quat
from splat.core.slots import DensityControl, Parameterization, Render
from splat.native import bindings
from splat.train.parameters import FreeGaussians

MOST_COPIES = 51


@dataclass(frozen=True)
class MCMCDensity:
    """Relocates faint Gaussians and adds new ones where opacity is, up to `cap`. Wants the opacity and scale
    regularizers among the losses: they make useless Gaussians faint."""

    cap: int = 200_000
    """Never more Gaussians than this."""
    growth: float = 0.05
    """At least this share is added at each change, more where the cap would not be reached by `full_at`."""
    full_at: float = 0.4
    """Fraction of the steps by which the cap is reached, in equal ratios."""
    start: float = 0.02
    """Fraction of the steps before the first change."""
    stop: float = 0.83
    """Fraction of the steps after which nothing is relocated or added."""
    every: float = 1 / 100
    """Fraction of the steps between two changes; never less than 50 steps."""
    min_opacity: float = 0.005
    """Fainter Gaussians are relocated."""
    noise: float = 5e5
    """Strength of the noise on positions, times their learning rate; 0 = none."""

    def __call__(self, first_step: int, steps: int, scene_extent: float) -> DensityControl:
        return _Sampler(self, first_step, steps, scene_extent)


class _Sampler:
    def __init__(self, settings: MCMCDensity, first_step: int, steps: int, scene_extent: float) -> None:
        self.settings, self.first_step, self.steps = settings, first_step, max(1, steps)
        self.every = max(min(50, steps), round(settings.every * steps))
        self.generators: tuple[torch.Generator, ...] = ()

    def wants_absgrad(self, step: int) -> bool:
        return False

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None: ...

    def after_update(self, step: int, model: Parameterization, generator: torch.Generator) -> str | None:
        s = self.settings
        progress = (step - self.first_step + 1) / self.steps
        line = None
        if self._is_due(step):
            moved = relocate(model, step, s.min_opacity, generator)
            n = len(model.gaussians(step))
            added = sprout(model, step, self._next_count(n, progress) - n, s.min_opacity, generator)
            line = f"moved {moved}, added {added}" if moved or added else None
        if isinstance(model, FreeGaussians) and (strength := self._strength(step, model)) > 0:
            self._ready(model.values["means"].device)
            explore(model, step, strength, generator, *self.generators)
        return line

    def _is_due(self, step: int) -> bool:
        progress = (step - self.first_step + 1) / self.steps
        due = (step - self.first_step + 1) % self.every == 0
        return due and self.settings.start <= progress <= self.settings.stop

    def _strength(self, step: int, model: FreeGaussians) -> float:
        return self.settings.noise * model.means_rate(step)

    def _ready(self, device: torch.device) -> None:
        if not self.generators and bindings.waits(device):
            self.generators = (torch.Generator(device),)

    def recorded(self, step: int, count: int, device: torch.device) -> tuple[Any, ...] | None:
        self._ready(device)
        return None if self._is_due(step) else ()

    def numbers(self, step: int, model: Parameterization, generator: torch.Generator) -> list[float]:
        """The strength of the noise, whose generator starts anew."""
        if self.settings.noise <= 0 or not isinstance(model, FreeGaussians):
            return []
        _restart(self.generators[0], generator)
        return [self._strength(step, model)]

    def replayed_update(self, step: int, model: Parameterization, numbers: Tensor) -> None:
        if len(numbers):
            noise = _noise_of_all(model.gaussians(step), numbers[0], self.generators[0])
            model.shift(None, means=noise)

    def _next_count(self, n: int, progress: float) -> int:
        s = self.settings
        changes = max(1.0, (s.full_at - progress) * self.steps / self.every)
        growth = max(s.growth, (s.cap / n) ** (1 / changes) - 1 if progress < s.full_at else 0.0)
        return max(n, min(s.cap, math.ceil(n * (1 + growth))))

    def forget(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


def _shared(
    opacities: Float[Tensor, "n"], log_scales: Float[Tensor, "n 3"], copies: Int[Tensor, "n"], min_opacity: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]:
    """Logit opacities and log scales that let `copies` Gaussians in one place look like the one they replace.

    Equation 9 of the paper: o' = 1 - (1 - o)^(1/N), and
    sigma' = sigma * o / sum_{i=1..N} sum_{k=0..i-1} C(i-1, k) (-1)^k o'^(k+1) / sqrt(k+1).
    """
    o = opacities.double()
    n = copies.clamp(1, MOST_COPIES)
    new = 1 - (1 - o) ** (1 / n.double())
    total = torch.zeros_like(o)
    k = torch.arange(MOST_COPIES, dtype=torch.float64, device=o.device)
    for i in range(1, int(n.max()) + 1):
        choose = torch.tensor([math.comb(i - 1, j) for j in range(i)], dtype=torch.float64, device=o.device)
        terms = choose * (-1.0) ** k[:i] * new[:, None] ** (k[:i] + 1) / (k[:i] + 1).sqrt()
        total += torch.where(n >= i, terms.sum(1), torch.zeros_like(o))
    new = new.clamp(min_opacity, 1 - 1e-6)
    return torch.logit(new).to(opacities), log_scales + torch.log(o / total)[:, None].to(log_scales)


def _draw(opacities: Float[Tensor, "n"], number: int, generator: torch.Generator) -> Int[Tensor, "m"]:
    """Rows drawn with replacement, in proportion to opacity, reproducibly and without torch's limit of 2^24 classes."""
    total = opacities.double().cumsum(0)
    u = torch.rand(number, generator=generator, dtype=torch.float64).to(total.device) * total[-1]
    return torch.searchsorted(total, u, right=True).clamp_max(len(opacities) - 1)


def _multiply(
    gaussians: Gaussians, sources: Int[Tensor, "m"], min_opacity: float
) -> tuple[Int[Tensor, "s"], Gaussians, Gaussians]:
    """The distinct sources, what they become, and what each of the m copies is."""
    unique, which, times = sources.unique(return_inverse=True, return_counts=True)
    old = gaussians[unique]
    logits, log_scales = _shared(old.opacities, old.log_scales, times + 1, min_opacity)
    shared = Gaussians(old.means, old.quats_wxyz, log_scales, logits, old.sh)
    return unique, shared, shared[which]


def relocate(model: Parameterization, step: int, min_opacity: float, generator: torch.Generator) -> int:
    """Move faint Gaussians onto others, which share their opacity with them. Returns how many moved."""
    gaussians = model.gaussians(step)
    opacities = gaussians.opacities
    dead = (~(opacities > min_opacity)).nonzero()[:, 0]  # a value that is not a number is dead
    alive = (opacities > min_opacity).nonzero()[:, 0]
    if len(dead) == 0 or len(alive) == 0:
        return 0
    sources = alive[_draw(opacities[alive], len(dead), generator)]
    unique, shared, copies = _multiply(gaussians, sources, min_opacity)
    model.assign(torch.cat([unique, dead]), Gaussians.cat([shared, copies]), torch.cat([unique, sources]))
    return len(dead)


def sprout(model: Parameterization, step: int, number: int, min_opacity: float, generator: torch.Generator) -> int:
    """Add `number` Gaussians on top of others, which share their opacity with them."""
    gaussians = model.gaussians(step)
    if number <= 0 or len(gaussians) == 0:
        return 0
    sources = _draw(gaussians.opacities.clamp_min(1e-6), number, generator)
    unique, shared, copies = _multiply(gaussians, sources, min_opacity)
    everything = torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
    model.assign(unique, shared)
    model.edit(everything, copies, sources)
    return number


FAINT_LOGIT = math.log(0.1 / 0.9)


def explore(
    model: Parameterization,
    step: int,
    strength: float,
    generator: torch.Generator,
    there: torch.Generator | None = None,
) -> None:
    """Add noise to positions: strength * sigmoid(-100 (o - 0.005)) * Sigma eps, eps standard normal (equation 8).

    Above an opacity of 0.1 the factor is below 1e-4 and the row is left alone. Where a device would be waited for,
    `there` is its own generator, which starts anew from a number of `generator`.
    """
    gaussians = model.gaussians(step)
    if bindings.waits(gaussians.means.device):
        there = torch.Generator(gaussians.means.device) if there is None else there
        _restart(there, generator)
        model.shift(None, means=_noise_of_all(gaussians, strength, there))
        return
    ids = (gaussians.logit_opacities < FAINT_LOGIT).nonzero()[:, 0]
    if len(ids) == 0:
        return
    rows = gaussians[ids]
    model.shift(ids, means=_noise(rows, torch.randn(len(ids), 3, generator=generator).to(rows.means), strength))


def _restart(there: torch.Generator, generator: torch.Generator) -> None:
    there.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))


def _noise_of_all(gaussians: Gaussians, strength: float | Tensor, there: torch.Generator) -> Float[Tensor, "n 3"]:
    """Drawn on the device, and for every row: choosing rows there would wait for their number."""
    means = gaussians.means
    noise = _noise(gaussians, torch.randn(means.shape, generator=there, device=means.device), strength)
    return noise.where((gaussians.logit_opacities < FAINT_LOGIT)[:, None], torch.zeros_like(noise))


def _noise(rows: Gaussians, normal: Float[Tensor, "n 3"], strength: float | Tensor) -> Float[Tensor, "n 3"]:
    factor = torch.sigmoid(-100 * (rows.opacities - 0.005)) * strength
    turn = matrix_from_quat(rows.quats_wxyz)
    local = torch.einsum("nji,nj->ni", turn, normal) * rows.log_scales.mul(2).exp()
    return torch.einsum("nij,nj->ni", turn, local) * factor[:, None]
