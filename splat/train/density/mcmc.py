"""Density control as sampling (3DGS-MCMC, Kheradmand et al. 2024): Gaussians of low opacity are relocated to opaque
ones, the number grows to a cap, and noise on positions explores. Written from the equations of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core import devices
from splat.core.gaussians import Gaussians
from splat.core.geometry import matrix_from_quat
from splat.core.slots import DensityControl, Parameterization

MAX_COPIES = 51


@dataclass(frozen=True)
class MCMCDensity:
    """Relocates Gaussians of low opacity and adds new ones at opaque Gaussians, up to `cap`. Needs the opacity and
    scale regularizers, which make useless Gaussians transparent."""

    cap: int = 200_000
    """Maximum number of Gaussians."""
    growth: float = 0.05
    """Minimum growth at each change, as a fraction; more where the cap would not be reached by `full_at`."""
    full_at: float = 0.4
    """Fraction of the steps after which the cap is reached, by geometric growth."""
    start: float = 0.02
    """Fraction of the steps before the first change."""
    stop: float = 0.83
    """Fraction of the steps after which nothing is relocated or added."""
    every: float = 1 / 100
    """Fraction of the steps between two changes; never less than 50 steps."""
    min_opacity: float = 0.005
    """Gaussians of lower opacity are relocated."""
    noise: float = 5e5
    """Strength of the noise on positions, times their learning rate; 0 = none."""

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        return _Sampler(self, steps)

    def shard(self, world: int) -> MCMCDensity:
        """The settings for one of `world` processes: its part of the cap."""
        return replace(self, cap=math.ceil(self.cap / world))


class _Sampler(DensityControl):
    def __init__(self, settings: MCMCDensity, steps: int) -> None:
        self.settings, self.steps = settings, max(1, steps)
        self.every = max(min(50, steps), round(settings.every * steps))
        self.on_device: torch.Generator | None = None
        """Generator of the noise on a GPU, so that no step blocks."""

    def after_update(
        self, step: int, model: Parameterization, means_rate: float, generator: torch.Generator
    ) -> str | None:
        s, line = self.settings, None
        if self.changes_rows(step):
            moved = relocate(model, s.min_opacity, generator)
            n = len(model)
            more = self._next_count(n, (step + 1) / self.steps) - n
            added = add_new_gaussians(model, more, s.min_opacity, generator)
            line = f"moved {moved}, added {added}" if moved or added else None
        if (strength := s.noise * means_rate) > 0:
            self._have_generator(model.gaussians().means.device)
            add_position_noise(model, strength, generator, self.on_device)
        return line

    def changes_rows(self, step: int) -> bool:
        due = (step + 1) % self.every == 0
        return due and self.settings.start <= (step + 1) / self.steps <= self.settings.stop

    def _have_generator(self, device: torch.device) -> None:
        if self.on_device is None and devices.is_asynchronous(device):
            self.on_device = torch.Generator(device)

    def prepare_replay(self, step: int, count: int, device: torch.device) -> None:
        self._have_generator(device)

    def generators(self) -> Sequence[torch.Generator]:
        return () if self.on_device is None else (self.on_device,)

    def begin_replay(self, means_rate: float, generator: torch.Generator) -> list[float]:
        """The strength of the noise; reseeds the generator of the noise."""
        if self.settings.noise <= 0:
            return []
        assert self.on_device is not None, "prepare_replay makes it"
        _restart(self.on_device, generator)
        return [self.settings.noise * means_rate]

    def replayed_update(self, model: Parameterization, numbers: Float[Tensor, "k"]) -> None:
        if len(numbers):
            assert self.on_device is not None
            model.shift(None, means=_noise_of_all(model.gaussians(), numbers[0], self.on_device))

    def _next_count(self, n: int, progress: float) -> int:
        s = self.settings
        changes = max(1.0, (s.full_at - progress) * self.steps / self.every)
        growth = max(s.growth, (s.cap / n) ** (1 / changes) - 1 if progress < s.full_at else 0.0)
        return max(n, min(s.cap, math.ceil(n * (1 + growth))))


def _shared(
    opacities: Float[Tensor, "n"], log_scales: Float[Tensor, "n 3"], copies: Int[Tensor, "n"], min_opacity: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]:
    """Logit opacities and log scales with which `copies` Gaussians in one place look like the one that they replace.

    Equation 9 of the paper: o' = 1 - (1 - o)^(1/N), and sigma' = sigma * o / sum_{i=1..N} sum_{k=0..i-1} C(i-1, k)
    (-1)^k o'^(k+1) / sqrt(k+1).
    """
    o = opacities.double()
    n = copies.clamp(1, MAX_COPIES)
    new = 1 - (1 - o) ** (1 / n.double())
    total = torch.zeros_like(o)
    k = torch.arange(MAX_COPIES, dtype=torch.float64, device=o.device)
    for i in range(1, int(n.max()) + 1):
        choose = torch.tensor([math.comb(i - 1, j) for j in range(i)], dtype=torch.float64, device=o.device)
        terms = choose * (-1.0) ** k[:i] * new[:, None] ** (k[:i] + 1) / (k[:i] + 1).sqrt()
        total += torch.where(n >= i, terms.sum(1), torch.zeros_like(o))
    new = new.clamp(min_opacity, 1 - 1e-6)
    return torch.logit(new).to(opacities), log_scales + torch.log(o / total)[:, None].to(log_scales)


def _sample(opacities: Float[Tensor, "n"], number: int, generator: torch.Generator) -> Int[Tensor, "m"]:
    """Row indices sampled with replacement, in proportion to opacity. Reproducible, and without the limit of 2^24
    classes of torch.multinomial."""
    total = opacities.double().cumsum(0)
    u = torch.rand(number, generator=generator, dtype=torch.float64).to(total.device) * total[-1]
    return torch.searchsorted(total, u, right=True).clamp_max(len(opacities) - 1)


def _multiply(
    gaussians: Gaussians, sources: Int[Tensor, "m"], min_opacity: float
) -> tuple[Int[Tensor, "s"], Gaussians, Gaussians]:
    """The distinct source rows, their new values, and the values of the m copies."""
    unique, which, times = sources.unique(return_inverse=True, return_counts=True)
    old = gaussians[unique]
    logits, log_scales = _shared(old.opacities, old.log_scales, times + 1, min_opacity)
    shared = Gaussians(old.means, old.quats_wxyz, log_scales, logits, old.sh)
    return unique, shared, shared[which]


def relocate(model: Parameterization, min_opacity: float, generator: torch.Generator) -> int:
    """Relocate Gaussians of low opacity onto others, and share their opacity. Returns how many."""
    gaussians = model.gaussians()
    opacities = gaussians.opacities
    dead = (~(opacities > min_opacity)).nonzero()[:, 0]  # a value that is not a number is dead
    alive = (opacities > min_opacity).nonzero()[:, 0]
    if len(dead) == 0 or len(alive) == 0:
        return 0
    sources = alive[_sample(opacities[alive], len(dead), generator)]
    unique, shared, copies = _multiply(gaussians, sources, min_opacity)
    model.assign(torch.cat([unique, dead]), Gaussians.cat([shared, copies]), torch.cat([unique, sources]))
    return len(dead)


def add_new_gaussians(model: Parameterization, number: int, min_opacity: float, generator: torch.Generator) -> int:
    """Add `number` Gaussians on top of others, and share their opacity."""
    gaussians = model.gaussians()
    if number <= 0 or len(gaussians) == 0:
        return 0
    sources = _sample(gaussians.opacities.clamp_min(1e-6), number, generator)
    unique, shared, copies = _multiply(gaussians, sources, min_opacity)
    everything = torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
    model.assign(unique, shared)
    model.edit(everything, copies, sources)
    return number


FAINT_LOGIT = math.log(0.1 / 0.9)


def add_position_noise(
    model: Parameterization,
    strength: float,
    generator: torch.Generator,
    on_device: torch.Generator | None = None,
) -> None:
    """Add noise to positions: strength * sigmoid(-100 (o - 0.005)) * Sigma eps, eps standard normal (equation 8).

    Above an opacity of 0.1 the factor is below 1e-4 and the row is skipped. On a GPU, `on_device` is a generator there,
    which is reseeded from `generator`.
    """
    gaussians = model.gaussians()
    if devices.is_asynchronous(gaussians.means.device):
        on_device = torch.Generator(gaussians.means.device) if on_device is None else on_device
        _restart(on_device, generator)
        model.shift(None, means=_noise_of_all(gaussians, strength, on_device))
        return
    ids = (gaussians.logit_opacities < FAINT_LOGIT).nonzero()[:, 0]
    if len(ids) == 0:
        return
    rows = gaussians[ids]
    model.shift(ids, means=_noise(rows, torch.randn(len(ids), 3, generator=generator).to(rows.means), strength))


def _restart(on_device: torch.Generator, generator: torch.Generator) -> None:
    on_device.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))


def _noise_of_all(gaussians: Gaussians, strength: float | Tensor, on_device: torch.Generator) -> Float[Tensor, "n 3"]:
    """Noise for every row, generated on the device: selecting rows there would block."""
    means = gaussians.means
    noise = _noise(gaussians, torch.randn(means.shape, generator=on_device, device=means.device), strength)
    return noise.where((gaussians.logit_opacities < FAINT_LOGIT)[:, None], torch.zeros_like(noise))


def _noise(rows: Gaussians, normal: Float[Tensor, "n 3"], strength: float | Tensor) -> Float[Tensor, "n 3"]:
    factor = torch.sigmoid(-100 * (rows.opacities - 0.005)) * strength
    turn = matrix_from_quat(rows.quats_wxyz)
    local = torch.einsum("nji,nj->ni", turn, normal) * rows.log_scales.mul(2).exp()
    return torch.einsum("nij,nj->ni", turn, local) * factor[:, None]
