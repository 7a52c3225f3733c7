"""The train stage: what it makes of settings, photos and a method, and how it goes on."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import oracles
import pytest
import together
import torch
from noting import Noting
from PIL import Image

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.process_group import ALONE, ProcessGroup
from splat.core.schedules import Background, LearningRates, Schedules
from splat.core.slots import Budget, Init, Item, Phase, RasterSettings, Silent
from splat.losses import Losses
from splat.native import build
from splat.raster import choose
from splat.raster.native import Native
from splat.run.folder import RunFolder
from splat.run.trained import Trained, load_trained
from splat.stages import train as stage
from splat.stages.context import Context
from splat.train.density import DENSITIES, MCMCDensity
from splat.train.density.near_camera import NearCamera
from splat.train.loop import TrainSettings
from splat.train.models.view_model import ViewSettings
from splat.train.settings import Training, photo_phase
from splat.train.views import load_views

CAMERA = Camera(42.0, 42.0, 24.0, 18.0, 48, 36)


@dataclass(frozen=True)
class Plain:
    """A method that takes the phase it is offered, whole or in parts."""

    name: ClassVar[str] = "plain"
    summary: ClassVar[str] = ""
    lengths: tuple[float, ...] = (1.0,)
    """Of its phases, fractions of the steps."""

    def unavailable(self) -> str | None:
        return None

    def check(self) -> None: ...

    def defaults(self, preset: str) -> Mapping[str, Any]:
        return {}

    def max_gaussians(self, capture: Capture) -> int | None:
        return None

    def matching(self) -> None:
        return None

    def training_weights(self) -> str:
        return ""

    def initializer(self, capture: Capture, plan: Any = None) -> Any:
        raise NotImplementedError

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        assert all(v.role == "train" for v in capture.views)
        first = 0
        made = []
        for i, part in enumerate(self.lengths):
            last = i == len(self.lengths) - 1
            steps = budget.steps - first if last else round(part * budget.steps)
            made.append(replace(budget.photo_phase, steps=steps, name=f"part {i}"))
            first += steps
        return tuple(made)


def truth() -> Gaussians:
    return oracles.random_gaussians(60, torch.Generator().manual_seed(5), sh_degree=0, dtype=torch.float32)


def capture(folder: Path, source: str = "", alpha: bool = False) -> Capture:
    """Six photos in a folder, one of them held out, and sparse points."""
    views = []
    for i in range(6):
        eye = torch.tensor([4 * math.cos(0.4 * i), 4 * math.sin(0.4 * i), 0.5])
        pose = Rigid.look_at(eye, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
        with torch.no_grad():
            drawn = choose("cpu")(truth(), CAMERA, pose.inverse().matrix().float(), torch.zeros(3), RasterSettings())
        rgb = (drawn.rgb.clamp(0, 1) * 255 + 0.5).byte().numpy()
        rgba = np.concatenate([rgb, np.full((36, 48, 1), 200, np.uint8)], 2)
        path = folder / f"{'rgba' if alpha else 'rgb'}{i}.png"
        Image.fromarray(rgba if alpha else rgb).save(path)
        views.append(View(f"{i}.png", path, (48, 36), CAMERA, pose, "test" if i == 2 else "train"))
    points = truth().means
    return Capture(tuple(views), PointCloud(points, torch.full_like(points, 0.5)), source=source)


def init() -> Init:
    generator = torch.Generator().manual_seed(3)
    disturbed = truth().map(lambda t: t + 0.05 * torch.randn(t.shape, generator=generator))
    return Init(disturbed.with_sh_degree(1))


def context(folder: Path, group: ProcessGroup = ALONE) -> Context:
    """Of a run that has its first Gaussians."""
    run = RunFolder(folder)
    run.stage("init", "key of init", None, lambda folder: None, lambda folder: None)
    return Context(run, Noting(), torch.device("cpu"), choose("cpu"), RasterSettings(), 1, 0, group)


def trained(root: Path, steps: int = 20, method: Any = None, **other: Any) -> tuple[Trained, str, Context]:
    """What the stage makes, its identity, and what it reported to."""
    c = context(root / "run")
    made = stage.train(
        c,
        capture(root),
        init(),
        method=method or Plain(),
        training=other.pop("training", Training()),
        losses=Losses(),
        steps=steps,
        cap=80,
        **other,
    )
    c.run.close()
    return made, c.run.identity("train"), c


def other_folder(folder: Path) -> Path:
    (folder / "other").mkdir()
    return folder / "other"


def same(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_a_finished_stage_is_loaded_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    first, key, c = trained(tmp_path)
    assert first.steps == 20 and set(first.exposures) == {f"{i}.png" for i in (0, 1, 3, 4, 5)} and first.poses == {}
    assert c.report.lines[-1] == f"{len(first.gaussians)} Gaussians after 20 steps"
    again, same_key, c = trained(tmp_path)
    assert same(first.gaussians, again.gaussians) and key == same_key and len(c.report.lines) == 1
    assert all(torch.equal(first.exposures[n], again.exposures[n]) for n in first.exposures)
    longer, other_key, c = trained(tmp_path, 30)
    assert longer.steps == 30 and other_key == key and c.report.lines[0] == "Going on from step 20 of 30."


@pytest.mark.parametrize("method", [Plain((0.5, 0.5)), Plain((0.2, 0.8))])
def test_the_phases_are_those_of_the_method_which_is_part_of_the_key(tmp_path: Path, method: Plain) -> None:
    one, key, _ = trained(tmp_path)
    two, other, _ = trained(tmp_path, method=method)
    assert not same(one.gaussians, two.gaussians) and key != other and two.steps == 20
    assert [line["phase"] for line in two.history] == ["part 1"]


def test_held_out_photos_are_measured_on_the_way(tmp_path: Path) -> None:
    result, _, _ = trained(tmp_path, training=Training(evaluate_at=(0, 10, 20)))
    assert [row["step"] for row in result.timeline] == [0, 10, 20]
    assert result.timeline[2]["psnr"] > result.timeline[0]["psnr"]
    assert set(result.timeline[0]) == {"step", "psnr", "ssim", "gaussians", "seconds"}
    assert result.displacement is not None and result.displacement > 0
    assert load_trained(tmp_path / "run" / "train").timeline == result.timeline
    plain, _, _ = trained(other_folder(tmp_path))
    assert same(plain.gaussians, result.gaussians) and plain.displacement is None


def test_what_only_says_how_fast_or_when_does_not_change_the_key(tmp_path: Path) -> None:
    _, key, _ = trained(tmp_path)
    timing = Training(checkpoint_minutes=1.0, checkpoint_every=7, graph="off")
    assert trained(tmp_path, training=timing)[1] == key
    assert trained(other_folder(tmp_path), training=Training(rates=LearningRates(means=1e-4)))[1] != key


def test_a_job_travels_between_processes(tmp_path: Path) -> None:
    settings = TrainSettings(key="k")
    job = stage.Job(
        *(capture(tmp_path), init(), Plain((0.5, 0.5)), Training(density="mcmc"), Losses(), settings, RasterSettings()),
        *(80, 20, 1, torch.device("cpu"), Path("folder")),
    )
    there = pickle.loads(pickle.dumps(job))
    assert there.method == job.method and there.training == job.training and there.settings == settings
    assert same(there.init.gaussians, job.init.gaussians) and len(there.capture.views) == 6


def by(group: ProcessGroup, folder: str) -> Gaussians:
    """Trained by the processes of `group`, rank 0 of which has the run folder."""
    if group.rank > 0:
        stage.help_out(group)
        return init().gaussians
    result = stage.train(
        context(Path(folder) / "run", group),
        capture(Path(folder)),
        init(),
        method=Plain(),
        training=Training(evaluate_at=(4, 21), density="mcmc"),
        losses=Losses(),
        steps=21,
        cap=80,
    )
    group.broadcast(None)
    assert [row["step"] for row in result.timeline] == [4, 21] and result.steps == 21
    return result.gaussians


@pytest.mark.skipif(build.unavailable() is not None, reason="no compiled kernels")
def test_two_processes_share_the_photos_of_a_run(tmp_path: Path) -> None:
    found, _ = together.run(2, by, tmp_path, str(tmp_path))
    with torch.no_grad():
        view = capture(tmp_path).views[2]
        pose = view.world_from_cam.inverse().matrix().float()
        errors = [
            float((Native()(g, CAMERA, pose, torch.zeros(3), RasterSettings()).rgb - true).square().mean())
            for true in (Native()(truth(), CAMERA, pose, torch.zeros(3), RasterSettings()).rgb,)
            for g in (found, init().gaussians)
        ]
    assert errors[0] < 0.7 * errors[1]


# ---------------------------------------------------------------------------------------------------------- settings


def test_photos_and_choices_change_what_was_not_said(tmp_path: Path) -> None:
    plain = Training()
    assert stage.fitted_to(plain, capture(tmp_path)) == plain
    assert not stage.fitted_to(plain, capture(tmp_path, "blender")).views.exposure
    assert stage.fitted_to(plain, capture(tmp_path, "blender"), {"train.views.exposure"}).views.exposure
    assert stage.fitted_to(plain, capture(tmp_path, alpha=True)).background.rgb == (1.0, 1.0, 1.0)
    chosen = Training(background=Background("fixed"))
    assert stage.fitted_to(chosen, capture(tmp_path, alpha=True)) == chosen
    losses = Losses()
    assert stage.with_mcmc_regularizers(losses, plain) == losses
    mcmc = stage.with_mcmc_regularizers(losses, Training(density="mcmc"))
    assert (mcmc.opacity, mcmc.scale) == (0.01, 0.01)
    own = Losses(scale=0.5)
    assert stage.with_mcmc_regularizers(own, Training(density="mcmc")) == own


@pytest.mark.parametrize("name", DENSITIES)
def test_every_density_control_is_a_field_of_the_settings_and_takes_the_cap(name: str) -> None:
    training = Training(density=name)
    assert isinstance(getattr(training, name), DENSITIES[name])
    chosen = training.chosen_density(321)
    assert isinstance(chosen, DENSITIES[name]) and getattr(chosen, "cap", 321) == 321


def test_the_photo_phase_is_what_the_settings_say(tmp_path: Path) -> None:
    views = capture(tmp_path).training().views
    photos, centres = load_views(views), torch.stack([v.world_from_cam.translation for v in views])
    training = Training(density="mcmc", near_camera=0.5, views=ViewSettings(poses=True))
    nearest = torch.arange(5.0)
    phase = photo_phase(
        training, Losses(), photos, 70, 90, RasterSettings("antialiased"), centres=centres, nearest=nearest
    )
    assert phase.steps == 70 and phase.schedules == Schedules()
    assert phase.raster == RasterSettings("antialiased", min_transmittance=1 / 255)
    assert isinstance(phase.density, NearCamera) and phase.density.density == MCMCDensity(cap=90)
    assert torch.equal(phase.density.radii, 0.5 * nearest)
    assert isinstance(next(phase.source.items(0, 70)), Item)
    assert photo_phase(training, Losses(), photos, 70, 90, RasterSettings()).density == MCMCDensity(cap=90)
    names = {f.name for f in fields(Training)}
    assert {"rates", "sh", "decay", "dropout", "background", "resolution"} <= names


def test_steps_are_shared_by_processes() -> None:
    assert stage.batch_steps(100, 3) == 34 and stage.batch_steps(100, 1) == 100


# ------------------------------------------------------------------------------------------------------ other processes


def test_what_goes_wrong_in_a_helping_process_is_said_by_it(monkeypatch) -> None:
    def broken(*arguments: Any) -> None:
        raise SplatError("the loss is not a number.")

    monkeypatch.setattr(stage, "optimize", broken)
    monkeypatch.setattr(ProcessGroup, "broadcast", lambda self, message: "a job")
    with pytest.raises(SplatError, match="process 1 of 2: the loss"):
        stage.help_out(ProcessGroup(1, 2))

    def gone(self: ProcessGroup, message: Any) -> Any:
        raise ConnectionError("rank 0 has ended.")

    monkeypatch.setattr(ProcessGroup, "broadcast", gone)
    stage.help_out(ProcessGroup(1, 2))


def test_plain_training_is_not_accelerated(tmp_path: Path) -> None:
    job = stage.Job(
        *(capture(tmp_path), init(), Plain(), Training(), Losses(), TrainSettings(), RasterSettings()),
        *(80, 20, 1, torch.device("cpu")),
    )
    assert stage._acceleration(job, ALONE, Silent()) is None
    fixed = replace(job, training=Training(capacity=1000))
    assert stage._acceleration(fixed, ALONE, Silent()).capacity == 1000
