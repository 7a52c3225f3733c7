"""Builds, checks and times everything on the GPU that is there, and prints a short table last.

    python scripts/bench_gpu.py [--quick] [--json FILE] [--only 1000000]

It needs the repository, torch, numpy and nvcc; the column of gsplat is left out, with the reason, where gsplat is not
installed. Checks come first: images and gradients of our kernels on the GPU against the torch reference in double
precision (and against the CPU's kernels where there is a C++ compiler), and steps replayed from a CUDA graph against
steps that are not. Then milliseconds per training step of the product's own loop at about one megapixel, ours (counting
pairs, which waits; with a fixed capacity for them; replayed) and gsplat's, on a synthetic scene and on one trained from
its own renders; each kernel alone; memory; and the share of the floor: the time that the bytes and the arithmetic of
such a step cost at the least on this GPU (Kerbl-style 59 floats per Gaussian, visible-only Adam, pairs that
contribute).
"""

# ruff: noqa: E402  (what may be missing on a bare machine is replaced before the imports)
from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

try:
    import jaxtyping  # noqa: F401
except ImportError:  # annotations only: a bare machine does without

    class _Anything:
        def __class_getitem__(cls, _: Any) -> Any:
            return Any

    names = ("Float", "Int", "Bool", "UInt8", "Shaped", "Integer", "Int64", "Int32", "Num")
    sys.modules["jaxtyping"] = types.SimpleNamespace(**dict.fromkeys(names, _Anything))  # type: ignore[assignment]

import torch
from kernel_loads import Load, fixed_load, lifted
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.schedules import Background, Schedules, ShSchedule
from splat.core.slots import DensitySettings, Init, Item, Phase, Rasterizer, RasterSettings, Silent
from splat.losses import Losses
from splat.native import bindings, build, build_cuda
from splat.raster.gsplat import Gsplat
from splat.raster.native import Native
from splat.raster.reference import Reference
from splat.train.accel import Acceleration
from splat.train.accel.graph import Mode, Recorder
from splat.train.density import DefaultDensity, MCMCDensity
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.run import TrainingRun, TrainSettings

SIZE = (1152, 864)
CHECKED = (3000, 200, 150)
TRAINED = (1500, 300)
"""Steps, and where it must be quick."""
COUNTS = (100_000, 500_000, 1_000_000, 3_000_000)
MIN_TRANSMITTANCE = 1 / 255
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12, "A100": 2.0e12, "4090": 1.008e12, "3090": 0.936e12}
DEVICE = torch.device("cuda")
RECORDER: Callable[[TrainingRun], Recorder] | None = None
"""In place of the one of CUDA, where there is none."""


class Photos:
    """Photos on the GPU, as bytes: a TargetSource."""

    def __init__(self, items: list[Item]) -> None:
        self.all = items

    def items(self, step: int, steps: int) -> Iterator[Item]:
        yield self.all[step % len(self.all)]

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


# ------------------------------------------------------------------------------------------------------------- checks


def gradients(raster: Rasterizer, g: Gaussians, camera: Camera, pose: Tensor) -> dict[str, Tensor]:
    """The image, and gradients of a fixed weighting of everything drawn."""
    leaves = Gaussians(**{k: v.detach().clone().requires_grad_() for k, v in vars(g).items()})
    pose = pose.clone().requires_grad_()
    r = raster(leaves, camera, pose, torch.tensor([0.2, 0.5, 0.9]).to(g.means), RasterSettings(absgrad=True))
    rng = torch.Generator().manual_seed(5)
    sum((torch.randn(t.shape, generator=rng).to(t) * t).sum() for t in (r.rgb, r.alpha, r.depth)).backward()
    found = {k: v.grad for k, v in vars(leaves).items()} | {"pose": pose.grad, "centres": r.means2d.grad}
    assert r.absgrad is not None
    return {"image": r.rgb.detach(), "absolute": r.absgrad, **{k: v for k, v in found.items() if v is not None}}


def check() -> list[str]:
    """Largest relative differences to the reference in double precision, and to the CPU's kernels."""
    load = lifted(fixed_load(*CHECKED))
    assert load.scene is not None and load.cam_from_world is not None
    pose = load.cam_from_world
    ours = gradients(Native(), load.scene.to(DEVICE), load.camera, pose.to(DEVICE))
    others = {"reference": gradients(Reference(), load.scene.to(torch.float64), load.camera, pose.double())}
    if build.unavailable() is None:
        others["CPU kernels"] = gradients(Native(), load.scene, load.camera, pose)
    lines = []
    for name, theirs in others.items():
        errors = {}
        for k, value in theirs.items():
            difference = (ours[k].cpu().double() - value.double()).norm()
            errors[k] = float(difference / value.double().norm().clamp_min(1e-12))
        worst = max(errors, key=lambda k: errors[k])
        lines.append(f"against the {name}: image {errors['image']:.1e}, worst gradient {worst} {errors[worst]:.1e}")
        if max(errors.values()) > 2e-3:
            raise SystemExit(f"WRONG {lines[-1]}\n{errors}")
    return lines


def check_replays(steps: int = 14) -> list[str]:
    """How far what replayed steps leave is from what the same steps leave that were not: photos, poses, cameras, rates,
    backgrounds and noise differ from one to the next."""
    load = lifted(fixed_load(*CHECKED))
    assert load.scene is not None and load.cam_from_world is not None
    rng, items = torch.Generator().manual_seed(0), []
    for i in range(5):
        camera, pose = replace(load.camera, fx=load.camera.fx + 3 * i), load.cam_from_world.clone()
        pose[0, 3] += 0.05 * i
        photo = torch.randint(0, 256, (camera.height, camera.width, 3), generator=rng, dtype=torch.uint8)
        items.append(Item(camera, pose.to(DEVICE), photo.to(DEVICE), view_id=i))
    n, lines = len(load.scene), []
    densities: dict[str, DensitySettings] = {
        "statistics": DefaultDensity(cap=n, start=2.0, stop=2.0),
        "noise": MCMCDensity(cap=n, start=2.0),
    }
    for name, density in densities.items():
        left: list[list[Tensor]] = []
        for graph in ("off", "on"):
            run = run_for(load.scene.to(DEVICE), items, Native(), 100, capacity=200_000, graph=graph, density=density)
            advance(run, steps)
            left.append([t.clone() for t in (*vars(run.model.gaussians()).values(), run.view_model.exposure.values)])
        if replayed(run) < steps - 4:
            raise SystemExit(f"WRONG only {replayed(run)} of {steps} steps were replayed.")
        worst = max(float((a - b).norm() / a.norm().clamp_min(1e-12)) for a, b in zip(*left, strict=True))
        lines.append(
            f"replayed steps with {name}: " + ("bit for bit those that were not" if worst == 0 else f"{worst:.1e}")
        )
        if not worst < 1e-5:
            raise SystemExit(f"WRONG {lines[-1]}")
    return lines


# -------------------------------------------------------------------------------------------------------------- steps


class OnGraphs(Silent):
    """Prints what is reported of recordings."""

    def info(self, message: str) -> None:
        if "graph" in message:
            print(message, flush=True)


def run_for(
    scene: Gaussians,
    items: list[Item],
    raster: Rasterizer,
    steps: int,
    grows: int = 0,
    capacity: int | None = None,
    graph: Mode = "off",
    density: DensitySettings | None = None,
) -> TrainingRun:
    n = len(scene)
    if density is None:
        density = DefaultDensity(cap=grows or n, start=0.0 if grows else 2.0, stop=0.8 if grows else 2.0)
        background = Background()
    else:
        background = Background("random")
    schedules = Schedules(sh=ShSchedule(degree_every=0.0), background=background)
    model, report = ViewModel(len(items), ViewSettings(), device=DEVICE), OnGraphs()
    drawing = RasterSettings(min_transmittance=MIN_TRANSMITTANCE)
    phase = Phase(steps, Photos(items), Losses(), density, schedules, drawing)
    acceleration = Acceleration(DEVICE, report, capacity, graph)
    run = TrainingRun(Init(scene), (phase,), raster, model, TrainSettings(), report, acceleration)
    if RECORDER is not None and graph != "off":
        acceleration.replays.recorder = RECORDER(run)
    run.advance()
    return run


def replayed(run: TrainingRun) -> int:
    """Steps so far."""
    assert isinstance(run.execution, Acceleration)
    return run.execution.replays.replayed


def advance(run: TrainingRun, steps: int) -> None:
    for _ in range(steps):
        run.do_step()


def step_times(
    scene: Gaussians,
    items: list[Item],
    raster: Rasterizer,
    quick: bool,
    capacity: int | None = None,
    graph: Mode = "off",
) -> dict[str, Any]:
    """Milliseconds of a step, medians over rounds; of our kernels alone; megabytes at the peak."""
    steps, rounds = (5, 3) if quick else (20, 5)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run = run_for(scene, items, raster, 10 + steps * (rounds + 1), capacity=capacity, graph=graph)
    first = []
    for _ in range(10):  # one of them records
        torch.cuda.synchronize()
        started = time.perf_counter()
        advance(run, 1)
        torch.cuda.synchronize()
        first.append(1e3 * (time.perf_counter() - started))
    ms = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        advance(run, steps)
        torch.cuda.synchronize()
        ms.append(1e3 * (time.perf_counter() - started) / steps)
    with bindings.timed() as seconds:
        advance(run, steps)
    kernels = {k.removeprefix("splat_"): 1e3 * v / steps for k, v in seconds.items()}
    return {
        "ms": statistics.median(ms),
        "kernels": kernels,
        "bytes": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "recording_ms": max(first[3:]) - statistics.median(first[3:]),
        "replayed": replayed(run),
    }


def floor_ms(scene: Gaussians, item: Item) -> tuple[float, dict[str, float]]:
    """The least time of a step: bytes over bandwidth, or lane operations over the FP32 units' rate (see the header)."""
    p = torch.cuda.get_device_properties(0)
    bandwidth = next((v for k, v in BANDWIDTH.items() if k in p.name), 1e12)
    rate = p.multi_processor_count * 128 * 1.98e9
    camera, pixels = item.camera, item.camera.width * item.camera.height
    with torch.no_grad():
        r = Native()(scene, camera, item.cam_from_world, torch.zeros(3, device=DEVICE), RasterSettings())
        seen = int((r.radii > 0).sum())
    tiles, pairs = intersections_and_pairs(scene, item)
    row = 4 * 59
    moved = seen * row * (1 + 2 + 7) + 150 * tiles + 100 * pixels
    lanes = pairs * (17 + 38)
    ms = 1e3 * max(moved / bandwidth, lanes / rate)
    return ms, {"visible": seen / len(scene), "intersections": tiles, "pairs per pixel": pairs / pixels}


def intersections_and_pairs(scene: Gaussians, item: Item) -> tuple[int, int]:
    """(tile, Gaussian) pairs, and (pixel, Gaussian) pairs that contribute."""
    c, n, k = item.camera, len(scene), scene.sh.shape[1]
    rows = torch.empty(n, bindings.FIELDS, device=DEVICE)
    centres, radii = torch.empty(n, 2, device=DEVICE), torch.empty(n, dtype=torch.int32, device=DEVICE)
    fields = (scene.means, scene.quats_wxyz, scene.log_scales, scene.logit_opacities, scene.sh)
    view = (item.cam_from_world.contiguous(), c.intrinsics(DEVICE), c.width, c.height)
    bindings.call("splat_project_forward", n, k, scene.sh_degree, *fields, *view, 0.01, 0, rows, centres, radii)
    by_depth = torch.empty(n, dtype=torch.int32, device=DEVICE)
    first, total = torch.empty(n + 1, dtype=torch.int32, device=DEVICE), bindings.int64s([0])
    workspace = bindings.workspace("splat_bin_workspace", n, c.width, c.height, device=DEVICE)
    bindings.call("splat_bin_count", n, rows, c.width, c.height, by_depth, first, total, workspace)
    visible = int((radii > 0).sum())
    # The slow counter looks at every Gaussian from every pixel: a strip in the middle stands for the image.
    height = 16
    strip = rows.clone()
    strip[:, 1] -= c.height // 2
    rgb, margin = torch.empty(height, c.width, 3, device=DEVICE), torch.empty(height, c.width, device=DEVICE)
    pairs, black = torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.zeros(3, device=DEVICE)
    bindings.call("splat_count_pairs", strip, c.width, height, visible, by_depth, black, 1e-4, rgb, margin, pairs)
    return total[0], int(pairs) * c.height // height


# ------------------------------------------------------------------------------------------------------------- scenes


def synthetic(n: int) -> tuple[Gaussians, list[Item]]:
    """The fixed kernel load in space, and random photos."""
    load = lifted(fixed_load(n, *SIZE, median_sigma=2.0 * math.sqrt(1e6 / n)))
    assert load.scene is not None and load.cam_from_world is not None
    rng = torch.Generator().manual_seed(0)
    items = []
    for i in range(4):
        photo = torch.randint(0, 256, (SIZE[1], SIZE[0], 3), generator=rng, dtype=torch.uint8).to(DEVICE)
        items.append(Item(load.camera, load.cam_from_world.to(DEVICE), photo, view_id=i))
    return load.scene.to(DEVICE), items


def trained(n: int, steps: int) -> tuple[Gaussians, list[Item], float]:
    """A scene trained from renders of another one, seen from twelve places; and its PSNR in the training views."""
    load: Load = lifted(fixed_load(n // 4, *SIZE, median_sigma=6.0))
    assert load.scene is not None
    truth = load.scene.to(DEVICE)
    items = []
    for i in range(12):
        pose = torch.eye(4)
        pose[:2, 3] = 0.4 * torch.tensor([math.cos(i * math.pi / 6), math.sin(i * math.pi / 6)])
        with torch.no_grad():
            r = Native()(truth, load.camera, pose.to(DEVICE), torch.zeros(3, device=DEVICE), RasterSettings())
        items.append(Item(load.camera, pose.to(DEVICE), (255 * r.rgb.clamp(0, 1)).round().byte(), view_id=i))
    start = truth[torch.randperm(len(truth), generator=torch.Generator().manual_seed(1)).to(DEVICE)[: len(truth) // 2]]
    start = replace(start, sh=torch.zeros_like(start.sh), means=start.means + 0.02 * torch.randn_like(start.means))
    run = run_for(start, items, Native(), steps, grows=n)
    advance(run, steps)
    return run.model.gaussians().map(lambda t: t.detach().clone().contiguous()), items, run.read_losses()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two sizes, fewer repeats")
    parser.add_argument("--only", type=int, help="this number of Gaussians alone")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA device: there is nothing to measure.")
    started = time.perf_counter()
    if reason := build_cuda.unavailable():
        raise SystemExit(reason)
    properties = torch.cuda.get_device_properties(0)
    print(f"{properties.name}, torch {torch.__version__}; built in {time.perf_counter() - started:.0f} s", flush=True)
    for line in check() + check_replays():
        print(line, flush=True)
    gsplat, without = Gsplat(), Gsplat().unavailable(DEVICE)
    print("gsplat: " + (without or "there"), flush=True)
    counts = [arguments.only] if arguments.only else COUNTS[::2] if arguments.quick else COUNTS
    rows: list[dict[str, Any]] = []
    scenes = [(f"synthetic {n // 1000}k", lambda n=n: (*synthetic(n), math.nan)) for n in counts]
    scenes.append((f"trained {counts[0] // 1000}k", lambda: trained(counts[0], TRAINED[arguments.quick])))
    for name, make in scenes:
        scene, items, psnr = make()
        ours = step_times(scene, items, Native(), arguments.quick)
        theirs = None if without else step_times(scene, items, gsplat, arguments.quick)
        least, facts = floor_ms(scene, items[0])
        capacity = round(1.5 * facts["intersections"]) + 1
        fixed = step_times(scene, items, Native(), arguments.quick, capacity)
        graph = step_times(scene, items, Native(), arguments.quick, capacity, "on")
        recorded = f"recording takes {graph['recording_ms']:.1f} ms more than a step; {graph['replayed']} replayed"
        print(f"{name}: {recorded}", flush=True)
        kernels = ", ".join(f"{k} {v:.2f}" for k, v in sorted(ours["kernels"].items(), key=lambda kv: -kv[1]))
        print(f"{name}: {kernels}; {facts}" + ("" if math.isnan(psnr) else f"; {psnr:.2f} dB"), flush=True)
        n = len(scene)
        rows.append(
            {
                "scene": name,
                "gaussians": n,
                "ours_ms": ours["ms"],
                "not_waiting_ms": fixed["ms"],
                "graph_ms": graph["ms"],
                "recording_ms": graph["recording_ms"],
                "reserved_bytes_per_gaussian": {"capacity": fixed["reserved"] / n, "graph": graph["reserved"] / n},
                "gsplat_ms": None if theirs is None else theirs["ms"],
                "floor_ms": least,
                "bytes_per_gaussian": ours["bytes"] / n,
                "kernels_ms": ours["kernels"],
                **facts,
            }
        )
        del scene, items
    heads = (
        "scene",
        "Gaussians",
        "ours, ms",
        "fixed capacity, ms",
        "graph, ms",
        "gsplat, ms",
        "floor, ms",
        "ours / floor",
        "bytes per Gaussian",
    )
    print(f"\n| {' | '.join(heads)} |")
    print("| --- " + "| ---: " * (len(heads) - 1) + "|")
    for r in rows:
        other = "-" if r["gsplat_ms"] is None else f"{r['gsplat_ms']:.2f}"
        print(
            f"| {r['scene']} | {r['gaussians']} | {r['ours_ms']:.2f} | {r['not_waiting_ms']:.2f} "
            f"| {r['graph_ms']:.2f} | {other} | {r['floor_ms']:.2f} "
            f"| {r['ours_ms'] / r['floor_ms']:.1f} | {r['bytes_per_gaussian']:.0f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": properties.name, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
