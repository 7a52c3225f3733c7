"""Fit the model that tells how probably a depth of dense stereo is right (`priors/stereo_confidence.json`).

    python scripts/fit_stereo.py --work DIR [--scenes 40] [--out FILE] [--stage search|fit]

Random ray-traced scenes (`stereo_scenes.py`) are photographed, the photos degraded as cameras and pose estimation do
(blur, noise, exposure, vignetting, JPEG, errors of the poses), and subsets of two to six are matched. Every pixel is an
example: the numbers of `stereo_features`, and whether the depth is within 5 % of the true one. Every fifth scene is
held out to see whether probabilities are calibrated. Real captures have no part in it. Seeded.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
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
from splat.priors.stereo_search import StereoView, grey_of

RIGHT = 0.05
SUBSETS = 3
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
    count = int(rng.choice([2, 3, 3, 3, 4, 5, 6]))
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


def examples(file: Path, stereo: Stereo, per_view: int = 5000) -> tuple[Tensor, Tensor]:
    """Features [n f] of random pixels, and whether their depth is right [n]."""
    views, pairs, found, depths = torch.load(file, weights_only=False)
    generator = torch.Generator().manual_seed(hash(file.stem) % 1000 if False else int(file.stem[:3]))
    xs, ys = [], []
    for i, (others, depth) in enumerate(zip(pairs, depths, strict=True)):
        values = stereo.features(views, found, i, others).flatten(1)
        ids = torch.randint(values.shape[1], (per_view,), generator=generator)
        error = (found[i].planes.depth / depth.clamp_min(1e-9) - 1).abs()
        xs.append(values[:, ids].T)
        ys.append(((error < RIGHT) & (depth > 0)).reshape(-1)[ids])
    return torch.cat(xs), torch.cat(ys)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        searched(number, folder, Stereo())
        print(number, flush=True)
