"""Training that is watched in a viewer is the training that is not, bit for bit; it can be paused and ended."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from viewing import connected, scene

from splat.core.gaussians import Gaussians
from splat.viewer import live
from splat.viewer.live import LiveView
from splat.viewer.server import Viewer
from splat.viewer.session import Steering

from .conftest import World

pytest.importorskip("websockets")


def equal(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_a_browser_sees_growing_steps_and_changes_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", 1.0)
    alone = world.train(40).gaussians
    steps: list[int] = []
    with Viewer(port=0) as viewer:
        there = threading.Event()

        def visit() -> None:
            with connected(viewer) as client:
                there.set()
                while not steps or steps[-1] < 40:
                    steps.append(client.splats()[0])

        thread = threading.Thread(target=visit, daemon=True)
        thread.start()
        assert there.wait(10)
        watched = world.train(40, observers=(LiveView(viewer, scene(tmp_path, saver=None, gaussians=None)),)).gaussians
        thread.join(60)
    assert len(set(steps)) >= 3 and steps == sorted(steps) and steps[-1] == 40, steps
    assert equal(alone, watched)


def test_pictures_that_are_drawn_meanwhile_change_nothing(world: World) -> None:
    """The pool of the kernels belongs to one caller at a time: the other works alone, with the same result."""
    alone = world.train(30).gaussians
    over = threading.Event()
    pictures = []

    def draw() -> None:
        while not over.is_set():
            pictures.append(world.draw(world.truth, world.poses[0]))

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    meanwhile = world.train(30).gaussians
    over.set()
    thread.join(10)
    assert equal(alone, meanwhile)
    assert pictures and all(torch.equal(p, pictures[0]) for p in pictures)


def test_training_that_is_asked_to_end_keeps_what_there_is(world: World, tmp_path: Path) -> None:
    control = Steering()

    class After:
        def wants_gaussians(self, step: int, total: int) -> bool:
            return False

        def __call__(self, snapshot: object) -> None:
            control.ends = control.ends or snapshot.step >= 7  # type: ignore[attr-defined]

    ended = world.train(30, observers=(After(),), control=control, checkpoint_dir=tmp_path)
    assert ended.steps == 7
    went_on = world.train(30, checkpoint_dir=tmp_path)
    assert equal(went_on.gaussians, world.train(30).gaussians), "and goes on from there as if nothing had been"


def test_a_pause_does_not_count_as_training(world: World) -> None:
    class Paused:
        ends = False
        waited = 0.0

        def wait(self, stopped: object) -> None:
            time.sleep(0.02)
            self.waited += 0.02

    control = Paused()
    started = time.monotonic()
    result = world.train(20, control=control)
    assert control.waited == pytest.approx(0.4) and result.seconds <= time.monotonic() - started - 0.39
