"""Gaussians in reserve join where the error is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splat.core.slots import Init, Silent
from splat.train.loop import Phase, Trainer, TrainSettings
from splat.train.reserve import Reserve
from splat.train.view_model import ViewModel
from splat.train.views import PhotoSource


def l1(step):
    return (step.rgb - step.target).abs().mean(), {}


def trainer_of(world, missing: torch.Tensor, cap: int, rounds: int, checkpoint_dir=None) -> tuple[Trainer, Reserve]:
    """The world's truth without some of its Gaussians, which wait in reserve among copies of others."""
    truth = world.truth
    source = PhotoSource(world.photos(), 12)
    everywhere = torch.arange(len(truth))
    reserve = Reserve(Init(truth, everywhere % len(source)), source.finest_items(), cap, rounds)
    phase = Phase(12, source, l1, round_every=4, on_round=reserve, lr_scale=0.0)
    start = Init(truth[~missing])
    args = (world.raster, ViewModel(len(source)), TrainSettings(scene_extent=4.0), Silent())
    return Trainer(start, (phase,), *args, checkpoint_dir, None, None), reserve


def test_what_is_missing_is_added_before_what_is_there(world) -> None:
    n = len(world.truth)
    missing = torch.zeros(n, dtype=torch.bool)
    missing[::4] = True
    bright = world.truth.opacities > world.truth.opacities.median()
    trainer, reserve = trainer_of(world, missing & bright, n, 1)
    result = trainer.run()
    joined = ~reserve.waiting
    assert len(result.gaussians) <= n and bool(joined.any())
    wanted = (missing & bright)[joined].float().mean()
    assert float(wanted) > 2 * float((missing & bright).float().mean())


def test_the_cap_is_kept_and_rounds_share_the_room(world) -> None:
    n = len(world.truth)
    missing = torch.arange(n) % 2 == 0
    counts: list[int] = []
    trainer, reserve = trainer_of(world, missing, n - 4, 3)
    hook = trainer.phases[0].on_round
    assert hook is reserve
    trainer.phases = (
        replace(trainer.phases[0], on_round=lambda t: (hook(t), counts.append(len(t.model.gaussians(0))))),
    )
    trainer.run()
    first = int((~missing).sum())
    room = n - 4 - first
    assert counts[0] == first + room // 3 and counts[-1] == n - 4
    assert reserve.rounds == 0 and int((~reserve.waiting).sum()) == room


def test_nobody_joins_twice_and_what_joined_is_remembered(world) -> None:
    n = len(world.truth)
    trainer, reserve = trainer_of(world, torch.arange(n) % 2 == 0, 2 * n, 2)
    start = len(trainer.model.gaussians(0))
    result = trainer.run()
    assert len(result.gaussians) <= start + int((~reserve.waiting).sum()) <= n + start
    assert int((~reserve.waiting).sum()) == n, "there was room for all of them, once"
    state = reserve.state()
    other = Reserve(Init(reserve.candidates, reserve.view_ids), reserve.items, 2 * n, 2)
    other.load_state(state)
    assert torch.equal(other.waiting, reserve.waiting) and other.rounds == 0


def test_a_reserve_must_know_its_views(world) -> None:
    with pytest.raises(ValueError, match="which view"):
        Reserve(Init(world.truth), [], 10, 1)
