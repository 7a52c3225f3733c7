"""What a stage's result depends on is in its key: another value makes the stage again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planes
import pytest
import torch
from noting import Noting

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.slots import Init, PoseResult, RasterSettings, ReadOptions
from splat.losses import Losses
from splat.methods import Edgs, Points
from splat.poses.known import Known
from splat.priors import DepthAnything
from splat.priors.disk_lightglue import DiskLightGlue
from splat.raster import choose
from splat.run.folder import RunFolder
from splat.run.trained import Trained
from splat.stages import evaluate, init, train
from splat.stages import ingest as read
from splat.stages import poses as pose
from splat.stages.context import Context
from splat.stages.forecast import Limits
from splat.stages.priors import PriorSettings, depth_source
from splat.train.settings import Training

CAMERA = Camera(40.0, 40.0, 24.0, 18.0, 48, 36)


class KeyIs(Exception):
    """Ends a stage where its work would begin."""


class Keys(RunFolder):
    """A run folder that only hears which keys are asked for."""

    def __init__(self, root: Path, before: str) -> None:
        self.root, self.before, self.photos = root, before, None

    def identity(self, name: str) -> str:
        return self.before

    def stage(self, name: str, key: str, *rest: Any, **more: Any) -> Any:
        raise KeyIs(key)


@pytest.fixture
def key_of(tmp_path: Path) -> Callable[..., str]:
    """The key under which a stage, a function of a context, would keep its result."""

    def found(stage: Callable[[Context], object], before: str = "", **changes: Any) -> str:
        device = torch.device("cpu")
        context = Context(Keys(tmp_path / "run", before), Noting(), device, choose(device), RasterSettings(), 1)
        with pytest.raises(KeyIs) as stopped:
            stage(replace(context, **changes))
        return str(stopped.value)

    return found


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return planes.capture_of(planes.PlaneScene.make(), CAMERA, planes.walk(4), tmp_path_factory.mktemp("photos"))


def some_gaussians() -> Gaussians:
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1)
    return Gaussians(torch.eye(3), quats, torch.zeros(3, 3), torch.zeros(3), rgb_to_sh(torch.rand(3, 3)))


def all_differ(keys: list[str]) -> bool:
    return len(set(keys)) == len(keys)


def test_training_depends_on_its_losses_its_seed_and_all_else_that_changes_the_result(key_of, capture) -> None:
    def training(**changes: Any) -> Callable[[Context], object]:
        asked = {"method": Points(), "training": Training(), "losses": Losses(), "steps": 50, "cap": 80} | changes
        return lambda c: train.train(c, capture, Init(some_gaussians()), **asked)

    smaller = capture.resized(24)
    keys = [
        key_of(training()),
        key_of(training(), before="other Gaussians"),
        key_of(training(), seed=1),
        key_of(training(), settings=RasterSettings(mode="antialiased")),
        key_of(training(losses=Losses(dssim=0.4))),
        key_of(training(losses=Losses(opacity=0.1))),
        key_of(training(cap=81)),
        key_of(training(training=Training(density="mcmc"))),
        key_of(lambda c: train.train(c, smaller, Init(some_gaussians()), method=Points(), training=Training(),
                                     losses=Losses(), steps=50, cap=80)),
    ]  # fmt: skip
    assert all_differ(keys)
    assert key_of(training(steps=99)) == keys[0], "more steps go on"


def test_first_gaussians_depend_on_the_seed_and_the_cap(key_of, capture) -> None:
    def first(cap: int = 100, degree: int = 2) -> Callable[[Context], object]:
        return lambda c: init.init(c, capture, Points(), PriorSettings(), Limits("fast", 50, 48), cap, degree)

    assert all_differ([key_of(first()), key_of(first(), seed=1), key_of(first(cap=101)), key_of(first(degree=1))])


def test_first_gaussians_depend_on_depth_maps_by_what_they_hold(key_of, capture, tmp_path: Path) -> None:
    def first(folder: str, values: float, **kind: Any) -> Callable[[Context], object]:
        (tmp_path / folder).mkdir(exist_ok=True)
        for view in capture.views:
            np.save(tmp_path / folder / view.name.replace("png", "npy"), np.full((36, 48), values))
        depth = depth_source(tmp_path / folder, tmp_path, kind.get("kind", "auto"), DepthAnything(), capture)
        settings = PriorSettings(depth=depth)
        return lambda c: init.init(c, capture, Edgs(), settings, Limits("fast", 50, 48), 100, 2)

    keys = [key_of(first("a", 1.0)), key_of(first("a", 2.0)), key_of(first("a", 2.0, kind="depth"))]
    assert all_differ(keys) and key_of(first("b", 2.0)) == keys[1], "wherever they lie"


def test_poses_depend_on_how_photos_are_held_out(key_of, capture) -> None:
    def posing(heldout: str = "posed", seed: int = 0) -> Callable[[Context], object]:
        return lambda c: pose.poses(c, "photos", capture, Known(seed=seed), heldout)

    keys = [key_of(posing()), key_of(posing("strict")), key_of(posing(seed=1)), key_of(posing(), before="others")]
    assert all_differ(keys)


def test_figures_depend_on_how_photos_are_held_out_and_on_the_steps_trained(key_of, capture) -> None:
    def measuring(heldout: Any = "posed", steps: int = 50) -> Callable[[Context], object]:
        trained = Trained(some_gaussians(), {}, {}, torch.zeros(3), 1.0, steps, [])
        protocol = evaluate.Protocol(heldout)
        return lambda c: evaluate.evaluate(c, capture, PoseResult(capture), None, trained, protocol)

    assert all_differ([key_of(measuring()), key_of(measuring("strict")), key_of(measuring(steps=60))])


def test_a_capture_depends_on_its_files_and_on_which_of_them_are_held_out(key_of, capture, tmp_path: Path) -> None:
    folder = capture.views[0].image_path.parent
    other = planes.capture_of(planes.PlaneScene.make(10.0), CAMERA, planes.walk(4), tmp_path / "other")

    def reading(folder: Path, **options: Any) -> Callable[[Context], object]:
        return lambda c: read.ingest(c, folder, ReadOptions(**options))

    elsewhere = other.views[0].image_path.parent
    assert all_differ([key_of(reading(folder)), key_of(reading(folder, test_every=3)), key_of(reading(elsewhere))])


def test_poses_depend_on_a_matcher_that_was_installed_since(key_of, capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def posing(c: Context) -> object:
        return pose.poses(c, "photos", capture, Known(), "posed")

    monkeypatch.setattr(pose, "_matcher", lambda *a: None)
    without = key_of(posing)
    monkeypatch.setattr(pose, "_matcher", lambda *a: DiskLightGlue())
    assert key_of(posing) != without
