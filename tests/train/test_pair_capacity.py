"""Training with a fixed capacity of pairs, on an emulated GPU (see `emulated`): it grows, and nothing waits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from emulated import OnGpu, gpu  # noqa: F401
from noting import Noting

from splat.core import devices
from splat.core.camera import Camera
from splat.core.schedules import ResolutionSchedule
from splat.core.slots import Init, Phase, Silent, Step
from splat.losses import Losses
from splat.native import build
from splat.raster.native import Native
from splat.train.accel import Acceleration
from splat.train.accel.pair_capacity import PairCapacity
from splat.train.density import MCMCDensity, NoDensity
from splat.train.density.mcmc import add_position_noise
from splat.train.loop import TrainSettings, train
from splat.train.loss_monitor import LossMonitor
from splat.train.models.free import FreeGaussians
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.views import PhotoSource

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


@pytest.fixture(autouse=True)
def far_away(monkeypatch):
    monkeypatch.setattr(devices, "is_asynchronous", lambda device: True)
    monkeypatch.setattr(PairCapacity, "READ_EVERY", 4)


def trained(world, steps: int, capacity: int | None, resolution: ResolutionSchedule | None = None):
    report = Noting()
    result = replace(world, raster=OnGpu()).train(
        steps,
        photos=world.photos(),
        report=report,
        losses=Losses(),
        resolution=resolution,
        acceleration=Acceleration(torch.device("cpu"), report, capacity),
    )
    return result.gaussians, [line for line in report.lines if "capacity grows" in line]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_enough_capacity_changes_nothing(world):
    counted, _ = trained(world, 6, None)
    fixed, lines = trained(world, 6, 5000)
    assert same(counted, fixed) and lines == []


def test_too_small_a_capacity_grows_to_half_as_much_again_as_was_needed(world):
    found, lines = trained(world, 6, 3)
    assert 1 <= len(lines) <= 2 and found.means.isfinite().all()
    words = lines[0].replace(":", "").split()
    step, capacity, needed = int(words[1]), int(words[5]), int(words[9])
    assert step == 0 and needed > 3 and capacity == round(1.5 * needed)


def test_an_overflow_is_answered_once():
    capacity, camera = PairCapacity(10), Camera(9.0, 9.0, 8.0, 8.0, 16, 16)
    capacity.record(torch.tensor([90], dtype=torch.int32))
    assert "100 were needed" in str(capacity.check(camera)) and capacity.capacity == 150
    for _ in range(9):  # of which some are read
        capacity.record(torch.zeros(1, dtype=torch.int32))
        assert capacity.check(camera) is None
    assert capacity.capacity == 150


def test_larger_photos_are_asked_about_at_once(world):
    """Twice the size has up to four times the pairs, which would be missing until the capacity is checked."""
    _, lines = trained(world, 8, 3, ResolutionSchedule(0.25, 0.5, 8, per_octave=1))
    steps = [int(line.split()[1].rstrip(":")) for line in lines]
    assert steps == [0, 2, 4], "where the size changes, two steps before it would be checked anyway"


def test_noise_that_waits_for_nothing_has_the_spread_of_the_formula(world, monkeypatch):
    g = world.truth
    g = replace(g, logit_opacities=torch.where(torch.arange(len(g)) % 2 == 0, -6.0, 1.0), log_scales=g.log_scales - 1)
    spread = []
    for waits in (False, True):
        monkeypatch.setattr(devices, "is_asynchronous", lambda device, waits=waits: waits)
        moved, generator = [], torch.Generator().manual_seed(0)
        for _ in range(300):
            model = FreeGaussians(g)
            add_position_noise(model, 5.0, generator)
            moved.append(model.gaussians().means - g.means)
        spread.append(torch.stack(moved).std(0))
        assert (spread[-1][1::2] == 0).all()
    assert torch.allclose(spread[0][::2], spread[1][::2], rtol=0.25) and (spread[1][::2] > 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("density", [NoDensity(), MCMCDensity(cap=40)])
def test_a_step_waits_for_no_number_of_torch(world, monkeypatch, density):
    """torch raises where it would wait (our kernels wait in splat_bin_count alone: see test_capacity)."""
    monkeypatch.setattr(PairCapacity, "READ_EVERY", 1000)
    monkeypatch.setattr(LossMonitor, "READ_EVERY", 1000)
    losses = Losses(opacity=0.01, scale=0.01)

    def watched(step: Step):
        torch.cuda.set_sync_debug_mode("error" if 3 <= step.number < 12 else "default")
        return losses(step)

    source = PhotoSource(world.photos(), seed=1, device="cuda")
    init = Init(world.start().gaussians.to("cuda"))
    settings, report = TrainSettings(scene_extent=4.0), Silent()
    acceleration = Acceleration(torch.device("cuda"), report, 100_000)
    view_model = ViewModel(len(world.poses), ViewSettings(exposure=True), device="cuda")
    phase = Phase(15, source, watched, density=density)
    try:
        train(init, (phase,), Native(), view_model, settings, report, acceleration=acceleration)
    finally:
        torch.cuda.set_sync_debug_mode("default")
