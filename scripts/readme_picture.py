"""The picture at the top of the README: the viewer in a browser, with the scene of `splat demo`.

    python scripts/readme_picture.py [--run RUN] [--out docs/viewer.jpg] [--photo 2] [--back 0.12] [--turn=-30,10]

Without a RUN, `splat demo` makes one first (some minutes). Needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from splat.__main__ import main as splat  # noqa: E402
from splat.run.completed import CompletedRun  # noqa: E402
from splat.stages.viewing import run_scene  # noqa: E402
from splat.viewer.server import Viewer  # noqa: E402

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SIZE = (1280, 760)
MAX_BYTES = 200_000


def picture(run: Path, photo: int, back: float, turn: tuple[float, float]) -> Image.Image:
    """The page at a photo's camera, then `back` (natural logarithm of the distance) and turned by a drag in px."""
    found = os.environ.get("SPLAT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, Viewer(port=0) as viewer:
        viewer.session.show(run_scene(CompletedRun.open(run)))
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, reduced_motion="reduce")
        page.goto(viewer.url)

        def until(expression: str, seconds: float = 180) -> None:
            end = time.monotonic() + seconds
            while not page.evaluate(expression):
                if time.monotonic() > end:
                    raise SystemExit(f"never true: {expression}")
                time.sleep(0.1)

        until("Boolean(window.viewer && viewer.stage.mesh && !viewer.controls.flight)")
        page.evaluate(f"viewer.visit({photo}, 1)")
        until(f"viewer.cameras.current === {photo}")
        page.evaluate(f"(viewer.controls.rotate({turn[0]}, {turn[1]}), viewer.controls.dolly({back}))")
        page.mouse.move(5, SIZE[1] - 5)
        until("viewer.exact.shown && viewer.exact.resting")
        time.sleep(1)
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    return shot


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "viewer.jpg")
    parser.add_argument("--photo", type=int, default=2)
    parser.add_argument("--back", type=float, default=0.12)
    parser.add_argument("--turn", default="-30,10")
    given = parser.parse_args()
    across, down = map(float, given.turn.split(","))
    with tempfile.TemporaryDirectory() as temporary:
        run = given.run or Path(temporary) / "demo"
        if given.run is None and splat(["demo", "--out", str(run)]) != 0:
            return 1
        shot = picture(run, given.photo, given.back, (across, down))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for quality in range(92, 40, -4):
        shot.save(given.out, quality=quality, optimize=True, progressive=True)
        if given.out.stat().st_size <= MAX_BYTES:
            break
    print(f"{given.out}: {given.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
