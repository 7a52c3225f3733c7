"""What training by several processes adds: whose photo, whose rows, and what all must agree on.

Each step takes as many photos as there are processes. A process draws one of them with the Gaussians of all
(`raster.distributed`) and moves its own share, so that Gaussians, moments and density control are divided, and a step
is that of a batch whose loss is the mean over its photos. Regularizers are means over a process's own rows, those that
any of the photos may show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.process_group import ProcessGroup
from splat.core.schedules import LearningRates
from splat.core.slots import DensitySettings, Init, Item, Phase, TargetSource
from splat.train.models.view_model import ViewCorrection
from splat.train.step import Exchange


@dataclass(frozen=True, eq=False)
class LocalItems:
    """A TargetSource that takes every world-th item of another, which all processes hold in the same state."""

    source: TargetSource
    group: ProcessGroup

    def items(self, step: int, steps: int) -> Iterator[Item]:
        batch = [item for _ in range(self.group.world) for item in self.source.items(step, steps)]
        mine = batch[self.group.rank :: self.group.world]
        yield from (replace(item, loss_weight=item.loss_weight / self.group.world) for item in mine)

    def state(self) -> dict[str, Any]:
        return self.source.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.source.load_state(state)


def shard_init(init: Init, group: ProcessGroup) -> Init:
    """Every world-th Gaussian: neighbours live apart, so that every photo is work for all.

    Raises SplatError when there are fewer than processes.
    """
    if group.world == 1:
        return init
    if len(init.gaussians) < group.world:
        raise SplatError(f"{len(init.gaussians)} first Gaussians cannot be divided among {group.world} processes.")
    ids = torch.arange(group.rank, len(init.gaussians), group.world)
    return init.rows(ids)


def shard_phase(phase: Phase, group: ProcessGroup) -> Phase:
    """The phase of one process, whose `steps` take a photo for each process."""
    rates = batch_rates(phase.schedules.rates, group.world)
    return replace(
        phase,
        source=LocalItems(phase.source, group),
        density=shard_density(phase.density, group.world),
        schedules=replace(phase.schedules, rates=rates),
    )


@runtime_checkable
class Shardable(Protocol):
    """Density settings that can be those of one share of the Gaussians."""

    def shard(self, world: int) -> DensitySettings: ...


def shard_density(density: DensitySettings, world: int) -> DensitySettings:
    """The settings of one share's density control; as they are where they do not depend on the number of shares."""
    return density.shard(world) if world > 1 and isinstance(density, Shardable) else density


def batch_rates(rates: LearningRates, photos: int) -> LearningRates:
    """Rates of a step that takes several photos, after as many photos as one of each: sqrt(photos) times as long, with
    betas to the power of `photos` (Grendel, Zhao et al. 2024, section 3.3).

    Were gradients of photos independent, one such step would move a parameter as far, in the root mean square, as the
    steps it stands for: Adam's step has the length of the rate whatever the gradient's, and `photos` independent steps
    add up to sqrt(photos). Moments then decay as much with every photo as they did.
    """
    root = math.sqrt(photos)
    scaled = {name: root * getattr(rates, name) for name in _RATES}
    return replace(rates, beta1=rates.beta1**photos, beta2=rates.beta2**photos, **scaled)


_RATES = ("means", "means_final", "sh0", "sh_rest", "opacities", "scales", "quats")


class GroupExchange(Exchange):
    """What the processes tell each other within a step."""

    alone = False

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    def any(self, flag: bool) -> bool:
        return self.group.all_reduce(flag)[0] > 0

    def corrections(self, mine: ViewCorrection) -> list[ViewCorrection]:
        """In the order of the ranks: every process learns the same about each photo, whoever drew it."""
        item, numbers = mine.item, torch.zeros(_PLACES[-1][1], dtype=torch.float64)
        numbers[0] = -1 if item.view_id is None else item.view_id
        for leaf, (begin, end) in zip((mine.exposure, mine.pose), _PLACES, strict=True):
            if leaf is not None and leaf.grad is not None:
                numbers[begin] = 1
                numbers[begin + 1 : end] = leaf.grad
        device = item.cam_from_world.device
        table = self.group.all_gather(numbers.to(device)).cpu()
        return [
            ViewCorrection(
                replace(item, view_id=None if row[0] < 0 else int(row[0])),
                *(_leaf(row[begin:end], device) for begin, end in _PLACES),
            )
            for row in table
        ]


_PLACES = ((1, 14), (14, 21))
"""Of exposure and pose in a row that travels: whether there is a gradient, and the gradient."""


def _leaf(numbers: Tensor, device: torch.device) -> Tensor | None:
    """A stand-in that carries a gradient."""
    if numbers[0] == 0:
        return None
    leaf = torch.zeros(len(numbers) - 1, device=device, requires_grad=True)
    leaf.grad = numbers[1:].to(leaf)
    return leaf
