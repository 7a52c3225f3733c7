"""What the viewer costs: frames per second and the first picture in a browser, and training that is watched.

    python scripts/bench_viewer.py browser [--counts 100000,1000000] [--size 1280x720]
    python scripts/bench_viewer.py training RUN [--iterations 1500] [--repeats 2] [--threads 1]

`browser` needs Chromium and Playwright; on a machine without a GPU it draws in software (SwiftShader), which is told.
`training` goes on from the poses of a finished RUN and trains alternately without and with a viewer whose one client
takes every snapshot as a browser does, in a process of its own, and draws nothing: a browser that draws in software
would take the cores that train, which says nothing about the snapshots. Numbers are kept in scripts/results/viewer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "scripts" / "results" / "viewer"
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SPIN = """async ([seconds, least, most]) => {
  const gl = viewer.stage.renderer.getContext(), pixel = new Uint8Array(4);
  const turned = async () => {
    viewer.controls.rotate(2, 0);
    await new Promise((resolve) => requestAnimationFrame(resolve));
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits until the frame is drawn, not only sent
    return performance.now() / 1000;
  };
  viewer.exact.enabled = false;
  let first = viewer.stage.frames, now = await turned();
  const limit = now + most;
  while (viewer.stage.frames === first && now < limit) now = await turned();  // the clock starts with a frame
  const start = now;
  first = viewer.stage.frames;
  let frames = 0, last = start;
  while (now < limit && (now - start < seconds || frames < least)) {
    now = await turned();
    if (viewer.stage.frames > first + frames) [frames, last] = [viewer.stage.frames - first, now];
  }
  return [frames, last - start];
}"""
MIN_FRAMES, MAX_SECONDS = 5, 120
"""Of the measurement: until so many frames are drawn, but no longer."""
RENDERER = """() => {
  const gl = document.createElement("canvas").getContext("webgl2");
  const about = gl.getExtension("WEBGL_debug_renderer_info");
  return gl.getParameter(about ? about.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
}"""


def ball(count: int) -> Any:
    """Gaussians of SH degree 3 in a ball, about as large as those of a trained scene of so many."""
    import torch

    from splat.core.gaussians import Gaussians

    g = torch.Generator().manual_seed(0)
    means = torch.randn(count, 3, generator=g) * 0.35
    scales = torch.log(torch.full((count, 3), 0.5 * count ** (-1 / 3))) + 0.3 * torch.randn(count, 3, generator=g)
    quats, logits = torch.randn(count, 4, generator=g), 1 + 2 * torch.randn(count, generator=g)
    return Gaussians(means, quats, scales - 1, logits, 0.3 * torch.randn(count, 16, 3, generator=g))


def in_browser(count: int, width: int, height: int) -> dict[str, Any]:
    """Frames per second while the camera orbits, and seconds from opening the link to the first picture."""
    from playwright.sync_api import sync_playwright

    from splat import raster
    from splat.viewer.scene import Scene
    from splat.viewer.server import Viewer

    found = os.environ.get("SPLAT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, Viewer(port=0) as viewer:
        viewer.session.show(Scene("ball", raster.choose("cpu"), ball(count)))
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        started = time.perf_counter()
        page.goto(viewer.url)
        while not page.evaluate("Boolean(window.viewer && viewer.stage.mesh && viewer.stage.frames > 2)"):
            time.sleep(0.02)
        first = time.perf_counter() - started
        page.evaluate(SPIN, [2, 1, MAX_SECONDS])  # sorted and compiled
        frames, seconds = page.evaluate(SPIN, [10, MIN_FRAMES, MAX_SECONDS])
        renderer = page.evaluate(RENDERER)
        browser.close()
    load = round(os.getloadavg()[0], 1)
    if not frames:
        raise SystemExit(f"{count} Gaussians: not one frame in {MAX_SECONDS} s, so there is no rate.")
    rate = float(f"{frames / seconds:.2g}")
    return {"load": load, "fps": rate, "frames": frames, "first_picture_seconds": round(first, 2), "renderer": renderer}


class Stages:
    """A Reporter that clocks training: seconds, and CPU seconds of all threads of this process."""

    def __init__(self) -> None:
        self.stage, self.wall, self.cpu = "", 0.0, 0.0

    def begin(self, stage: str) -> None:
        if stage == "train":
            self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        elif self.stage == "train":
            self.wall, self.cpu = self.wall + time.perf_counter(), self.cpu + time.process_time()
        self.stage = stage

    def info(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def progress(self, done: int, total: int, **figures: Any) -> None: ...


def trained(run: Path, iterations: int, threads: int, watched: bool) -> dict[str, Any]:
    """Train anew from the poses of a finished run. Alone in its process."""
    from splat import Reconstruct
    from splat.viewer.server import Viewer

    config = json.loads((run / "config.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        for part in ("ingest", "poses", "init"):
            shutil.copytree(run / part, folder / part)
        clock = Stages()
        command = Reconstruct(
            Path(config["photos"]), folder, preset="fast", iterations=iterations, threads=threads, renders=False,
            keep_stages=True, ignore_poses=config["ignore_poses"], method=config["method"],
        )  # fmt: skip
        with command.opened(clock) as (context, warnings):
            if not watched:
                command._run(context, warnings)
                return {"seconds": clock.wall, "cpu_seconds": clock.cpu}
            with Viewer(port=0) as viewer:
                client = subprocess.Popen(
                    [sys.executable, __file__, "client", viewer.url], stdout=subprocess.PIPE, text=True
                )
                while not viewer.browsers:
                    time.sleep(0.05)
                command._run(context, warnings, viewer)
            said = json.loads(client.communicate(timeout=60)[0])
        return {"seconds": clock.wall, "cpu_seconds": clock.cpu, **said}


def client(url: str) -> None:
    """Takes what a browser takes, says that it is shown, and prints how much it was."""
    from urllib.parse import urlsplit

    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    where = urlsplit(url)
    snapshots = received = 0
    with connect(f"ws://{where.netloc}/socket?{where.query}", origin=f"http://{where.netloc}", max_size=None) as socket:
        try:
            while True:
                message = socket.recv()
                received += len(message)
                if isinstance(message, bytes) and struct.unpack_from("<I", message)[0] == 1:
                    _, step, _, _, part, parts = struct.unpack_from("<6I", message)
                    if part == parts - 1:
                        snapshots += 1
                        socket.send(json.dumps({"kind": "shown", "step": step}))
        except ConnectionClosed:
            pass
    print(json.dumps({"snapshots": snapshots, "megabytes": round(received / 1e6, 1)}))


def write(name: str, row: dict[str, Any]) -> None:
    """Keep one number, and make the table anew."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept = RESULTS / "viewer.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else {}
    rows[name] = row
    kept.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    lines = ["What the viewer costs; made by `scripts/bench_viewer.py`, on two cores that other programs shared.", ""]
    drawn = {k: r for k, r in rows.items() if "fps" in r}
    if drawn:
        lines += [
            "| Gaussians, SH 3 | px | frames per second | of frames | first picture, s | wanted a core | drawn by |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for r in sorted(drawn.values(), key=lambda row: row["count"]):
            cells = [
                f"{r['count']:,}",
                *(r.get(k, "") for k in ("size", "fps", "frames", "first_picture_seconds", "load")),
            ]
            lines.append(f"| {' | '.join(map(str, cells))} | {r['renderer']} |")
        lines += [
            "",
            "Without a GPU the browser draws in software: these rates are a lower bound for any machine with one.",
            "",
        ]
    for key, r in sorted(rows.items()):
        if "pairs" not in r:
            continue
        lines += [
            f"Training `{key}`, {r['iterations']} steps, {r['threads']} thread(s), in turn without and with a client:",
            "",
        ]
        lines += ["| | training, s | CPU of the process, s | snapshots | MB sent |", "| --- | --- | --- | --- | --- |"]
        for pair in r["pairs"]:
            for label in ("alone", "watched"):
                p = pair[label]
                sent = f"{p['snapshots']} | {p['megabytes']}" if "snapshots" in p else " | "
                lines.append(f"| {label} | {p['seconds']:.1f} | {p['cpu_seconds']:.1f} | {sent} |")
        cpu, wall = (ratio(r["pairs"], k) for k in ("cpu_seconds", "seconds"))
        lines += ["", f"Watched over alone: {100 * (cpu - 1):+.1f} % CPU, {100 * (wall - 1):+.1f} % seconds.", ""]
    (RESULTS / "viewer.md").write_text("\n".join(lines).rstrip() + "\n")


def ratio(pairs: list[dict[str, Any]], what: str) -> float:
    return float(sum(p["watched"][what] for p in pairs) / sum(p["alone"][what] for p in pairs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("browser", "training", "client", "one"))
    parser.add_argument("target", nargs="?")
    parser.add_argument("--counts", default="100000,1000000")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--watched", action="store_true")
    given = parser.parse_args()
    if given.what == "client":
        client(given.target)
    elif given.what == "one":  # a process of its own for each training
        print(json.dumps(trained(Path(given.target), given.iterations, given.threads, given.watched)))
    elif given.what == "browser":
        width, height = map(int, given.size.split("x"))
        for count in map(int, given.counts.split(",")):
            row = in_browser(count, width, height) | {"count": count, "size": given.size}
            print(row, flush=True)
            write(f"{count}@{given.size}", row)
    else:
        one = [sys.executable, __file__, "one", given.target]
        one += ["--iterations", str(given.iterations), "--threads", str(given.threads)]
        pairs = []
        for _ in range(given.repeats):
            pair = {}
            for label, flag in (("alone", []), ("watched", ["--watched"])):
                done = subprocess.run([*one, *flag], stdout=subprocess.PIPE, text=True, check=True)
                pair[label] = json.loads(done.stdout.splitlines()[-1])
                print(label, pair[label], flush=True)
            pairs.append(pair)
            about = {"iterations": given.iterations, "threads": given.threads}
            write(Path(given.target).name, about | {"pairs": pairs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
