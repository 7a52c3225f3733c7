"""The page in a real browser: what it draws, and what clicks and keys do."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from viewing import pinhole, scene

from splat.core.gaussians import Gaussians, with_surroundings
from splat.core.geometry import Rigid
from splat.export.renders import render_frame
from splat.geometry.page import ball_within
from splat.train.surroundings import Shell
from splat.viewer.pictures import Painter
from splat.viewer.scene import Scene

Open = Callable[..., Any]


def screenshot(page: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.page.screenshot())).convert("RGB"))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * math.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


def rendered(shown: Scene, gaussians: Gaussians, index: int) -> np.ndarray:
    view = shown.cameras[index].view
    return render_frame(gaussians, view.camera, view.pose, shown.rasterizer, shown.settings, shown.background).rgb


def rectangle(page: Any, selector: str) -> list[float]:
    """left, top, right, bottom, px."""
    box = f"document.querySelector('{selector}').getBoundingClientRect()"
    return [float(v) for v in page.value(f"(r => [r.left, r.top, r.right, r.bottom])({box})")]


def surroundings(radius: float, count: int = 600) -> Gaussians:
    """A shell around the origin, each side of which has a colour of its own."""
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    return Shell(directions, torch.zeros(3), radius, torch.ones(1, count), (0.5 + 0.4 * directions)[None]).gaussians


def bare(page: Any, index: int) -> np.ndarray:
    """What the browser alone draws from a photo's camera, that fills the window."""
    page.value(f"(viewer.exact.enabled = false, viewer.exact.hide(), viewer.visit({index}, 1))")
    page.until(f"viewer.cameras.current === {index}")
    page.value("document.body.classList.add('bare')")
    page.settle()
    return screenshot(page)


def test_the_browser_draws_what_our_rasterizer_draws(opened: Open, tmp_path: Path) -> None:
    """The one test of the browser that always runs. Without the harmonics the picture would be another."""
    shown = scene(tmp_path, count=700, scale=2)
    page = opened(shown, 320, 240)
    assert shown.gaussians is not None
    picture = bare(page, 1)
    assert psnr(picture, rendered(shown, shown.gaussians, 1)) >= 35
    assert psnr(rendered(shown, shown.gaussians.with_sh_degree(0), 1), rendered(shown, shown.gaussians, 1)) < 30


@pytest.mark.slow
@pytest.mark.parametrize("change", ["antialiased", "white", "degree 1", "degree 0", "z up"])
def test_so_it_does_whatever_the_scene_says(opened: Open, tmp_path: Path, change: str) -> None:
    shown = scene(tmp_path, count=800, scale=3)
    assert shown.gaussians is not None
    if change == "antialiased":
        tiny = replace(shown.gaussians, log_scales=shown.gaussians.log_scales - 1.5)
        shown = replace(shown, gaussians=tiny, settings=replace(shown.settings, mode="antialiased"))
    if change == "white":
        shown = replace(shown, background=(1.0, 1.0, 1.0))
    if change.startswith("degree"):
        shown = replace(shown, gaussians=shown.gaussians.with_sh_degree(int(change[-1])))
    if change == "z up":
        shown = replace(shown, up=(0.0, 0.0, 1.0))
    page = opened(shown)
    for index in (0, 2):
        assert psnr(bare(page, index), rendered(shown, shown.gaussians, index)) >= 35


@pytest.mark.slow
def test_surroundings_are_not_shown_from_outside(opened: Open, tmp_path: Path) -> None:
    """From within they are behind the scene, in the browser and in the server's pictures; from outside both leave
    them out, and one who comes back sees them again."""
    shown = scene(tmp_path, count=700, scale=2)
    assert shown.gaussians is not None
    inside, far = shown.cameras[0].view, shown.cameras[1].view
    radius = 2 * float(inside.pose.translation.norm())
    far = replace(far, world_from_cam=Rigid(far.pose.rotation, 4 * far.pose.translation))
    shell = surroundings(radius)
    shown = replace(
        shown,
        gaussians=with_surroundings(shown.gaussians, shell),
        surroundings=ball_within(shell),
        cameras=(shown.cameras[0], replace(shown.cameras[1], view=far), *shown.cameras[2:]),
    )
    page = opened(shown, 320, 240)
    assert shown.gaussians is not None
    scene_alone = shown.gaussians[: -len(shell)]
    everything, alone = rendered(shown, shown.gaussians, 0), rendered(shown, scene_alone, 1)
    assert psnr(rendered(shown, scene_alone, 0), everything) < 20 > psnr(rendered(shown, shown.gaussians, 1), alone)
    for index, truth in ((0, everything), (1, alone), (0, everything)):
        bare(page, index)
        page.until(f"viewer.stage.mesh.numSplats === {len(scene_alone if index else shown.gaussians)}")
        page.settle()
        assert psnr(screenshot(page), truth) >= 35
        c = shown.cameras[index].view
        png = Painter(shown, shown.gaussians).png("colour", pinhole(c.pose, c.camera))
        assert psnr(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), truth) >= 60


@pytest.mark.slow
def test_the_exact_picture_fades_in_when_the_camera_rests(opened: Open, tmp_path: Path) -> None:
    shown = scene(tmp_path, count=800, scale=3)
    assert shown.gaussians is not None
    page = opened(shown)
    page.value("document.body.classList.add('bare')")
    page.until("viewer.exact.shown")
    time.sleep(0.5)
    assert psnr(screenshot(page), rendered(shown, shown.gaussians, 0)) >= 60
    page.page.mouse.move(240, 180)
    page.page.mouse.down()
    page.page.mouse.move(270, 190, steps=3)
    assert not page.value("viewer.exact.shown"), "and goes when it moves"
    page.page.mouse.up()
    page.until("viewer.exact.shown")


@pytest.mark.slow
def test_it_opens_upright_at_the_first_training_photo(opened: Open, tmp_path: Path) -> None:
    page = opened(scene(tmp_path), 1280, 800)
    assert page.value("viewer.cameras.current") == 0
    up = page.value(
        "new viewer.stage.camera.position.constructor(0,1,0).applyQuaternion(viewer.stage.camera.quaternion).y"
    )
    assert up > 0.95
    assert page.page.inner_text("#photo-name") == "photo 0.png"
    assert page.page.inner_text("#photo-figures") == "training photo"


@pytest.mark.slow
@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (0.0, 0.0, 1.0)])
def test_a_scene_without_cameras_opens_framed(opened: Open, tmp_path: Path, up: tuple[float, float, float]) -> None:
    page = opened(replace(scene(tmp_path, cameras=0), up=up), 640, 480)
    assert page.value("viewer.stage.camera.position.length()") < 3
    page.settle()
    picture = screenshot(page).max(2)[80:400] > 60
    rows, columns = np.nonzero(picture)
    assert 0.1 < picture.mean() < 0.9 and abs(columns.mean() - 320) < 40, (picture.mean(), rows.mean(), columns.mean())
    assert page.value("document.getElementById('toggle-cameras').hidden")


@pytest.mark.slow
def test_a_click_on_a_frustum_flies_to_its_photo(opened: Open, tmp_path: Path) -> None:
    page = opened(scene(tmp_path), 1280, 800)
    page.page.keyboard.press("f")
    page.until("!viewer.controls.flight && viewer.cameras.current === -1")
    page.value("viewer.controls.frame(viewer.controls.target, 4, viewer.stage.camera.position.clone())")
    page.until("!viewer.controls.flight")
    before = page.value("viewer.stage.camera.position.toArray()")
    at = page.value(
        "(() => { viewer.stage.project(); const c = viewer.cameras, s = viewer.stage;"
        "const p = s.screen(s.toThree(c.shapes[2][0])), q = s.screen(s.toThree(c.shapes[2][1]));"
        "return [(p.x + 2 * q.x) / 3, (p.y + 2 * q.y) / 3]; })()"
    )
    page.page.mouse.move(*at)
    page.until("!document.getElementById('tip').hidden")
    assert page.page.inner_text("#tip") == "photo 2.png · held out · 25.0 dB"
    page.page.mouse.click(*at)
    page.until("viewer.cameras.current === 2")
    pose = page.value("viewer.stage.pinhole().world_from_cam.map(row => row[3])")
    expected = scene(tmp_path).cameras[2].view.pose.translation.tolist()
    assert np.allclose(pose, expected, atol=1e-4) and not np.allclose(
        before, page.value("viewer.stage.camera.position.toArray()")
    )
    assert page.page.inner_text("#photo-figures") == "held out · 25.0 dB"


@pytest.mark.slow
def test_photo_and_render_are_compared(opened: Open, tmp_path: Path) -> None:
    page = opened(scene(tmp_path, scale=3), 640, 480)
    page.page.click("[data-view=photo]")
    page.until("document.querySelector('#compare .photo').complete")
    time.sleep(0.3)
    assert abs(int(screenshot(page)[240, 320].mean()) - 40) < 4, "the photo of camera 0 is grey 40"
    page.page.click("[data-view=split]")
    left, right = (
        float(v)
        for v in page.value(
            "(() => { const r = viewer.compare.box.getBoundingClientRect(); return [r.left, r.right]; })()"
        )
    )
    page.page.mouse.move((left + right) / 2, 240)
    page.page.mouse.down()
    page.page.mouse.move(left + 0.25 * (right - left), 240, steps=4)
    page.page.mouse.up()
    assert abs(page.value("viewer.compare.share") - 0.25) < 0.02
    page.page.click("[data-view=difference]")
    page.until("document.querySelector('#compare .difference').naturalWidth === 480")
    page.page.keyboard.press("]")
    page.until("viewer.cameras.current === 1")
    page.page.keyboard.press("[")
    page.until("viewer.cameras.current === 0")
    page.page.keyboard.press("Escape")
    assert page.value("viewer.cameras.current") == -1 and page.value("viewer.compare.box.hidden")


@pytest.mark.slow
def test_mouse_keys_and_double_click_move_the_camera(opened: Open, tmp_path: Path) -> None:
    page = opened(scene(tmp_path), 800, 600)
    where = "viewer.stage.camera.position.toArray()"

    def moved(act: Callable[[], None]) -> float:
        before = np.array(page.value(where))
        act()
        page.until("!viewer.controls.flight")
        return float(np.linalg.norm(np.array(page.value(where)) - before))

    def drag(button: str) -> None:
        page.page.mouse.move(400, 350)
        page.page.mouse.down(button=button)
        page.page.mouse.move(460, 380, steps=4)
        page.page.mouse.up(button=button)

    target = "viewer.controls.target.toArray()"
    before = page.value(target)
    assert moved(lambda: drag("left")) > 0.1 and page.value(target) == before, "orbit turns about its target"
    assert moved(lambda: drag("right")) > 0.02 and page.value(target) != before, "the right button shifts"
    assert moved(lambda: page.page.mouse.wheel(0, 200)) > 0.05
    page.page.keyboard.press("2")
    assert page.value("viewer.controls.mode") == "fly" and moved(lambda: drag("left")) < 1e-6, "fly looks around"
    for key in ("w", "a", "s", "d", "q", "e", "ArrowUp", "ArrowLeft"):

        def hold(key: str = key) -> None:
            start = json.dumps(page.value(where))
            page.page.keyboard.down(key)
            far = f"Math.hypot(...{where}.map((x, i) => x - {start}[i])) > 0.005"
            page.until(far)  # a busy machine draws a frame a second
            page.page.keyboard.up(key)

        assert moved(hold) > 0.005, key
    page.page.keyboard.press("1")
    page.page.keyboard.press("r")
    page.until("viewer.cameras.current === 0")
    page.page.mouse.dblclick(400, 300)
    page.until("viewer.cameras.current === -1 && !viewer.controls.flight")
    assert float(np.linalg.norm(page.value(target))) < 1, "the middle of the cloud is looked at"
    page.page.keyboard.press("h")
    assert not page.page.is_visible("#top")
    page.page.keyboard.press("h")
    page.page.keyboard.press("?")
    assert page.page.is_visible("#keys")
    page.page.keyboard.press("Escape")
    assert not page.page.is_visible("#keys")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["depth", "normal", "alpha", "support"])
def test_modes_show_pictures_of_the_server(opened: Open, tmp_path: Path, mode: str) -> None:
    page = opened(scene(tmp_path), 480, 360)
    page.page.select_option("#mode", mode)
    page.until("viewer.exact.shown && viewer.exact.resting")
    assert page.value("viewer.stage.covered"), "splats under it are not drawn"
    page.page.select_option("#mode", "ellipsoids")
    page.settle()
    assert not page.value("viewer.exact.shown || viewer.stage.covered")


@pytest.mark.slow
def test_crop_brush_cuts_and_undo(opened: Open, tmp_path: Path) -> None:
    shown = scene(tmp_path, count=1000)
    page = opened(shown, 1280, 800)
    page.page.click("#open-edit")
    page.page.click("button[data-tool=sphere]")
    page.value("viewer.tools.solid.scale.setScalar(0.35)")
    page.page.click("#keep-inside")
    page.until("viewer.scene.edited.operations.length === 1")
    assert shown.gaussians is not None
    edited = page.value("viewer.scene.edited")
    assert edited["kept"] < 900 and edited["total"] == 1000
    page.until(f"viewer.stage.mesh.extSplats.numSplats === {edited['kept']}")
    page.page.click("button[data-tool=brush]")
    page.page.mouse.move(600, 380)
    page.page.mouse.down()
    page.page.mouse.move(680, 420, steps=6)
    page.page.mouse.up()
    page.until("viewer.scene.edited.operations.length === 2")
    assert page.value("viewer.scene.edited.kept") < edited["kept"]
    page.page.fill("#opacity", "0.3")
    page.until("viewer.scene.edited.operations.length === 3")
    for left in (2, 1):
        page.page.keyboard.press("Control+z")
        page.until(f"viewer.scene.edited.operations.length === {left}")
    page.page.click("#clear")
    page.until("viewer.stage.mesh.extSplats.numSplats === 1000")
    page.page.click("#save")
    page.until("document.querySelectorAll('#notices a').length === 2")
    assert (tmp_path / "edited.ply").is_file()


@pytest.mark.slow
def test_what_photos_see_past_is_cut_and_comes_back(opened: Open, tmp_path: Path) -> None:
    shown = scene(tmp_path, count=1000, seen_past=lambda g: torch.linspace(0, 0.8, len(g)))
    page = opened(shown, 1280, 800)
    page.page.click("#open-edit")
    page.page.fill("#floaters", "1")
    page.until("viewer.scene.edited.operations.includes('floaters')")
    assert page.value("viewer.scene.edited.kept") == int((torch.linspace(0, 0.8, 1000) <= 0.05).sum())
    assert page.page.inner_text("#floaters-value") == "5 %"
    page.page.keyboard.press("Control+z")
    page.until("viewer.scene.edited.operations.length === 0")
    assert page.value("viewer.scene.edited.kept") == 1000 and page.page.inner_text("#floaters-value") == "off"
    page.viewer.session.show(replace(shown, seen_past=None, name="a file"))
    page.until("document.getElementById('floaters-row').hidden")


@pytest.mark.slow
def test_two_clicks_and_a_length_set_the_scale_and_three_the_ground(opened: Open, tmp_path: Path) -> None:
    page = opened(scene(tmp_path, count=1000), 1280, 800)
    page.page.click("#open-edit")
    page.page.click("button[data-tool=measure]")
    for i, (x, y) in enumerate([(560, 400), (720, 400)]):
        page.page.mouse.click(x, y)
        page.until(f"viewer.tools.points.length === {i + 1}")
        time.sleep(0.4)
    page.page.fill("#metres", "2.5")
    page.page.click("#apply-scale")
    page.until("viewer.scene.edited.operations.includes('scale')")
    page.page.click("button[data-tool=ground]")
    for i, (x, y) in enumerate([(580, 430), (700, 430), (640, 350)]):
        page.page.mouse.click(x, y)
        page.until(f"viewer.tools.points.length === {i + 1}")
        time.sleep(0.4)
    page.page.click("#apply-ground")
    page.until("viewer.scene.edited.operations.includes('ground')")
    scale = page.viewer.session.recipe.operations[0]
    assert scale.metres == 2.5 and 0.2 < math.dist(scale.a, scale.b) < 1.5


@pytest.mark.slow
def test_keyframes_are_previewed_and_written(opened: Open, tmp_path: Path) -> None:
    page = opened(scene(tmp_path), 1280, 800)
    for index in (0, 1, 2):
        page.value(f"viewer.visit({index}, 1)")
        page.until(f"viewer.cameras.current === {index}")
        page.page.keyboard.press("k")
    page.page.click("#open-path")
    assert page.value("document.querySelectorAll('#keyframes li').length") == 3
    page.page.fill("#seconds", "1")
    page.page.click("#preview")
    page.until("viewer.path.playing")
    page.until("!viewer.path.playing")
    end = page.value("viewer.stage.pinhole().world_from_cam.map(row => row[3])")
    assert np.allclose(end, scene(tmp_path).cameras[2].view.pose.translation.tolist(), atol=0.3)
    page.page.click("#render")
    page.until("document.querySelectorAll('#notices a').length === 1")
    assert (tmp_path / "path.txt").read_text() == "500 30 1280 30.0"


@pytest.mark.slow
def test_training_is_followed(opened: Open, tmp_path: Path) -> None:
    shown = scene(tmp_path, saver=None)
    page = opened(shown, 1280, 800)
    seen = []
    for step in (10, 20, 30):
        page.viewer.session.show(replace(shown, step=step))
        page.viewer.session.progress(stage="train", done=step, total=60, loss=1 / step, psnr=20.0, minutes=1.5)
        page.until(f"viewer.stage.step === {step}")
        seen.append(page.page.inner_text("#step"))
    assert seen == ["step 10 of 60", "step 20 of 60", "step 30 of 60"]
    assert page.page.inner_text("#loss") == "loss 0.0333" and page.page.inner_text("#minutes") == "2 min left"
    assert page.value("viewer.cameras.current") == 0, "snapshots leave the camera where it is"
    page.page.click("#pause")
    page.until("document.getElementById('pause').textContent === 'Resume'")
    assert page.viewer.session.steering.paused
    page.page.click("#pause")
    page.page.click("#stop")
    end = time.monotonic() + 5
    while not page.viewer.session.steering.ends and time.monotonic() < end:
        time.sleep(0.05)
    assert page.viewer.session.steering.ends and not page.viewer.session.steering.paused
    page.page.click("#open-edit")
    assert page.page.is_disabled("#save") and page.page.is_visible("#edit-hint")
    page.viewer.session.show(replace(scene(tmp_path), cameras=shown.cameras, step=60))
    page.until("!document.getElementById('edit-tools').disabled")
    assert not page.page.is_visible("#training")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "touch"), [(1280, 800, False), (390, 844, True)])
def test_nothing_overlaps_or_leaves_the_window(
    opened: Open, tmp_path: Path, screenshots: Path, width: int, height: int, touch: bool
) -> None:
    shown = scene(tmp_path, saver=None)
    page = opened(shown, width, height, touch)
    page.viewer.session.progress(stage="train", done=1234, total=6000, loss=0.0123, psnr=24.56, minutes=12.3)
    page.until("!document.getElementById('training').hidden")
    boxes = [rectangle(page, name) for name in ("#top", "#photo-bar", "#training", "#status")]
    for i, a in enumerate(boxes):
        assert a[0] >= 0 and a[1] >= 0 and a[2] <= width and a[3] <= height, a
        for b in boxes[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    small = page.value(
        "[...document.querySelectorAll('button, select')].filter(b => b.offsetParent && b.offsetHeight < 30).length"
    )
    cut = page.value(
        "[...document.querySelectorAll('.bar button')].filter(b => b.offsetParent && b.scrollWidth > b.clientWidth + 1)"
        ".map(b => b.id)"
    )
    assert small == 0 and cut == []
    page.settle()
    page.page.screenshot(path=screenshots / f"training_{width}.png")
    for panel in ("open-edit", "open-path", "help"):
        page.page.click(f"#{panel}")
        r = rectangle(page, ".panel:not([hidden])")
        assert r[0] >= 0 and r[1] >= 0 and r[2] <= width and r[3] <= height
        page.page.screenshot(path=screenshots / f"{panel}_{width}.png")
        page.page.click(f"#{panel}")


@pytest.mark.slow
def test_fingers_turn_zoom_and_fly(opened: Open, tmp_path: Path) -> None:
    page = opened(scene(tmp_path), 390, 844, True)
    session = page.page.context.new_cdp_session(page.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    where = "viewer.stage.camera.position.toArray()"
    start = np.array(page.value(where))
    touch("touchStart", (200, 400))
    for i in range(1, 6):
        touch("touchMove", (200 + 12 * i, 400))
    touch("touchEnd")
    turned = np.array(page.value(where))
    assert np.linalg.norm(turned - start) > 0.1
    distance = page.value("viewer.controls.distance()")
    touch("touchStart", (180, 400), (220, 400))
    for i in range(1, 8):
        touch("touchMove", (180 - 8 * i, 400), (220 + 8 * i, 400))
    touch("touchEnd")
    assert page.value("viewer.controls.distance()") < 0.8 * distance, "spreading two fingers comes nearer"
    page.page.tap("[data-motion=fly]")
    page.until("!document.getElementById('stick').hidden")
    before = np.array(page.value(where))
    box = page.page.locator("#stick").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch("touchStart", (x, y))
    touch("touchMove", (x, y - 40))
    time.sleep(0.6)
    touch("touchEnd")
    assert np.linalg.norm(np.array(page.value(where)) - before) > 0.02
