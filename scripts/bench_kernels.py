"""How fast the compiled rasterizer is, in contributing (pixel, Gaussian) pairs per second and core.

    python scripts/bench_kernels.py [--quick] [--json FILE] [--run RUNFOLDER]

First the image is checked: against the torch reference on a small load of the same kind, and against a composite of
the whole load in double precision. A pair contributes when its alpha is at least 1/255 and the transmittance before it
at least 1e-4; a separate slow counter counts them. The limit is what hand-counted instructions allow a core with two
512-bit units: 4.3 G pairs/s forward and 1.34 G forward and backward at 2.3 GHz, scaled to the measured clock.

With one thread, times are CPU times of that thread, so that other programs disturb them little; with more, wall times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the product does: torch's threads must not spin beside ours

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench_steps
from kernel_loads import Load, fixed_load, lifted, of_run, project, rows_of

from splat.core.camera import Camera
from splat.core.slots import RasterSettings
from splat.native import bindings, build
from splat.raster import native, reference

BACKGROUND, MIN_TRANSMITTANCE = torch.tensor([0.1, 0.2, 0.3]), RasterSettings.min_transmittance
LIMIT_FORWARD, LIMIT_BOTH, LIMIT_CLOCK = 4.3e9, 1.34e9, 2.3e9


@dataclass(frozen=True, eq=False)
class Buffers:
    """Everything the blend kernels read and write, made once."""

    rows: Tensor
    bins: native.Bins
    camera: Camera
    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    hits: Tensor
    evaluated: Tensor
    g_rgb: Tensor
    g_rows: Tensor
    g_background: Tensor
    records: Tensor
    workspace: Tensor

    @staticmethod
    def make(rows: Tensor, camera: Camera) -> Buffers:
        w, h = camera.width, camera.height
        bins = native.bin_tiles(rows, camera)
        total = len(bins.entries)
        return Buffers(
            rows=rows,
            bins=bins,
            camera=camera,
            rgb=torch.empty(h, w, 3),
            alpha=torch.empty(h, w),
            depth=torch.empty(h, w),
            hits=torch.empty(total, dtype=torch.int16),
            evaluated=torch.zeros(len(bins.tile_start) - 1, dtype=torch.int64),
            g_rgb=torch.randn(h, w, 3, generator=torch.Generator().manual_seed(1)),
            g_rows=torch.empty_like(rows),
            g_background=torch.empty(3, dtype=torch.float64),
            records=torch.empty(total, bindings.RECORD),
            workspace=torch.empty(bindings.query("splat_blend_backward_workspace", w, h), dtype=torch.uint8),
        )

    def forward(self) -> None:
        b, w, h = self.bins, self.camera.width, self.camera.height
        out = (self.rgb, self.alpha, self.depth, self.hits, self.evaluated)
        fixed = BACKGROUND, MIN_TRANSMITTANCE
        bindings.call("splat_blend_forward", self.rows, w, h, b.tile_start, b.entries, *fixed, *out)

    def backward(self) -> None:
        b, w, h = self.bins, self.camera.width, self.camera.height
        bindings.call(
            "splat_blend_backward",
            *(len(self.rows), self.rows, w, h, b.first, b.tile_start, b.entries, self.hits, MIN_TRANSMITTANCE),
            *(self.rgb, self.alpha, self.depth, self.g_rgb, None, None),
            *(self.g_rows, None, self.g_background, None, self.records, len(self.records), self.workspace),
        )


def median_seconds(work: Callable[[], Any], repeats: int, threads: int) -> float:
    clock = time.thread_time if threads == 1 else time.perf_counter
    work()
    seconds = []
    for _ in range(repeats):
        start = clock()
        work()
        seconds.append(clock() - start)
    return statistics.median(seconds)


def check_small() -> float:
    """The largest difference to the torch reference, in float64, on a small load of the same kind."""
    load = fixed_load(1500, 128, 96)
    s = load.flat[load.flat.opacities >= reference.MIN_ALPHA]
    s = s[s.depths.sort().indices]
    rgb, _, passed, _ = reference.blend(s, load.camera)
    buffers = Buffers.make(rows_of(s), load.camera)
    buffers.forward()
    return float((rgb + passed[..., None] * BACKGROUND.double() - buffers.rgb).abs().max())


def slow_count(buffers: Buffers) -> tuple[int, float]:
    """Contributing pairs, and the largest difference to the double-precision image, pixels left out in which rounding
    decides whether a pair contributes."""
    w, h = buffers.camera.width, buffers.camera.height
    visible = (buffers.rows[:, bindings.HALF_WIDTH] > 0).nonzero()[:, 0]
    by_depth = visible[buffers.rows[visible, bindings.DEPTH].sort(stable=True).indices].int()
    rgb, margin, pairs = torch.empty(h, w, 3), torch.empty(h, w), torch.empty(1, dtype=torch.int64)
    inputs = (buffers.rows, w, h, len(by_depth), by_depth, BACKGROUND, MIN_TRANSMITTANCE)
    bindings.call("splat_count_pairs", *inputs, rgb, margin, pairs)
    difference = (rgb - buffers.rgb).abs().amax(2)
    return int(pairs), float(difference[margin > 1e-4].max())


def measure(load: Load, repeats: int, hertz: float) -> dict[str, Any]:
    """All figures of one load."""
    rows = project(load)
    buffers = Buffers.make(rows, load.camera)
    bindings.set_threads(2)
    buffers.forward()
    pairs, difference = slow_count(buffers)
    if difference > 1e-4:
        raise SystemExit(f"{load.name}: the image differs from the double-precision one by {difference:.1e}.")
    evaluated = int(buffers.evaluated.sum())
    bits = torch.arange(16, dtype=torch.int32)
    backward_evaluated = 16 * int((buffers.hits.int()[:, None] >> bits & 1).sum())
    figures: dict[str, Any] = {
        "load": load.name,
        "gaussians": len(rows),
        "intersections": len(buffers.bins.entries),
        "pairs": pairs,
        "pairs_per_pixel": pairs / (load.camera.width * load.camera.height),
        "evaluated_per_contributing": evaluated / pairs,
        "evaluated_per_contributing_backward": backward_evaluated / pairs,
        "difference": difference,
    }
    for threads in (1, 2):
        bindings.set_threads(threads)
        ms = {"project": 0.0}
        if load.scene is not None:
            ms["project"] = 1e3 * median_seconds(lambda: project(load), repeats, threads)
        ms["bin"] = 1e3 * median_seconds(lambda: native.bin_tiles(rows, load.camera), repeats, threads)
        ms["forward"] = 1e3 * median_seconds(buffers.forward, repeats, threads)
        ms["backward"] = 1e3 * median_seconds(buffers.backward, repeats, threads)
        forward = pairs / (ms["forward"] * 1e-3) / threads
        both = pairs / ((ms["forward"] + ms["backward"]) * 1e-3) / threads
        figures[f"threads_{threads}"] = {
            "ms": ms,
            "forward_pairs_per_second_and_core": forward,
            "both_pairs_per_second_and_core": both,
            "forward_with_binning": pairs / ((ms["forward"] + ms["bin"]) * 1e-3) / threads,
            "forward_share_of_limit": forward / (LIMIT_FORWARD * hertz / LIMIT_CLOCK),
            "both_share_of_limit": both / (LIMIT_BOTH * hertz / LIMIT_CLOCK),
        }
    return figures


def print_table(rows: list[dict[str, Any]]) -> None:
    """Times in ms; rates in millions of contributing pairs per second and core; shares of the limit in percent."""
    heads = ["load", "threads", "pairs M", "/pixel", "eval", "eval bwd", "project", "bin", "fwd", "bwd"]
    print(
        "".join(
            f"{h:>9}" if i else f"{h:<22}" for i, h in enumerate([*heads, "fwd M/s", "both M/s", "fwd %", "both %"])
        )
    )
    for r in rows:
        for threads in (1, 2):
            t = r[f"threads_{threads}"]
            ms = t["ms"]
            figures = [
                f"{threads}",
                f"{r['pairs'] / 1e6:.1f}",
                f"{r['pairs_per_pixel']:.0f}",
                f"{r['evaluated_per_contributing']:.2f}",
                f"{r['evaluated_per_contributing_backward']:.2f}",
                *(f"{ms[k]:.1f}" for k in ("project", "bin", "forward", "backward")),
                f"{t['forward_pairs_per_second_and_core'] / 1e6:.0f}",
                f"{t['both_pairs_per_second_and_core'] / 1e6:.0f}",
                f"{100 * t['forward_share_of_limit']:.0f}",
                f"{100 * t['both_share_of_limit']:.0f}",
            ]
            print(f"{r['load']:<22}" + "".join(f"{f:>9}" for f in figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the smallest load, fewer repeats")
    parser.add_argument("--run", type=Path, help="also the first view of this finished run folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    reason = build.unavailable()
    if reason:
        raise SystemExit(reason)
    difference = check_small()
    print(f"largest difference to the reference: {difference:.1e}")
    if difference > 1e-4:
        raise SystemExit("the image is wrong; nothing was timed.")
    hertz = torch.empty(1, dtype=torch.float64)
    bindings.call("splat_measure_clock", hertz)
    print(f"clock: {float(hertz) / 1e9:.2f} GHz")
    loads = [fixed_load(50_000, 504, 378)]
    if not arguments.quick:
        loads += [fixed_load(100_000, 640, 480), fixed_load(1_000_000, 1296, 840, 1.5)]
    loads = [variant for load in loads for variant in (load, lifted(load))]
    if arguments.run:
        loads.append(of_run(arguments.run))
    repeats = 3 if arguments.quick else arguments.repeats
    rows = [measure(load, repeats, float(hertz)) for load in loads]
    print_table(rows)
    build.keep_freed_memory()
    step = bench_steps.measure(60_000, 504, 378, 2, arguments.quick)
    bench_steps.show(step)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"clock_hz": float(hertz), "loads": rows, "training_step": step}, indent=1)
        )


if __name__ == "__main__":
    main()
