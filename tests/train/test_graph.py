"""Steps that are recorded and replayed are steps: on an emulated GPU (see `emulated`), by a recorder that keeps a CUDA
graph's rules (see `recorder`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from emulated import OnGpu, gpu  # noqa: F401
from noting import Noting
from recorder import CpuRecorder, Refused, Tape, kept
from torch import Tensor

from splat.core import devices
from splat.core.schedules import (
    Background,
    Dropout,
    LearningRates,
    OpacityDecay,
    ResolutionSchedule,
    Schedules,
    ShSchedule,
)
from splat.core.slots import Init, Item, Phase
from splat.losses import Losses
from splat.native import bindings, build
from splat.raster.native import Native
from splat.train.accel import Acceleration
from splat.train.accel.pair_capacity import PairCapacity
from splat.train.density import DefaultDensity, MCMCDensity, NoDensity
from splat.train.density.near_camera import NearCamera
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.run import TrainingRun, TrainSettings
from splat.train.views import PhotoSource

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


@pytest.fixture(autouse=True)
def far_away(monkeypatch):
    """What the emulated GPU computes lies in the CPU's memory; asking for it counts as waiting all the same."""
    monkeypatch.setattr(devices, "is_asynchronous", lambda device: True)


def photos(world, alpha: bool = False, masked: bool = False) -> list[Any]:
    """Of cameras that differ, as the photos do."""
    made, noise = [], np.random.default_rng(0)
    for i, p in enumerate(world.photos([1.0, 0.8, 1.2, 0.9, 1.1, 1.0])):
        camera = replace(p.camera, fx=40.0 + i, fy=43.0 - i, cx=23.0 + 0.5 * i)
        h, w = p.photo.rgb.shape[:2]
        some = noise.integers(0, 256, (h, w), dtype=np.uint8)
        photo = replace(p.photo, alpha=some if alpha else None, weight=some // 64 * 64 if masked else None)
        made.append(replace(p, camera=camera, photo=photo))
    return made


def run_of(world, steps: int = 16, graph: str = "auto", **other: Any) -> TrainingRun:
    """Everything on that a recording allows, but for what `other` says."""
    schedules = Schedules(
        rates=other.pop("rates", LearningRates()),
        background=other.pop("background", Background("random")),
        opacity_decay=other.pop("decay", OpacityDecay()),
        dropout=other.pop("dropout", Dropout()),
        sh=other.pop("sh", ShSchedule(0.0)),
    )
    device = other.pop("device", "cpu")
    centres = torch.stack([-p[:3, :3].T @ p[:3, 3] for p in world.poses])
    views = ViewModel(6, ViewSettings(exposure=True, poses=True, poses_from=0.0), centres, 4.0, device)
    taken = photos(world, other.pop("alpha", False), other.pop("masked", False))
    source = other.pop("source", None) or PhotoSource(taken, other.pop("resolution", None), 1, device)
    losses, density = other.pop("losses", Losses(opacity=0.01, scale=0.01)), other.pop("density", NoDensity())
    phase = Phase(steps, source, losses, density, schedules)
    start = Init(world.start().gaussians.with_sh_degree(1).to(device))
    raster, report = other.pop("raster", OnGpu()), other.pop("report", Noting())
    acceleration = Acceleration(torch.device(device), report, other.pop("capacity", 4000), graph)  # type: ignore[arg-type]
    assert not other
    return TrainingRun(start, (phase,), raster, views, TrainSettings(scene_extent=4.0), report, acceleration)


def run(t: TrainingRun, steps: int, recorded: bool) -> tuple[list[Tensor], list[dict[str, float]], CpuRecorder]:
    """What is left after these steps, and the figures of each."""
    recorder = CpuRecorder(lambda: kept(t))
    t.execution.replays.recorder = recorder if recorded else None
    lines = []
    t.advance()
    for _ in range(steps):
        line = t.do_step()
        lines.append({k: v if isinstance(v, str) else float(v) for k, v in line.items()})
    pairs, rows = t.execution.pairs, t.model.rows
    lines.append({"psnr": t.read_losses(), "missing": float(pairs.missing), "capacity": float(pairs.capacity or 0)})
    counts = t.view_model.exposure.updates + t.view_model.poses.updates + [rows.updates]
    state = [x[: rows.count].clone() for store in (rows.values, rows.first) for x in store.values()]
    return [*state, *(x.clone() for x in kept(t)), torch.tensor(counts), t.generator.get_state()], lines, recorder


def assert_same(world, steps: int, **settings: Any) -> CpuRecorder:
    """Replayed steps leave, bit for bit, what eager ones do, and say the same."""
    state, lines, _ = run(run_of(world, max(steps, 16), **settings), steps, False)
    other, others, recorder = run(run_of(world, max(steps, 16), **settings), steps, True)
    assert repr(lines) == repr(others)  # NaN is NaN
    assert len(state) == len(other) and all(torch.equal(a, b) for a, b in zip(state, other, strict=True))
    return recorder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alpha": True, "masked": True, "background": Background("random-alpha")},
        {"density": MCMCDensity(cap=40, every=10.0), "rates": LearningRates(sh_rest_every=2)},
        {"density": DefaultDensity(cap=40, start=2.0, stop=2.0), "decay": OpacityDecay(0.99, 3 / 16, 1.0)},
        {"density": NearCamera(MCMCDensity(cap=40, every=10.0), torch.zeros(1, 3), torch.zeros(1)), "losses": Losses()},
    ],
    ids=["plain", "alpha", "mcmc", "default", "near camera"],
)
def test_replayed_steps_are_eager_steps(world, settings):
    """Photos, cameras, poses, rates, backgrounds and noise differ from step to step, and come from one recording."""
    recorder = assert_same(world, 14, **settings)
    kinds = 2 if "rates" in settings or "decay" in settings else 1
    assert len(recorder.tapes) == kinds
    assert recorder.replays >= 14 - 2 * kinds - 1  # all but warming up, and the first with statistics


@pytest.mark.parametrize(
    "density",
    [
        MCMCDensity(cap=46, every=0.1, start=0.0, full_at=1.0),
        DefaultDensity(cap=60, every=0.1, start=0.0),
        DefaultDensity(cap=60, every=0.1, start=0.0, stop=2.0, threshold=1e9),
    ],
    ids=["mcmc", "default", "none split"],
)
def test_rows_that_change_and_statistics_that_start_over_are_recorded_anew(world, monkeypatch, density):
    monkeypatch.setattr(type(density), "__call__", _every(density, 7))
    recorder = assert_same(world, 20, density=density)
    assert len(recorder.tapes) >= 2 and recorder.replays >= 6


def _every(density: Any, steps: int) -> Any:
    """The density control with a change every so many steps (as few as no setting allows)."""
    make = type(density).__call__

    def made(self, *arguments: Any) -> Any:
        control = make(self, *arguments)
        control.every = steps
        return control

    return made


def test_larger_photos_and_more_capacity_are_recorded_anew(world):
    """The first capacity is too small, and is known to be when a size is first drawn."""
    sizes = ResolutionSchedule(0.5, 0.5, 8, per_octave=1)
    recorder = assert_same(world, 16, capacity=3, resolution=sizes)
    assert len(recorder.tapes) == 2 and recorder.replays > 8


def test_a_capacity_that_grows_between_is_recorded_anew(world, monkeypatch):
    monkeypatch.setattr(PairCapacity, "READ_EVERY", 5)
    check = PairCapacity.check

    def not_at_once(self, camera):
        self.sizes.add((camera.width, camera.height))
        return check(self, camera)

    monkeypatch.setattr(PairCapacity, "check", not_at_once)
    recorder = assert_same(world, 12, capacity=3)
    assert len(recorder.tapes) == 2 and recorder.replays == 12 - 4


def test_harmonics_that_come_in_are_recorded_anew(world):
    recorder = assert_same(world, 16, sh=ShSchedule(0.5))
    assert len(recorder.tapes) == 2 and recorder.replays == 16 - 4


def test_a_loss_without_a_value_moves_nothing_and_spoils_nothing(world):
    class Sometimes(Losses):
        def __call__(self, step):
            total, figures = super().__call__(step)
            bad = step.target.mean() > 0.1  # which photos these are, only the device knows
            return total * torch.where(bad, torch.nan, 1.0), figures

    settings = {"losses": Sometimes(), "density": DefaultDensity(cap=40, start=2.0, stop=2.0)}
    bright = [float(p.photo.rgb.mean()) / 255 > 0.1 for p in photos(world)]
    assert sum(bright) > 0
    recorder = assert_same(world, 14, **settings)
    t = run_of(world, **settings)
    state, _, _ = run(t, 14, True)
    assert recorder.replays > 0 and t.report.warnings
    assert all(x.isfinite().all() for x in state if x.is_floating_point())


def test_a_single_pixel_without_a_value_reaches_no_parameter(world):
    """Its gradient is NaN in the pixels around it, where the loss's own weight cannot take it away."""

    class Hole(Losses):
        def __call__(self, step):
            image = step.image + torch.zeros_like(step.image).index_fill(0, torch.tensor([5]), torch.nan)
            return super().__call__(replace(step, image=image))

    for recorded in (False, True):
        t = run_of(world, losses=Hole(), density=DefaultDensity(cap=40, start=2.0, stop=2.0))
        t.model.use_sh_degree(1)
        start = [x.clone() for x in t.model.rows.values.values()]
        if recorded:
            Hole.replayable = False  # an index from the host
        state, _, _ = run(t, 5, recorded)
        assert all(x.isfinite().all() for x in state if x.is_floating_point())
        moved = [not torch.equal(a, b) for a, b in zip(start, t.model.rows.values.values(), strict=True)]
        assert not any(moved), "no gradient, no moments: nothing may move"


# --------------------------------------------------------------------------------------------- where it cannot be done


class Two:
    """A source of two items in each step."""

    def __init__(self, source: PhotoSource) -> None:
        self.source = source

    def items(self, step: int, steps: int) -> Iterator[Item]:
        for _ in range(2):
            yield from self.source.items(step, steps)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


class OtherRaster(OnGpu):
    replayable = False


def messages_of(t: TrainingRun) -> list[str]:
    run(t, 4, True)
    return [line for line in t.report.lines if "CUDA graph" in line]


def test_what_cannot_be_recorded_is_done_step_by_step_and_said_once(world):
    two = Two(PhotoSource(photos(world), seed=1))
    for word, settings in {
        "dropout": {"dropout": Dropout(0.3)},
        "several items": {"source": two},
        "these losses": {"losses": lambda step: ((step.rgb - step.target).abs().mean(), {})},
    }.items():
        lines = messages_of(run_of(world, **settings))
        assert len(lines) == 1 and word in lines[0]


@pytest.mark.parametrize(
    "word, settings", [("--train.capacity", {"capacity": None}), ("rasterizer", {"raster": OtherRaster()})]
)
def test_what_was_not_asked_for_is_said_only_when_it_was(world, word, settings):
    assert messages_of(run_of(world, **settings)) == []
    (line,) = messages_of(run_of(world, graph="on", **settings))
    assert word in line
    assert messages_of(run_of(world, graph="off", **settings)) == []


def test_off_records_nothing(world):
    _, _, recorder = run(run_of(world, graph="off"), 5, True)
    assert recorder.tapes == []


def test_a_recording_that_fails_is_a_step_all_the_same(world):
    class Failing(CpuRecorder):
        def record(self, work, generators):
            raise RuntimeError("operation not permitted when stream is capturing")

    t = run_of(world)
    expected, _, _ = run(run_of(world), 6, False)
    t.advance()
    t.execution.replays.recorder = Failing(lambda: ())
    for _ in range(6):
        t.do_step()
    assert all(torch.equal(a, b) for a, b in zip(expected, kept_of(t), strict=False))
    assert len(t.report.warnings) == 1 and "not permitted" in t.report.warnings[0]


def kept_of(t: TrainingRun) -> list[Tensor]:
    rows = t.model.rows
    return [x[: rows.count] for store in (rows.values, rows.first) for x in store.values()]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("density", [MCMCDensity(cap=40, every=10.0), DefaultDensity(cap=40, start=2.0, stop=2.0)])
def test_a_gpu_replays_what_it_would_do(world, density):
    left = []
    for graph in ("off", "on"):
        t = run_of(world, 20, graph=graph, density=density, device="cuda", raster=Native())
        t.advance()
        for _ in range(14):
            t.do_step()
        left.append([x.cpu() for x in kept(t)])
    assert t.execution.replays.replayed >= 10 and t.report.lines == []
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(*left, strict=True))


# -------------------------------------------------------------------------------------------------------- the recorder


@pytest.mark.parametrize(
    "work",
    [
        lambda x: float(x.sum()),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x.unique(),
        lambda x: x + torch.tensor([1.0, 2.0]),
        lambda x: torch.rand(3),
        lambda x: torch.randn(3, generator=torch.Generator()),
        lambda x: bindings.call("splat_measure_clock", torch.zeros(1, dtype=torch.float64)),
    ],
)
def test_the_recorder_refuses_what_a_gpu_cannot_record(work):
    with pytest.raises(Refused), Tape([]):
        work(torch.ones(2))


def test_a_tape_does_its_work_again_in_the_same_places():
    x, total, generator = torch.arange(4.0), torch.zeros(4), torch.Generator()
    tape = Tape([generator])
    with tape:
        y = (x * 2).reshape(2, 2).T.contiguous()
        total += y.flatten() + torch.zeros(4)
        noise = torch.rand(2, generator=generator)
    tape.spoil()
    total.zero_()
    x.copy_(torch.tensor([1.0, 0.0, 0.0, 5.0]))
    generator.manual_seed(3)
    tape.replay()
    tape.replay()
    assert y.tolist() == [[2, 0], [0, 10]] and total.tolist() == [4, 0, 0, 20]
    assert torch.equal(noise, torch.rand(4, generator=torch.Generator().manual_seed(3))[2:])
