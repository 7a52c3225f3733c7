"""A real browser for the tests that need one: Chromium with software WebGL, driven by Playwright."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import viewing

from splat.viewer.scene import Scene
from splat.viewer.server import Viewer

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


class Page:
    """A page of the viewer in a browser, and the server behind it."""

    def __init__(self, viewer: Viewer, page: Any) -> None:
        self.viewer, self.page = viewer, page
        self.errors: list[str] = []
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def value(self, expression: str) -> Any:
        """Of JavaScript; `viewer` holds the parts of the page."""
        return self.page.evaluate(expression)

    def until(self, expression: str, seconds: float = 60.0) -> Any:
        """Wait for an expression to be true. (Playwright's own way needs eval, which the page forbids.)"""
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"never true: {expression}; {self.errors}"
            time.sleep(0.05)
        return found

    def open(self) -> None:
        self.page.goto(self.viewer.url)
        self.until("Boolean(window.viewer && viewer.stage.mesh && !viewer.controls.flight)")

    def settle(self) -> None:
        """Wait until splats have been drawn in the order of the present camera."""
        before = self.value("viewer.stage.frames")
        self.until(f"(viewer.stage.wake(500), viewer.stage.frames > {before} + 5)")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, or a skip that says what is missing: with SPLAT_REQUIRE_BROWSER=1, a failure."""
    try:
        from playwright import sync_api
    except ImportError:
        viewing.without_browser("needs Playwright: pip install playwright")
    found = os.environ.get("SPLAT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        viewing.without_browser("needs Chromium on PATH: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Page]]:
    """Opens a scene in a page: `opened(scene, width=..., height=..., touch=...)`. Nothing may go wrong in it."""
    with ExitStack() as stack:
        pages = []

        def open_(scene: Scene, width: int = 480, height: int = 360, touch: bool = False) -> Page:
            viewer = stack.enter_context(Viewer(port=0))
            viewer.session.show(scene)
            context = chromium.new_context(
                viewport={"width": width, "height": height}, has_touch=touch, is_mobile=touch, reduced_motion="reduce"
            )
            stack.callback(context.close)
            pages.append(Page(viewer, context.new_page()))
            pages[-1].open()
            return pages[-1]

        yield open_
        wrong = [e for page in pages for e in page.errors]
        assert not wrong, wrong


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where a person can look at what tests saw: the folder of SPLAT_SCREENSHOTS, or a temporary one."""
    folder = Path(os.environ.get("SPLAT_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
