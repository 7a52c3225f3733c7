"""One file for any browser: what is inside it, and that it draws what our rasterizer draws, from the disk, offline."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import viewing
from PIL import Image

from splat.core.capture import Capture
from splat.core.geometry import Similarity
from splat.core.slots import Silent
from splat.export.deliverable import Scene, TrainedScene
from splat.export.html import HtmlDeliverable, packed, rounded
from splat.export.renders import render_frame
from splat.geometry import page


def scene(folder: Path, name: str = "sample", **about: Any) -> tuple[Scene, Any]:
    """A run's scene, as `splat export` hands it to deliverables, and the viewer's scene that it is made of."""
    shown = viewing.scene(folder, **about)
    capture = Capture(views=tuple(c.view for c in shown.cameras))
    trained = TrainedScene(
        root=folder,
        capture=capture,
        gaussians=shown.gaussians,
        raster=shown.rasterizer,
        device=torch.device("cpu"),
        background=torch.tensor(shown.background),
        file_from_world=Similarity.identity(),
    )
    return Scene(shown.gaussians, {}, trained=trained, name=name, settings=shown.settings), shown


def embedded(text: str) -> dict[str, Any]:
    return json.loads(re.search(r'id="embedded-scene">(.*?)</script>', text).group(1))  # type: ignore[union-attr]


def test_the_file_asks_for_nothing_and_has_the_licences(tmp_path: Path) -> None:
    given, _ = scene(tmp_path, name="</script><b>&\u2028")
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "views.json").write_text('{"test": [{"name": "photo 2.png", "psnr": 25.0}]}')
    path = tmp_path / "scene.html"
    assert HtmlDeliverable(photos=64).write(path, given, Silent()) == [path]
    text = path.read_text()
    shell = re.sub(r"<script.*?</script>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    assert not re.search(r"(src|href)=\"(?!data:|#)", shell) and "<b>&" not in shell
    assert text.count("<script") == text.count("</script>") == 3
    assert "default-src 'none'" in text and "http:" not in text.split("<style>")[0].split("-->")[1]
    assert all(word in text for word in ("Permission is hereby granted", "three.js authors"))
    about = embedded(text)
    assert about["name"] == "</script><b>&\u2028" and about["count"] == 500 and not about["editable"]
    assert [c["psnr"] for c in about["cameras"]] == [None, None, 25.0]
    assert all(c["photo"].startswith("data:image/jpeg;base64,") for c in about["cameras"])
    HtmlDeliverable(cameras=False).write(path, given, Silent())
    assert embedded(path.read_text())["cameras"] == []


def test_the_planes_are_those_of_the_viewer_rounded() -> None:
    g = viewing.gaussians(300)
    raw = gzip.decompress(packed(g))
    assert len(raw) == len(page.pack_splats(g)) and packed(g) == packed(g)
    near = rounded(g)
    assert torch.allclose(near.means, g.means, atol=2e-5) and torch.allclose(near.opacities, g.opacities, atol=3e-3)
    assert torch.allclose(near.sh, g.sh, atol=8e-3) and torch.allclose(near.log_scales, g.log_scales, atol=9e-3)
    assert len(packed(viewing.gaussians(3000))) / 3000 < 75, "bytes a Gaussian, of noise, which compresses worst"


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a file from the disk without a network; nothing may be asked for or go wrong."""
    context = chromium.new_context(viewport={"width": 320, "height": 240}, offline=True, reduced_motion="reduce")
    shown = context.new_page()
    wrong: list[str] = []
    shown.on("pageerror", lambda e: wrong.append(str(e)))
    shown.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    shown.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else wrong.append(r.url))

    def open_(path: Path) -> Any:
        shown.goto(path.as_uri())
        wait(shown, "Boolean(window.viewer && viewer.stage.mesh && !viewer.controls.flight)")
        return shown

    yield open_
    context.close()
    assert not wrong, wrong


def wait(shown: Any, expression: str, tries: int = 1200) -> None:
    for _ in range(tries):
        if shown.evaluate(expression):
            return
        shown.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def test_from_the_disk_and_offline_it_draws_what_our_rasterizer_draws(opened: Any, tmp_path: Path) -> None:
    given, shown = scene(tmp_path, count=700, scale=2)
    path = tmp_path / "scene.html"
    HtmlDeliverable(photos=160).write(path, given, Silent())
    browser = opened(path)
    assert browser.evaluate("viewer.cameras.list.length") == 3
    browser.evaluate("(viewer.visit(1, 1), document.body.classList.add('bare'))")
    wait(browser, "viewer.cameras.current === 1")
    before = browser.evaluate("viewer.stage.frames")
    wait(browser, f"(viewer.stage.wake(500), viewer.stage.frames > {before} + 5)")
    picture = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB")).astype(float)
    view = shown.cameras[1].view
    ours = render_frame(shown.gaussians, view.camera, view.pose, shown.rasterizer, shown.settings, shown.background).rgb
    assert 10 * math.log10(255**2 / np.mean((picture - ours) ** 2)) >= 35
    browser.evaluate("document.body.classList.remove('bare')")
    browser.evaluate("viewer.setView('split')")
    wait(browser, "document.querySelector('#compare .photo').naturalWidth === 160")
    browser.keyboard.press("Escape")
    browser.mouse.dblclick(160, 120)
    wait(browser, "viewer.cameras.current === -1 && !viewer.controls.flight")
    assert float(np.linalg.norm(browser.evaluate("viewer.controls.target.toArray()"))) < 1, "a click finds the surface"
    assert browser.is_hidden("#open-edit") and browser.is_hidden("#training")
