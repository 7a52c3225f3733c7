"""How many whole training steps and rendered frames per second the CPU gives, and how their cost grows.

    python scripts/bench_steps.py [--quick] [--plot FOLDER] [--json FILE]

Steps are those of the product's own training loop (visible-only Adam, exposure, 0.8 L1 + 0.2 (1 - SSIM), statistics
for density control) on the fixed kernel load lifted into space. "Outside" is what a step takes beyond its kernels.
Times are wall times, medians of several rounds. Curves: cost against Gaussians and against pixels, with one thread and
with two.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the product does: torch's threads must not spin beside ours

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernel_loads import Load, fixed_load, lifted

from splat.bench import plots
from splat.core.gaussians import Gaussians
from splat.core.schedules import Schedules
from splat.core.slots import Init, Item, Phase, RasterSettings, Silent
from splat.geometry.morton import morton_order
from splat.losses import Losses
from splat.native import bindings, build
from splat.raster.native import Native
from splat.train.density import DefaultDensity
from splat.train.execution import Execution
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.run import TrainingRun, TrainSettings
from splat.train.settings import Training

WARM_UP = 8


class Photos:
    """Random photos of the load's size: a TargetSource."""

    def __init__(self, load: Load, count: int = 4) -> None:
        generator = torch.Generator().manual_seed(0)
        size = (load.camera.height, load.camera.width, 3)
        assert load.cam_from_world is not None
        photos = [torch.randint(0, 256, size, generator=generator, dtype=torch.uint8) for _ in range(count)]
        self.all = [Item(load.camera, load.cam_from_world, p, view_id=i) for i, p in enumerate(photos)]

    def items(self, step: int, steps: int) -> Iterator[Item]:
        yield self.all[step % len(self.all)]

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


def training(load: Load, threads: int, steps: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds of the milliseconds of a step, of each kernel in it, and of what is outside them."""
    assert load.scene is not None
    bindings.set_threads(threads)
    torch.set_num_threads(threads)
    n, photos, defaults = len(load.scene), Photos(load), Training()
    found: list[dict[str, float]] = []
    density = DefaultDensity(cap=n, start=2.0, stop=2.0)  # keeps its statistics, splits nothing
    raster = RasterSettings(min_transmittance=defaults.min_transmittance)
    schedules = Schedules(rates=defaults.rates, sh=defaults.sh)
    phase = Phase(WARM_UP + steps * rounds, photos, Losses(), density, schedules, raster)
    views = ViewModel(4, ViewSettings())
    training = TrainingRun(Init(load.scene), (phase,), Native(), views, TrainSettings(), Silent(), Execution())
    training.advance()
    # All harmonics from the first step on: the fullest step there is.
    training.model.use_sh_degree(training.sh_degree)

    def run(count: int) -> None:
        for _ in range(count):
            training.do_step()

    run(WARM_UP)
    for _ in range(rounds):
        with bindings.timed() as seconds:
            started = time.perf_counter()
            run(steps)
            whole = time.perf_counter() - started
        ms = {k.removeprefix("splat_"): 1e3 * v / steps for k, v in seconds.items()}
        found.append({"whole": 1e3 * whole / steps, "outside": 1e3 * whole / steps - sum(ms.values()), **ms})
    ms = {k: statistics.median(f.get(k, 0.0) for f in found) for k in found[0]}
    return {"steps_per_second": 1e3 / ms["whole"], "ms": ms}


def rendering(load: Load, threads: int, frames: int) -> float:
    """Frames per second: cull and draw, no gradient."""
    assert load.scene is not None and load.cam_from_world is not None
    bindings.set_threads(threads)
    torch.set_num_threads(threads)
    raster, settings, background = Native(), RasterSettings(), torch.zeros(3)
    seconds = []
    with torch.no_grad():
        for _ in range(frames + 3):
            started = time.perf_counter()
            raster(load.scene, load.camera, load.cam_from_world, background, settings)
            seconds.append(time.perf_counter() - started)
    return 1 / statistics.median(seconds[3:])


def among_hidden(load: Load, share: int) -> Load:
    """The load among (share - 1) times as many Gaussians behind the camera, in the order that training keeps."""
    assert load.scene is not None
    behind = load.scene.means * torch.tensor([1.0, 1.0, -1.0])
    scene = Gaussians.cat([load.scene, *(replace(load.scene, means=behind) for _ in range(share - 1))])
    along_curve = morton_order(scene.means)
    return replace(load, scene=scene.map(lambda t: t[along_curve].contiguous()))


def measure(n: int, width: int, height: int, threads: int, quick: bool) -> dict[str, Any]:
    load = lifted(fixed_load(n, width, height))
    steps, rounds = (5, 3) if quick or n >= 250_000 else (15, 5)
    figures = training(load, threads, steps, rounds)
    fps = rendering(load, threads, 10 if quick else 40)
    return {"gaussians": n, "size": [width, height], "threads": threads, "frames_per_second": fps, **figures}


def show(row: dict[str, Any]) -> None:
    ms = dict(row["ms"])
    whole, outside = ms.pop("whole"), ms.pop("outside")
    kernels = ", ".join(f"{k} {v:.1f}" for k, v in sorted(ms.items(), key=lambda kv: -kv[1]) if v >= 0.05)
    print(
        f"{row['gaussians'] // 1000:>5}k {row['size'][0]}x{row['size'][1]} {row['threads']} threads: "
        f"{row['steps_per_second']:.1f} steps/s ({whole:.1f} ms, outside kernels {outside:.1f}; {kernels}), "
        f"{row['frames_per_second']:.0f} frames/s",
        flush=True,
    )


def plot(rows: list[dict[str, Any]], folder: Path) -> None:
    """Cost against Gaussians, and against pixels, as PNG and SVG: both axes logarithmic."""

    def series(key: str, pick: Any, x: Any) -> dict[str, list[tuple[float, float]]]:
        out: dict[str, list[tuple[float, float]]] = {}
        for r in rows:
            if pick(r):
                threads = "1 thread" if r["threads"] == 1 else f"{r['threads']} threads"
                out.setdefault(f"{key}, {threads}", []).append((x(r), r["ms"]["whole"]))
        return {k: sorted(v) for k, v in out.items()}

    folder.mkdir(parents=True, exist_ok=True)
    by_count = series("step", lambda r: r["size"] == [504, 378], lambda r: r["gaussians"])
    by_pixels = series("step", lambda r: r["gaussians"] == 60_000, lambda r: r["size"][0] * r["size"][1])
    by_count_figure = plots.curves("Training step at 504x378", "Gaussians", "ms per step", by_count)
    plots.write(by_count_figure, folder / "step_by_gaussians.png")
    by_pixels_figure = plots.curves("Training step with 60k Gaussians", "pixels", "ms per step", by_pixels)
    plots.write(by_pixels_figure, folder / "step_by_pixels.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the two headline sizes, fewer repeats")
    parser.add_argument("--plot", type=Path, help="draw the curves into this folder (needs matplotlib)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if reason := build.unavailable() or (plots.unavailable() if arguments.plot else None):
        raise SystemExit(reason)
    build.keep_freed_memory()
    sizes = [(60_000, 504, 378, 1), (60_000, 504, 378, 2), (250_000, 1008, 756, 2)]
    if not arguments.quick:
        sizes += [(n, 504, 378, t) for n in (10_000, 30_000, 100_000, 300_000, 1_000_000) for t in (1, 2)]
        sizes += [(60_000, w, 3 * w // 4, t) for w in (252, 1008, 1512) for t in (1, 2)]
    rows = []
    for size in sizes:
        rows.append(measure(*size, quick=arguments.quick))
        show(rows[-1])
    one, two = (r["ms"]["whole"] for r in rows[:2])
    load = lifted(fixed_load(60_000, 504, 378))
    alone, hidden = (training(among_hidden(load, share), 2, 15, 5)["ms"]["whole"] for share in (1, 10))
    print(f"60k Gaussians among 540k behind the camera: {hidden:.1f} ms, {hidden / alone:.2f} times what it is alone")
    print(f"2 threads are {one / two:.2f} times as fast as one")
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
