"""Fit the model that tells how probably a depth of dense stereo is right (`priors/stereo_confidence.json`).

    python scripts/fit_stereo.py --work DIR [--scenes 40] [--out FILE] [--stage search|fit]

Random ray-traced scenes (`stereo_scenes.py`) are photographed, the photos degraded as cameras and pose estimation do
(blur, noise, exposure, vignetting, JPEG, errors of the poses), and subsets of two to six are matched. Every pixel is an
example: the numbers of `stereo_features`, and whether the depth is within 5 % of the true one. Every fifth scene is
held out to see whether probabilities are calibrated. Real captures have no part in it. Seeded.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stereo_scenes import Photographed, photograph

from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.core.slots import Silent
from splat.priors.stereo import Stereo
from splat.priors.stereo_confidence import WEIGHTS
from splat.priors.stereo_features import NAMES
from splat.priors.stereo_search import StereoView, grey_of

RIGHT = 0.05
SUBSETS = 3
HIDDEN = (24, 16)
HELD_OUT = 5
"""Every so manieth scene."""


def degraded(rgb: Tensor, rng: np.random.Generator, gain: float, blur: float, noise: float, quality: int) -> Tensor:
    """A photo [h w 3] as a camera would have stored it, in grey values of 0 ... 255."""
    image = rgb.numpy().astype(np.float32)
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    h, w = image.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    far = ((x / w - 0.5) ** 2 + (y / h - 0.5) ** 2) * 2
    image = image * np.float32(gain) * (1 - np.float32(rng.uniform(0, 0.25)) * far)[..., None]
    image = image + np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    eight = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    eight = cv2.imdecode(cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return grey_of(torch.from_numpy(eight).float() / 255)


def subset(scene: Photographed, seed: int) -> tuple[list[StereoView], list[int]]:
    """Some photos of a scene, degraded, with poses that are a little wrong, and the range of the search."""
    rng = np.random.default_rng([seed, 73])
    count = min(len(scene.poses), int(rng.choice([2, 3, 3, 3, 4, 5, 6])))
    chosen = sorted(rng.choice(len(scene.poses), count, replace=False).tolist())
    blur, noise = float(rng.uniform(0, 1.1)), float(rng.uniform(0, 6)) / 255
    error = float(np.exp(rng.uniform(np.log(0.03), np.log(0.7))))  # px
    quality, spread = int(rng.integers(70, 97)), float(rng.uniform(0, 0.3))
    views = []
    for i in chosen:
        turn = torch.tensor(rng.normal(size=3)) * error / scene.camera.fx
        pose = scene.poses[i]
        pose = Rigid(pose.rotation @ rotation_from_axis_angle(turn), pose.translation)
        own_blur = blur * float(rng.choice([1, 1, 1, 1.7]))
        grey = degraded(scene.rgb[i], rng, float(2 ** rng.normal(0, spread)), own_blur, noise, quality)
        depth = scene.depth[i]
        d = depth[depth > 0]
        near, far = float(d.quantile(0.01)), float(d.quantile(0.99))
        views.append(StereoView(scene.camera, pose, grey, (near * rng.uniform(0.5, 0.9), far * rng.uniform(1.2, 3))))
    return views, chosen


def pairs_of(views: list[StereoView], sources: int) -> list[list[int]]:
    """The nearest others of each view."""
    centres = torch.stack([v.world_from_cam.translation for v in views])
    far = torch.cdist(centres, centres)
    return [[j for j in far[i].argsort().tolist() if j != i][:sources] for i in range(len(views))]


def searched(number: int, folder: Path, stereo: Stereo) -> list[Path]:
    """Files with the matched subsets of scene `number`, made where they are missing."""
    files = [folder / f"{number:03}_{k}.pt" for k in range(SUBSETS)]
    if not all(f.exists() for f in files):
        scene = photograph(number)
        for k, file in enumerate(files):
            views, chosen = subset(scene, 10 * number + k)
            pairs = pairs_of(views, stereo.sources)
            found = stereo.search(views, pairs, Silent(), seed=number)
            torch.save((views, pairs, found, [scene.depth[i] for i in chosen]), file)
    return files


def examples(file: Path, stereo: Stereo, per_view: int = 4000) -> tuple[Tensor, Tensor]:
    """Features [n f] of random pixels, and whether their depth is right [n]."""
    views, pairs, found, depths = torch.load(file, weights_only=False)
    generator = torch.Generator().manual_seed(int(file.stem.replace("_", "")))
    xs, ys = [], []
    for i, (others, depth) in enumerate(zip(pairs, depths, strict=True)):
        values = stereo.features(views, found, i, others).flatten(1)
        ids = torch.randint(values.shape[1], (per_view,), generator=generator)
        error = (found[i].planes.depth / depth.clamp_min(1e-9) - 1).abs()
        xs.append(values[:, ids].T)
        ys.append(((error < RIGHT) & (depth > 0)).reshape(-1)[ids])
    return torch.cat(xs), torch.cat(ys)


def fitted(x: Tensor, y: Tensor, seed: int = 0, epochs: int = 15) -> torch.nn.Sequential:
    """A network of two hidden layers that gives the logit of the probability. Inputs are normalized by its first layer;
    noise on them keeps it from leaning on what only ray-traced photos have."""
    torch.manual_seed(seed)
    mean, std = x.mean(0), x.std(0).clamp_min(1e-3)
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], HIDDEN[0]), torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN[0], HIDDEN[1]), torch.nn.ReLU(), torch.nn.Linear(HIDDEN[1], 1),
    )  # fmt: skip
    x = ((x - mean) / std).clamp(-6, 6)
    batch, steps = 4096, epochs * (len(x) // 4096)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    target = y.float()
    for step in range(steps):
        if step % (len(x) // batch) == 0:
            shuffled = torch.randperm(len(x))
            at = 0
        ids = shuffled[at : at + batch]
        at += batch
        noisy = x[ids] + 0.1 * torch.randn(len(ids), x.shape[1])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(noisy)[:, 0], target[ids])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        net[0].weight /= std
        net[0].bias -= net[0].weight @ mean
    return net


def report_calibration(p: Tensor, y: Tensor) -> None:
    """Of held-out pixels: how many of those of about the same probability are right."""
    edges = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0001])
    for low, high in itertools.pairwise(edges.tolist()):
        inside = (p >= low) & (p < high)
        if bool(inside.any()):
            share, right = float(inside.float().mean()), float(y[inside].float().mean())
            print(f"  said {low:.2f} ... {min(high, 1):.2f}: {100 * right:5.1f} % right of {100 * share:4.1f} %")


def save(net: torch.nn.Sequential, file: Path) -> None:
    linear = [m for m in net if isinstance(m, torch.nn.Linear)]
    rows = [
        {"weight": [[float(f"{v:.5g}") for v in row] for row in m.weight.tolist()],
         "bias": [float(f"{v:.5g}") for v in m.bias.tolist()]}
        for m in linear
    ]  # fmt: skip
    file.write_text(json.dumps({"features": list(NAMES), "layers": rows}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="matched photos are kept here")
    parser.add_argument("--scenes", default="0:40", help="numbers of the scenes, first:last")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--only-search", action="store_true", help="match, but do not fit")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    first, last = (int(v) for v in arguments.scenes.split(":"))
    stereo, parts = Stereo(), []
    for number in range(first, last):
        files = searched(number, arguments.work, stereo)
        print(f"scene {number}", flush=True)
        if not arguments.only_search:
            parts += [(number, *examples(f, stereo)) for f in files]
    if arguments.only_search:
        return
    x, held_x = (torch.cat([p[1] for p in parts if (p[0] % HELD_OUT == 0) == held]) for held in (False, True))
    y, held_y = (torch.cat([p[2] for p in parts if (p[0] % HELD_OUT == 0) == held]) for held in (False, True))
    print(f"{len(x)} pixels, {100 * float(y.float().mean()):.1f} % right; {len(held_x)} held out")
    net = fitted(x, y)
    with torch.no_grad():
        p = net(held_x)[:, 0].sigmoid()
    report_calibration(p, held_y)
    for wrong in (0.005, 0.01, 0.02):
        print(f"  kept at {100 * wrong:.1f} % wrong: {100 * best_share(p, held_y, wrong):.1f} %")
    save(net, arguments.out)


def best_share(p: Tensor, right: Tensor, wrong: float) -> float:
    """The largest share of pixels that a threshold can keep with at most `wrong` of them wrong, those excluded."""
    ranked = right[p.argsort(descending=True)].double()
    good = (ranked.cumsum(0) / torch.arange(1, len(ranked) + 1) >= 1 - wrong).nonzero()
    return float(ranked[: int(good.max()) + 1].sum() / ranked.sum()) if len(good) else 0.0


if __name__ == "__main__":
    main()
