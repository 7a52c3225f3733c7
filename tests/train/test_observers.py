"""What watches training sees it, and changes nothing about it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splat.core.gaussians import Gaussians
from splat.core.schedules import Dropout, Schedules
from splat.core.slots import Observer, Silent, Snapshot, Step
from splat.train.density import DefaultDensity
from splat.train.loop import TrainSettings
from splat.train.observers import Evaluate, TrainingLog

ROOT = Path(__file__).resolve().parents[2]


def l1(step: Step):
    return (step.rgb - step.target).abs().mean(), {}


class Vandal:
    """Asks for the Gaussians after every step, and ruins what it gets."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def wants_gaussians(self, step: int, total: int) -> bool:
        return True

    def __call__(self, snapshot: Snapshot) -> None:
        assert snapshot.gaussians is not None
        self.seen.append(float(snapshot.gaussians.means.sum()))
        for field in vars(snapshot.gaussians).values():
            field.fill_(torch.nan)
        torch.rand(3)


class Slow:
    """Takes its time, now and then."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds, self.asked = seconds, 0

    def wants_gaussians(self, step: int, total: int) -> bool:
        return step % 7 == 0

    def __call__(self, snapshot: Snapshot) -> None:
        self.asked += snapshot.gaussians is not None
        time.sleep(self.seconds)


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def test_observers_change_nothing_and_see_the_same(world) -> None:
    density = DefaultDensity(cap=70, every=0.1, threshold=1e-6)
    schedules = Schedules(dropout=Dropout(0.2))
    alone = world.train(110, density=density, schedules=schedules).gaussians
    history = timeless(world.history)
    vandal, slow, other = Vandal(), Slow(), Vandal()
    watched = world.train(110, density=density, schedules=schedules, observers=(vandal, slow, other)).gaussians
    assert all(torch.equal(a, b) for a, b in zip(vars(alone).values(), vars(watched).values(), strict=True))
    assert history == timeless(world.history) and any("density" in line for line in history)
    assert len(vandal.seen) == 111 and vandal.seen == other.seen, "each has a copy of its own"
    assert all(torch.tensor(vandal.seen).isfinite()) and slow.asked == 16


def test_what_observers_take_does_not_count_as_training(world) -> None:
    class SlowEverywhere(Slow):
        def wants_gaussians(self, step: int, total: int) -> bool:
            return True

    started = time.monotonic()
    result = world.train(4, observers=(SlowEverywhere(0.2), Slow(0.2)))
    assert result.seconds < time.monotonic() - started - 1.9
    assert world.history[-1]["seconds"] <= result.seconds + 1e-3


def test_evaluation_sees_no_dropout_and_its_figures_are_logged(world) -> None:
    seen: list[int] = []

    def measure(step: int, gaussians: Gaussians) -> dict[str, Any]:
        seen.append(len(gaussians))
        return {"psnr": world.psnr(gaussians)}

    drawn: list[int] = []

    def losses(step: Step):
        drawn.append(len(step.gaussians))
        return l1(step)

    lines: list[dict[str, Any]] = []
    evaluate = Evaluate((0, 10, 20), measure, lines.append)
    world.train(20, schedules=Schedules(dropout=Dropout(0.5, ramp=False)), losses=losses, observers=(evaluate,))
    assert max(drawn) < 40 and seen == [40, 40, 40]
    assert [line["step"] for line in lines] == [0, 10, 20] and lines[-1]["evaluation"]["psnr"] > 15
    assert all(line["gaussians"] == 40 and line["seconds"] >= 0 for line in lines)


def test_the_log_has_a_line_every_so_often_and_where_rows_changed(world, monkeypatch) -> None:
    monkeypatch.setattr(TrainingLog, "EVERY", 20)
    shown = []

    class Shows(Silent):
        def progress(self, done: int, total: int, **figures: float | int | str) -> None:
            shown.append((done, total, figures["gaussians"]))

    world.train(70, density=DefaultDensity(cap=60, threshold=1e-6, start=0.0, stop=0.8), report=Shows())
    steps = [line["step"] for line in world.history]
    assert steps == [20, 40, 50, 60, 70]
    (changed,) = (line for line in world.history if "density" in line)
    assert changed["step"] == 50 and "split" in changed["density"] and "pruned" in changed["density"]
    assert list(changed)[:3] == ["step", "phase", "gaussians"] and {"loss", "l1"} <= set(changed)
    assert shown[-1] == (70, 70, world.history[-1]["gaussians"])


def test_a_log_goes_on_where_the_checkpoint_left_it(world, tmp_path: Path) -> None:
    def die(step: Step):
        if step.number == 120:
            raise KeyboardInterrupt
        return l1(step)

    settings = TrainSettings(scene_extent=4.0, checkpoint_every=75)
    with pytest.raises(KeyboardInterrupt):
        world.train(150, losses=die, settings=settings, checkpoint_dir=tmp_path)
    lines: list[dict[str, Any]] = []
    world.train(150, losses=l1, settings=settings, checkpoint_dir=tmp_path, log=lines.append)
    assert [line["step"] for line in world.history] == [50, 100, 150]
    assert [line["step"] for line in lines] == [100, 150]


def test_the_displacement_of_a_run_is_that_of_its_gaussians(world) -> None:
    start = world.start()
    assert world.train(5, init=start).displacement is None
    result = world.train(5, init=start, settings=replace(TrainSettings(scene_extent=4.0), track_displacement=True))
    moved = (result.gaussians.means - start.gaussians.means).norm(dim=1)
    assert result.displacement == pytest.approx(float(moved.median()), rel=1e-5)


def test_what_comes_with_training_are_observers() -> None:
    assert isinstance(TrainingLog(Silent()), Observer) and isinstance(Evaluate(()), Observer)


def test_plain_training_imports_no_acceleration() -> None:
    code = """
import sys, torch
from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import Init, Item, Phase, Silent
from splat.losses import Losses
from splat.raster.reference import Reference
from splat.train.density import DefaultDensity
from splat.train.loop import TrainSettings, train
from splat.train.models.view_model import ViewModel
from splat.train.observers import TrainingLog

class Source:
    def items(self, step, steps):
        yield Item(Camera(9.0, 9.0, 4.0, 4.0, 8, 8), torch.eye(4), torch.zeros(8, 8, 3, dtype=torch.uint8), view_id=0)
    def state(self):
        return {}
    def load_state(self, state): ...

ahead = torch.tensor([[0.0, 0.0, 3.0]]).repeat(5, 1) + 0.1 * torch.randn(5, 3)
quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(5, 1)
first = Gaussians(ahead, quats, torch.full((5, 3), -1.0), torch.zeros(5), torch.ones(5, 1, 3))
phase = Phase(3, Source(), Losses(), DefaultDensity(cap=9))
report = Silent()
train(Init(first), (phase,), Reference(), ViewModel(1), TrainSettings(), report, None, (TrainingLog(report),))
found = [name for name in sys.modules if name.startswith("splat.train.accel")]
assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
