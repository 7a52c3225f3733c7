"""Renders with planted mistakes of the street's photos, for tests of refiners: exact depth, known truth."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from street import FOCAL, street

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.core.slots import ReferencePhoto, RefinerPair, RenderedView

WIDTH, HEIGHT = 160, 120


def photos(count: int = 6) -> list[ReferencePhoto]:
    """Photos of the street, small, with their exact depth."""
    out = []
    for v in street(count):
        h, w = v.depth.shape
        # the street's pixels are centred at whole numbers
        camera = Camera(FOCAL, FOCAL, w / 2 + 0.5, h / 2 + 0.5, w, h).resized(WIDTH, HEIGHT)
        rgb = cv2.resize(v.bgr[..., ::-1].copy(), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        depth = v.depth[1::3, 1::3]  # the middle of each block of 3 x 3
        pose = Rigid(torch.tensor(v.rotation), torch.tensor(v.translation)).inverse()
        out.append(ReferencePhoto(camera, pose, torch.from_numpy(rgb).float() / 255, torch.from_numpy(depth.copy())))
    return out


def damaged(rgb: torch.Tensor, seed: int) -> torch.Tensor:
    """Blurred, with translucent floaters before it."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rgb.numpy(), (0, 0), 1.5)
    for _ in range(12):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(4, 14)
        grid = np.mgrid[:HEIGHT, :WIDTH]
        cover = 0.8 * np.exp(-((grid[1] - x) ** 2 + (grid[0] - y) ** 2) / r**2)[..., None]
        image = image * (1 - cover) + cover * rng.uniform(0, 1, 3)
    return torch.from_numpy(image.astype(np.float32)).clamp(0, 1)


def pairs(count: int = 6) -> list[RefinerPair]:
    """For each photo a damaged render of it, and the other photos, nearest first."""
    shown = photos(count)
    out = []
    for i, p in enumerate(shown):
        view = RenderedView(p.camera, p.world_from_cam, damaged(p.rgb, i), (p.depth > 0).float(), p.depth)
        others = sorted((j for j in range(count) if j != i), key=lambda j: abs(j - i))
        out.append(RefinerPair(view, tuple(shown[j] for j in others[:2]), p.rgb, f"{i}.jpg"))
    return out


def with_targets(found: list[RefinerPair], targets: list[torch.Tensor]) -> list[RefinerPair]:
    return [replace(p, target=t) for p, t in zip(found, targets, strict=True)]
