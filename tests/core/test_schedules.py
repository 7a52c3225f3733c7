"""What changes while training runs."""

from __future__ import annotations

import math

import oracles
import pytest
import torch

from splat.core.schedules import (
    Background,
    Dropout,
    LearningRates,
    OpacityDecay,
    ResolutionSchedule,
    ShSchedule,
    log_linear,
)
from splat.core.slots import RasterSettings
from splat.raster import choose


def test_log_linear_is_halfway_at_the_geometric_mean() -> None:
    assert log_linear(1e-2, 1e-4, 0.5) == pytest.approx(1e-3)
    assert log_linear(1e-2, 1e-4, 2.0) == pytest.approx(1e-4)


def test_the_rate_of_positions_is_held_where_they_start_right() -> None:
    free, held = LearningRates(), LearningRates(means_hold=0.25)
    for progress in (0.0, 0.1, 0.25):
        assert held.at(progress, 2.0).means == free.at(0.25, 2.0).means < free.at(0.0, 2.0).means
    assert held.at(0.7, 2.0).means == free.at(0.7, 2.0).means


def test_resolution_doubles_from_the_start_and_never_goes_under_the_smallest_side() -> None:
    schedule = ResolutionSchedule(0.25, 0.3, 100, per_octave=1)
    assert schedule.factors() == (0.25, 0.5, 1.0)
    assert [schedule.level(p) for p in (0.0, 0.149, 0.151, 0.3, 1.0)] == [0, 0, 1, 2, 2]
    assert [schedule.factor_for(i, 160) for i in range(3)] == [0.625, 0.625, 1.0]
    assert schedule.factor_for(0, 60) == 1.0
    assert ResolutionSchedule(1.0).factors() == (1.0,) and ResolutionSchedule(1.0).level(0.0) == 0


def test_resolution_may_grow_in_smaller_steps() -> None:
    schedule = ResolutionSchedule(0.25, 0.6, 250, per_octave=2)
    assert schedule.factors() == pytest.approx((0.25, 0.5**1.5, 0.5, 0.5**0.5, 1.0))
    assert [schedule.level(p) for p in (0.0, 0.16, 0.31, 0.46, 0.6)] == [0, 1, 2, 3, 4]
    assert [schedule.factor_for(i, 400) for i in range(5)] == pytest.approx([0.625, 0.625, 0.625, 0.5**0.5, 1.0])


def test_harmonics_come_one_degree_at_a_time() -> None:
    assert [ShSchedule(0.1).degree(p, 2) for p in (0.0, 0.0999, 0.1, 0.2, 0.9)] == [0, 0, 1, 2, 2]
    assert ShSchedule(0.0).degree(0.0, 3) == 3


def test_unopposed_opacity_decays_to_the_stated_value() -> None:
    """EDGS: 0.99 every 10 steps until half of 30,000 takes 15 off the logit."""
    decay = OpacityDecay(0.99, 10 / 30_000, 0.5)
    total = sum(decay.amount(step, 30_000) for step in range(30_000))
    assert total == pytest.approx(1500 * math.log(0.99), rel=1e-9)
    for steps in (3_000, 6_000):  # whatever the length of the run
        assert sum(decay.amount(step, steps) for step in range(steps)) == pytest.approx(total, rel=1e-9)
    assert OpacityDecay().amount(9, 90) == 0.0


def test_dropout_keeps_the_expected_share_and_the_expected_opacity() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(20_000)
    dropout = Dropout(0.4)
    assert len(dropout.keep(ids, 0.5, generator)) == pytest.approx(16_000, rel=0.02)
    rows = oracles.random_gaussians(50, generator, dtype=torch.float32)
    rows.logit_opacities[:] -= 2
    assert torch.allclose(dropout.compensate(rows, 0.5).opacities, rows.opacities / 0.8, atol=1e-5)
    assert torch.equal(dropout.keep(ids, 0.0, generator), ids)


def test_dropout_of_isolated_gaussians_keeps_the_mean_image() -> None:
    generator = torch.Generator().manual_seed(2)
    camera, pose = oracles.random_camera(), oracles.random_pose(generator, torch.float32)
    scene = oracles.random_gaussians(4, generator, sh_degree=0, dtype=torch.float32)
    scene.logit_opacities[:] = -2.0
    raster, dropout = choose("cpu"), Dropout(0.5, ramp=False)

    def draw(rows):
        return raster(rows, camera, pose, torch.zeros(3), RasterSettings()).rgb

    images = []
    for _ in range(400):
        kept = dropout.keep(torch.arange(4), 0.3, generator)
        images.append(draw(dropout.compensate(scene[kept], 0.3)))
    mean, still = torch.stack(images).mean(0), draw(scene)
    assert float((mean - still).abs().mean()) < 0.1 * float(still.mean())


def test_backgrounds_are_random_where_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    white = Background("random-alpha", (1.0, 1.0, 1.0))
    assert white.colour(False, generator).tolist() == [1, 1, 1]
    assert not torch.equal(white.colour(True, generator), white.colour(True, generator))
    assert Background("fixed", (0.0, 0.5, 1.0)).colour(True, generator).tolist() == [0, 0.5, 1]
