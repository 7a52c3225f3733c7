"""Dense stereo of three photos against the depth that all photos of a capture give, or against truth.

    python scripts/few_stereo.py --runs DIR [--data DIR] [--captures llff_fern,kermit] [--gates] [--json FILE]

For each capture three training photos are taken (the `few3` of its split.json, else evenly spread ones of those that
are not every eighth), at 504 px. Of the pixels of known depth (below), in %:

kept        measured (probability at least `min_probability`) and within 5 % of the known depth
wrong       of the measured ones: farther than 5 %
right       within 5 % before anything is refused
best        as `kept`, at the lowest threshold of the confidence at which 1 % of the measured ones are wrong
completed   of those that are not measured: within 5 % after depth completion
refused     of those that hard gates refuse (`hard_gates`): within 5 % after depth completion

Known is, for a real capture, what stereo between all of its photos finds and `hard_gates` let pass; for a scene that
`scenes/` ray-traces, the true depth of what another photo sees as well. Poses and sparse points come from a run of all
photos, which is made in --runs where it is missing. With --gates the hard gates decide instead of the probability.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the product does: torch's threads must not spin beside ours

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from splat.bench.scenes import load_scenes
from splat.core.capture import Capture, PointCloud, View
from splat.core.slots import Silent
from splat.geometry.reproject import check_consistency
from splat.init.view_surfaces import ViewSurface
from splat.priors.stereo import Searched, Stereo
from splat.priors.stereo_search import StereoView
from splat.run.capture_io import load_capture

CAPTURES = ("llff_fern", "kermit", "sceaux_castle", "banana", "fountain_P11", "atelier", "shelf")
TRACED = ("atelier", "shelf")
SIZE, WRONG = 504, 0.05


def hard_gates(views: list[StereoView], pairs: list[list[int]], found: list[Searched]) -> list[Tensor]:
    """Bool [h w] for each view: the cost is below 0.5, the depth in the range, at least one source photo has a
    consistent depth (1.5 px, 2 %, half a degree of parallax), and the depth does not belong to an island of fewer than
    60 px."""
    out = []
    for i, view in enumerate(views):
        depth = found[i].planes.depth
        passed = torch.zeros_like(depth, dtype=torch.bool)
        for o in pairs[i]:
            other = views[o]
            passed |= check_consistency(
                *(view.camera, view.world_from_cam, depth, other.camera, other.world_from_cam, found[o].planes.depth),
                *(1.5, 0.02, 0.5),
            ).consistent
        low, high = view.depths
        passed &= (found[i].planes.cost < 0.5) & (depth > low) & (depth < high)
        out.append(passed & without_speckles(depth, passed, 60))
    return out


def without_speckles(depth: Tensor, mask: Tensor, smallest: int) -> Tensor:
    """`mask` [h w] without connected regions of similar depth (2 % between neighbours) of fewer pixels."""
    levels = (1000 * depth.clamp_min(1e-9).log()).round()
    levels = (levels - levels[mask].min() + 1 if bool(mask.any()) else levels).clamp(0, 32_000)
    image = np.ascontiguousarray(torch.where(mask, levels, 0).numpy().astype(np.int16))
    cv2.filterSpeckles(image, 0, smallest, 20)
    return mask & torch.from_numpy(image > 0)


def posed(name: str, data: Path, runs: Path) -> tuple[Capture, list[Tensor] | None]:
    """The capture with poses and sparse points at `SIZE`; and true depths of a traced scene."""
    if name in TRACED:
        truth = load_scenes().make(name, runs / name, SIZE / 640)
        depths, points = [truth.depth(n) for n in truth.names], []
        for camera, pose, depth in zip(truth.cameras, truth.world_from_cam, depths, strict=True):
            pixels, d = camera.pixel_centres()[::24, ::24].reshape(-1, 2), depth[::24, ::24].reshape(-1)
            points.append(pose.apply(camera.unproject(pixels, d))[d > 0])
        cloud = torch.cat(points).float()
        views = [
            View(n, truth.images / n, (c.width, c.height), c, p)
            for n, c, p in zip(truth.names, truth.cameras, truth.world_from_cam, strict=True)
        ]
        return Capture(tuple(views), PointCloud(cloud, torch.zeros_like(cloud))), depths
    run = runs / name
    if not (run / "poses" / "views.json").exists():
        command = [sys.executable, "-m", "splat", "reconstruct", str(data / name), "--preset", "fast"]
        command += ["--iterations", "1", "--no-renders", "--method", "points", "--out", str(run)]
        subprocess.run(command + ([] if name == "llff_fern" else ["--ignore-poses"]), check=True)
    return load_capture(run / "poses").resized(SIZE), None


def three(name: str, names: list[str], data: Path) -> list[int]:
    """The indices of the three photos."""
    split = data / name / "split.json"
    few = json.loads(split.read_text()).get("few3") if split.exists() else None
    if few:
        return [names.index(n) for n in few]
    train = [i for i in range(len(names)) if i % 8]
    return [train[round(k * (len(train) - 1) / 2)] for k in range(3)]


def covisible(capture: Capture, depths: list[Tensor], i: int) -> Tensor:
    """Where another photo of the capture sees the true surface that view i sees."""
    out = torch.zeros_like(depths[i], dtype=torch.bool)
    view = capture.views[i]
    for o, other in enumerate(capture.views):
        if o != i:
            out |= check_consistency(
                *(view.camera, view.pose, depths[i], other.camera, other.pose, depths[o]), *(1.0, 0.01)
            ).consistent
    return out


def best_threshold(confidence: Tensor, right: Tensor, wrong: float = 0.01) -> float:
    """The largest share of pixels that the confidence can keep of which no more than `wrong` are wrong, times how
    many of them are right."""
    ranked = right[confidence.argsort(descending=True)].double()
    share = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    good = (share >= 1 - wrong).nonzero()
    return float(ranked[: int(good.max()) + 1].sum() / len(ranked)) if len(good) else 0.0


def measure(name: str, data: Path, runs: Path, stereo: Stereo, gates: bool) -> dict[str, Any]:
    capture, truth = posed(name, data, runs)
    few = three(name, [v.name for v in capture.views], data)
    cache = runs / name / f"known_{SIZE}.pt"
    if truth is not None:
        known = [torch.where(covisible(capture, truth, i), truth[i], 0) for i in few]
    elif cache.exists():
        known = torch.load(cache)
    else:
        views, pairs = stereo.views(capture)
        searched = stereo.search(views, pairs, Silent())
        passed = hard_gates(views, pairs, searched)
        known = [torch.where(passed[i], searched[i].planes.depth, 0) for i in few]
        torch.save(known, cache)
    small = capture.select([i in few for i in range(len(capture.views))])
    small = small.in_memory()
    started = time.perf_counter()
    views, pairs = stereo.views(small)
    searched = stereo.search(views, pairs, Silent())
    maps = [stereo.depth_map(views, searched, i, others) for i, others in enumerate(pairs)]
    seconds = time.perf_counter() - started
    passed = hard_gates(views, pairs, searched)
    rows = []
    for i, (view, found, depth) in enumerate(zip(small.views, maps, known, strict=True)):
        reference = depth > 0
        measured = passed[i] if gates else found.measured
        if gates:
            found = replace(found, confidence=passed[i].float())
        surface = ViewSurface(view, found, (view.camera.width, view.camera.height))
        completed = surface.completed(0.0).depth

        def right(d: Tensor, reference: Tensor = reference, depth: Tensor = depth) -> Tensor:
            return reference & ((d / depth - 1).abs() < WRONG)

        raw, filled = right(found.depth), right(completed)
        rest, refused = reference & ~measured, reference & ~passed[i]
        best = best_threshold(found.confidence[reference], raw[reference])
        rows.append(
            {
                "kept": (raw & measured).sum() / reference.sum(),
                "wrong": (reference & measured & ~raw).sum() / (reference & measured).sum(),
                "right": raw.sum() / reference.sum(),
                "best": torch.tensor(best),
                "completed": (filled & rest).sum() / rest.sum(),
                "refused": (filled & refused).sum() / refused.sum(),
            }
        )
    return {**{k: 100 * float(sum(r[k] for r in rows) / len(rows)) for k in rows[0]}, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(os.environ.get("SPLAT_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=root)
    parser.add_argument("--runs", type=Path, required=True, help="runs of all photos, and the traced scenes")
    parser.add_argument("--captures", default=",".join(CAPTURES))
    parser.add_argument("--gates", action="store_true", help="hard gates instead of the probability")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for name in arguments.captures.split(","):
        figures[name] = measure(name, arguments.data, arguments.runs, Stereo(), arguments.gates)
        print(f"{name:14}", "  ".join(f"{k} {v:.1f}" for k, v in figures[name].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
