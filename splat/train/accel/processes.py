"""Training by several processes: sharding of photos, Gaussians and density control, and what is synchronized.

Each step takes one photo per process. A process renders its photo with the Gaussians of all processes
(`raster.distributed`) and updates its own shard. A step is thus that of a batch whose loss is the mean over its photos.
Regularizers are means over a process's own rows that may be visible in any of the photos.
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
    """A TargetSource with every world-th item of another one, which has the same state on all ranks."""

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
    """Every world-th Gaussian: neighbours are on different ranks, so that every photo is work for all ranks.

    Raises SplatError if there are fewer Gaussians than processes.
    """
    if group.world == 1:
        return init
    if len(init.gaussians) < group.world:
        raise SplatError(f"{len(init.gaussians)} first Gaussians cannot be divided among {group.world} processes.")
    ids = torch.arange(group.rank, len(init.gaussians), group.world)
    return init.rows(ids)


def shard_phase(phase: Phase, group: ProcessGroup) -> Phase:
    """The phase of one process. Each of its `steps` takes a photo per process."""
    rates = batch_rates(phase.schedules.rates, group.world)
    return replace(
        phase,
        source=LocalItems(phase.source, group),
        density=shard_density(phase.density, group.world),
        schedules=replace(phase.schedules, rates=rates),
    )


@runtime_checkable
class Shardable(Protocol):
    """Density settings that depend on the number of processes."""

    def shard(self, world: int) -> DensitySettings: ...


def shard_density(density: DensitySettings, world: int) -> DensitySettings:
    """The density settings for one shard."""
    return density.shard(world) if world > 1 and isinstance(density, Shardable) else density


def batch_rates(rates: LearningRates, photos: int) -> LearningRates:
    """Learning rates for a batch of `photos` photos per step, for `1 / photos` as many steps: times sqrt(photos), with
    betas to the power of `photos` (Grendel, Zhao et al. 2024, section 3.3).

    The length of an Adam step is the learning rate, whatever the gradient's. If the gradients of photos are
    independent, `photos` steps move a parameter by sqrt(photos) rates in the root mean square, and one step of this
    rate by the same. The moments decay as much per photo as before.
    """
    root = math.sqrt(photos)
    scaled = {name: root * getattr(rates, name) for name in _RATES}
    return replace(rates, beta1=rates.beta1**photos, beta2=rates.beta2**photos, **scaled)


_RATES = ("means", "means_final", "sh0", "sh_rest", "opacities", "scales", "quats")


class GroupExchange(Exchange):
    """Communication between the ranks within a step."""

    alone = False

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    def any(self, flag: bool) -> bool:
        return self.group.all_reduce(flag)[0] > 0

    def corrections(self, mine: ViewCorrection) -> list[ViewCorrection]:
        """The corrections of all ranks, in rank order: every rank applies the same updates to the photos of all."""
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
"""Column ranges of exposure and pose in an exchanged row: a flag whether there is a gradient, and the gradient."""


def _leaf(numbers: Tensor, device: torch.device) -> Tensor | None:
    """A leaf tensor with this gradient."""
    if numbers[0] == 0:
        return None
    leaf = torch.zeros(len(numbers) - 1, device=device, requires_grad=True)
    leaf.grad = numbers[1:].to(leaf)
    return leaf
