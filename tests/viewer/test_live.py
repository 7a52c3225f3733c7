"""A run that trains is watched, paused and ended from a browser, and is the same as one that is not watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import small
from viewing import Client, connected, gaussians, scene

from splat.core.errors import SplatError
from splat.core.gaussians import with_surroundings
from splat.core.slots import Control, Observer, Reporter, Silent, Snapshot
from splat.run.trained import load_trained
from splat.viewer import live, terminal
from splat.viewer.live import LiveView, Watched
from splat.viewer.server import Viewer
from splat.viewer.session import Steering

pytest.importorskip("websockets")


@contextmanager
def audience(monkeypatch: pytest.MonkeyPatch, visit: Callable[[Client], None]) -> Iterator[list[BaseException]]:
    """Let a browser `visit` every viewer that a run opens, from another thread. What goes wrong there is collected."""
    wrong: list[BaseException] = []
    threads: list[threading.Thread] = []
    start = Viewer.__init__

    def opened(self: Viewer, *arguments: Any, **named: Any) -> None:
        start(self, "127.0.0.1", 0)

        def go() -> None:
            try:
                with connected(self) as client:
                    visit(client)
            except BaseException as e:
                wrong.append(e)

        threads.append(threading.Thread(target=go, daemon=True))
        threads[-1].start()

    monkeypatch.setattr(Viewer, "__init__", opened)
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", 1.0)
    monkeypatch.setattr(terminal, "_PATIENCE", 0.2)
    yield wrong
    for thread in threads:
        thread.join(60)


def test_stop_and_keep_ends_training_and_the_same_command_goes_on(
    posed_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def visit(client: Client) -> None:
        while client.splats()[0] < 5:
            pass
        client.send({"kind": "steer", "action": "stop"})
        time.sleep(1)

    with audience(monkeypatch, visit) as wrong:
        metrics = small(posed_photos, tmp_path / "run", iterations=3000, view=True)()
    assert not wrong, wrong
    ended = load_trained(tmp_path / "run" / "train").steps
    assert 5 <= ended < 3000 and metrics["psnr"] is not None, "there is a whole result"
    small(posed_photos, tmp_path / "run", iterations=ended + 20)()
    assert load_trained(tmp_path / "run" / "train").steps == ended + 20


def test_pause_holds_training_only_while_somebody_watches(shown_viewer: Viewer) -> None:
    steering = shown_viewer.session.steering
    passed = threading.Event()

    def train() -> None:
        steering.wait(lambda: False)
        passed.set()

    with connected(shown_viewer) as client:
        client.next("hello")
        client.send({"kind": "steer", "action": "pause"})
        while not client.next("progress")["paused"]:
            pass
        threading.Thread(target=train, daemon=True).start()
        assert not passed.wait(0.2), "training is paused"
        client.send({"kind": "steer", "action": "resume"})
        assert passed.wait(2)
        passed.clear()
        client.send({"kind": "steer", "action": "pause"})
        while not steering.paused:
            time.sleep(0.01)
        threading.Thread(target=train, daemon=True).start()
        assert not passed.wait(0.2)
    assert passed.wait(5), "the browser is gone: training goes on"


def test_ctrl_c_ends_a_pause() -> None:
    steering = Steering()
    steering.watched_by(lambda: True)
    steering.paused = True
    started = time.monotonic()
    steering.wait(lambda: time.monotonic() - started > 0.1)
    assert time.monotonic() - started < 1


@pytest.fixture
def shown_viewer(tmp_path: Path) -> Iterator[Viewer]:
    with Viewer(port=0) as viewer:
        viewer.session.show(scene(tmp_path))
        yield viewer


def snapshot(step: int) -> Snapshot:
    return Snapshot(step, 100, "train", 50, {"loss": 0.1}, 1.0, 10.0, gaussians(50))


def test_nothing_is_copied_while_nobody_watches(shown_viewer: Viewer, tmp_path: Path) -> None:
    view = LiveView(shown_viewer, scene(tmp_path, saver=None, gaussians=None))
    assert not any(view.wants_gaussians(step, 100) for step in range(1, 100))
    assert view.wants_gaussians(100, 100), "but the last state is there for those who come late"
    with connected(shown_viewer) as client:
        client.next("hello")
        assert view.wants_gaussians(5, 100)
        view(snapshot(5))
        assert not view.wants_gaussians(6, 100), "seldom: at most every two seconds"


def test_what_surrounds_a_scene_in_training_is_told_from_it(shown_viewer: Viewer, tmp_path: Path) -> None:
    shell = gaussians(40)
    shell = replace(shell, means=shell.means / shell.means.norm(dim=1, keepdim=True))
    view = LiveView(shown_viewer, scene(tmp_path, saver=None, gaussians=None))
    with connected(shown_viewer) as client:
        client.next("hello")
        view(snapshot(0))
        assert shown_viewer.session.hello["surroundings"] is None, "there are none before the first step"
        view(replace(snapshot(1), gaussians=with_surroundings(gaussians(50), shell), num_surroundings=40))
        while (ball := client.next("hello")["surroundings"]) is None:
            pass
        assert 0.5 < ball["radius"] < 1.5


def test_they_are_what_the_loop_expects(shown_viewer: Viewer, tmp_path: Path) -> None:
    assert isinstance(LiveView(shown_viewer, scene(tmp_path)), Observer)
    assert isinstance(shown_viewer.session.steering, Control)
    assert isinstance(Watched(Silent(), shown_viewer), Reporter)


def test_progress_says_how_many_minutes_are_left(shown_viewer: Viewer) -> None:
    watched = Watched(Silent(), shown_viewer)
    watched.begin("train")
    watched.progress(100, 700, loss=0.2, rate=5.0)
    figures = shown_viewer.session.figures
    assert figures["stage"] == "train" and figures["minutes"] == pytest.approx(2.0) and figures["loss"] == 0.2


def test_several_processes_are_told_to_leave_it_out(posed_photos: Path, tmp_path: Path) -> None:
    from unittest.mock import patch

    from splat.commands import reconstruct

    class Two:
        world, rank = 2, 0

    @contextmanager
    def joined() -> Iterator[Any]:
        yield Two()

    with patch.object(reconstruct, "joined_group", joined), pytest.raises(SplatError, match="--view"):
        small(posed_photos, tmp_path / "run", view=True)()
    assert not (tmp_path / "run").exists()


def test_what_browsers_cost_makes_snapshots_rarer(tmp_path: Path) -> None:
    with Viewer(port=0) as viewer, connected(viewer) as client:
        shown = scene(tmp_path, saver=None)
        view = LiveView(viewer, replace(shown, gaussians=None))
        while not viewer.browsers:
            time.sleep(0.01)
        viewer.session.spend(1.0)
        assert view.wants_gaussians(0, 100)
        view(Snapshot(0, 100, "", 500, {}, 0.0, 1.0, shown.gaussians))
        assert 1 / live.SHARE - 5 < view._due - time.monotonic() < 1 / live.SHARE + 100
        client.splats()
        deadline = time.monotonic() + 20
        while viewer.session.spent() == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.monotonic() < deadline, "packing and sending are noted"
