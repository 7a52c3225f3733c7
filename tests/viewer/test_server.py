"""What a browser gets and what is done of what it asks, by clients without a screen."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from viewing import as_json, connected, gaussians, pinhole, poses, scene

from splat.export import load_splat
from splat.viewer import browser
from splat.viewer.edits import read_recipe
from splat.viewer.scene import Scene
from splat.viewer.server import Viewer

pytest.importorskip("websockets")

LOOK = {"kind": "look", "id": 5, "mode": "colour", "view": as_json(pinhole(poses(3)[1]))}
SPHERE = {"kind": "edit", "operation": {"kind": "sphere", "centre": [0, 0, 0], "radius": 0.4}}


@pytest.fixture
def shown(tmp_path: Path) -> Scene:
    return scene(tmp_path)


@pytest.fixture
def viewer(shown: Scene) -> Iterator[Viewer]:
    with Viewer(port=0) as running:
        running.session.show(shown)
        yield running


def test_a_browser_hears_of_the_scene_and_gets_all_of_it(viewer: Viewer) -> None:
    with connected(viewer) as client:
        hello = client.next("hello")
        assert hello["name"] == "sample" and len(hello["cameras"]) == 3
        step, count, planes = client.splats()
        assert (step, count, len(planes)) == (0, 500, 500 * 124)
        assert client.next("edited") == {"type": "edited", "operations": [], "kept": 500, "total": 500}


def test_pictures_come_back_with_their_number(viewer: Viewer) -> None:
    with connected(viewer) as client:
        client.send(LOOK)
        picture = client.next(2)
        assert struct.unpack_from("<2I", picture) == (2, 5) and picture[8:12] == b"\x89PNG"
        client.send({"kind": "pick", "id": 9, "view": LOOK["view"], "x": 80.5, "y": 60.5})
        picked = client.next("picked")
        assert picked["id"] == 9 and abs(picked["point"][2]) < 1
        client.send({"kind": "pick", "id": 10, "view": LOOK["view"], "x": -8, "y": 1e9})
        assert client.next("picked")["point"] is None
        client.send(LOOK | {"mode": "difference", "photo": 77})
        assert "no such photo" in client.next("notice")["text"]


@pytest.mark.parametrize(
    "bad",
    [
        *("{", b"\x00\x01", '{"kind": "look"}'),
        '{"kind": "edit", "operation": {"kind": "sphere", "centre": [0, 0, NaN], "radius": 1}}',
        '{"kind": "edit", "operation": {"kind": "sphere", "centre": [0, 0, 1e999], "radius": 1}}',
    ],
)
def test_a_malformed_message_closes_that_socket_and_no_other(viewer: Viewer, bad: str | bytes) -> None:
    with connected(viewer) as good, connected(viewer) as client:
        client.send(bad)
        assert client.closed() == 1007
        good.send(LOOK)
        assert good.next(2)


def test_so_does_an_oversized_one(viewer: Viewer) -> None:
    with connected(viewer) as client:
        client.send('{"kind": "save", "x": "' + "a" * 1_000_001 + '"}')
        assert client.closed() == 1009


def test_edits_are_undone(viewer: Viewer, shown: Scene) -> None:
    assert shown.gaussians is not None
    inside = shown.gaussians.means.norm(dim=1) <= 0.4
    with connected(viewer) as client:
        client.splats()
        client.next("edited")
        client.send(SPHERE)
        edited = client.next("edited")
        assert edited["operations"] == ["sphere"] and edited["kept"] == int(inside.sum()) < 500
        mask = client.next(3)
        bits = torch.tensor([mask[8 + i // 8] >> (i % 8) & 1 for i in range(500)], dtype=torch.bool)
        assert torch.equal(bits, inside)
        cut = {"kind": "edit", "operation": {"kind": "opacity", "min_opacity": 0.5}, "replace": True}
        client.send(cut)
        client.next("edited")
        client.send(cut | {"operation": {"kind": "opacity", "min_opacity": 0.2}})
        assert client.next("edited")["operations"] == ["sphere", "opacity"], "a slider that moves is one edit"
        client.send({"kind": "undo"})
        assert client.next("edited")["kept"] == edited["kept"]
        client.send({"kind": "undo", "all": True})
        assert client.next("edited")["kept"] == 500
        client.send({"kind": "edit", "operation": {"kind": "opacity", "min_opacity": 2}})
        assert "nothing would be left" in client.next("notice")["text"]


def test_pictures_show_what_edits_have_left(viewer: Viewer) -> None:
    with connected(viewer) as client:
        client.send(LOOK)
        before = client.next(2)
        client.send(SPHERE)
        client.next(3)
        client.send(LOOK)
        assert client.next(2) != before


def test_saving_writes_the_splat_and_a_recipe_that_makes_it_again(viewer: Viewer, shown: Scene, tmp_path: Path) -> None:
    with connected(viewer) as client:
        client.send(SPHERE)
        client.send({"kind": "edit", "operation": {"kind": "scale", "a": [0, 0, 0], "b": [1, 0, 0], "metres": 3}})
        client.send({"kind": "save"})
        saved = client.next("saved")
    assert [f["name"] for f in saved["files"]] == ["edited.ply", "edited.json"]
    recipe = read_recipe(tmp_path / "edited.json")
    assert [o.kind for o in recipe.operations] == ["sphere", "scale"]
    assert shown.gaussians is not None
    expected = 3 * shown.gaussians.means[shown.gaussians.means.norm(dim=1) <= 0.4]
    assert torch.allclose(load_splat(tmp_path / "edited.ply").means, expected, atol=1e-5)


def test_a_path_is_previewed_and_rendered(viewer: Viewer, tmp_path: Path) -> None:
    keys = [as_json(pinhole(p)) for p in poses(3)]
    path = {"kind": "path", "action": "preview", "keyframes": keys, "seconds": 2, "fps": 10}
    with connected(viewer) as client:
        client.send(path)
        preview = client.next("path")
        assert len(preview["poses"]) == 20 and len(preview["poses"][0]) == 12
        client.send(path | {"action": "render"})
        assert client.next("rendered")["done"] == 20
        assert client.next("saved")["files"][0]["name"] == "path.txt"
    assert (tmp_path / "path.txt").read_text() == "500 20 160 10.0"


def test_nothing_can_be_edited_while_training_changes_it(viewer: Viewer, shown: Scene) -> None:
    viewer.session.show(replace(shown, saver=None, name="training"))
    with connected(viewer) as client:
        assert not client.next("hello")["editable"]
        for message in (SPHERE, {"kind": "save"}, {"kind": "undo"}):
            client.send(message)
            assert "once training has ended" in client.next("notice")["text"]


def test_the_latest_snapshot_wins(viewer: Viewer, shown: Scene) -> None:
    with connected(viewer) as client:
        part = client.next(1)  # not yet said to be shown
        assert struct.unpack_from("<6I", part)[1] == 0
        for step in range(1, 50):
            viewer.session.show(replace(shown, step=step))
        client.send({"kind": "shown", "step": 0})
        assert client.splats()[0] == 49


def test_a_browser_that_hangs_is_dropped_and_holds_nobody_up(
    viewer: Viewer, shown: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "SEND_SECONDS", 0.5)
    big = replace(shown, gaussians=gaussians(60_000))
    hangs = threading.Event()

    def hang() -> None:
        import socket

        with socket.create_connection(("127.0.0.1", viewer.port), timeout=20) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lines = [
                f"GET /socket?token={viewer.access.token} HTTP/1.1",
                *(f"Host: 127.0.0.1:{viewer.port}", f"Origin: http://127.0.0.1:{viewer.port}"),
                *("Upgrade: websocket", "Connection: Upgrade"),
                *("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13", "", ""),
            ]
            s.sendall("\r\n".join(lines).encode())
            hangs.set()
            time.sleep(8)  # reads nothing

    viewer.session.show(big)
    threading.Thread(target=hang, daemon=True).start()
    assert hangs.wait(10)
    until = time.monotonic() + 10
    while viewer.browsers == 0 and time.monotonic() < until:
        time.sleep(0.01)
    with connected(viewer) as client:
        started = time.monotonic()
        for step in range(1, 4):
            viewer.session.show(replace(big, step=step))
        assert time.monotonic() - started < 0.5, "who shows waits for nobody"
        assert client.splats()[1] == 60_000, "and others are served meanwhile"
    while viewer.browsers and time.monotonic() < until:
        time.sleep(0.02)
    assert viewer.browsers == 0 and viewer.visits == 2


def test_a_browser_that_shows_nothing_is_dropped(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "SHOWN_SECONDS", 0.1)
    with connected(viewer) as client:
        client.next(1)
        for _ in range(3):
            time.sleep(0.1)
            viewer.session.progress(stage="train")
        assert client.closed() == 1006


def test_many_browsers_are_refused_one_by_one(viewer: Viewer) -> None:
    from contextlib import ExitStack

    from websockets.exceptions import InvalidStatus

    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(connected(viewer))
        with pytest.raises(InvalidStatus), connected(viewer):
            pass
