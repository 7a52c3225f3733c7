"""Random ray-traced scenes with exact depth, from which `fit_stereo.py` learns when stereo is right, and
`train_refiner.py` what renders get wrong.

They are varied rather than beautiful: rooms and open places, walls with and without texture, boxes, balls and posts,
twigs and leaves, photographed as a grid, an arc or at random, with narrow and wide baselines.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from splat.bench.scenes import load_scenes
from splat.core.camera import Camera
from splat.core.geometry import Rigid

load_scenes()

from splat.scenes import noise, prints, textures  # noqa: E402
from splat.scenes.furnish import Room  # noqa: E402
from splat.scenes.noise import Canvas  # noqa: E402
from splat.scenes.render import render  # noqa: E402
from splat.scenes.solids import Solid, Surface  # noqa: E402
from splat.scenes.texels import Texture, srgb_from_linear  # noqa: E402
from splat.scenes.trace import Scene  # noqa: E402

WIDTH, HEIGHT = 448, 336
COLOURS = ("#7a2e2a", "#c9a25d", "#2f4a5c", "#d9cdb0", "#4f6a4d", "#b65a36", "#22262e", "#8d93a0", "#3f7a7a", "#e6cfa0")


@dataclass(frozen=True, eq=False)
class Photographed:
    """Photos of one scene with what is true of them."""

    camera: Camera
    poses: list[Rigid]
    rgb: Tensor
    """[v h w 3] in [0, 1], sharp and without noise."""
    depth: Tensor
    """[v h w] z at pixel centres; 0 where there is nothing."""


@dataclass(frozen=True, eq=False)
class Staged:
    """A scene that any camera may look at, and where photos are taken from."""

    scene: Scene
    camera: Camera
    poses: list[Rigid]
    sky: np.ndarray

    def photograph(self, poses: list[Rigid]) -> Photographed:
        pictures = [render(self.scene, self.camera, p, inner=2, edges=3) for p in poses]
        rgb = [srgb_from_linear(p.rgb * p.alpha[..., None] + self.sky * (1 - p.alpha[..., None])) for p in pictures]
        return Photographed(
            self.camera,
            poses,
            torch.from_numpy(np.stack(rgb).astype(np.float32)).clamp(0, 1),
            torch.from_numpy(np.stack([p.depth for p in pictures]).astype(np.float32)),
        )


def staged(seed: int, photos: int, width: int) -> Staged:
    """Scene `seed` with `photos` positions, for photos `width` px wide."""
    rng = np.random.default_rng([seed, 71])
    scene, middle, distance = _scene(rng, seed)
    focal = float(rng.uniform(0.75, 1.35)) * WIDTH
    camera = Camera(focal, focal, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT).scaled(width / WIDTH)
    poses = _poses(rng, photos, middle, distance)
    return Staged(scene, camera, poses, np.array(rng.uniform(0.4, 1.0, 3), np.float32))


def photograph(seed: int, photos: int = 7, width: int = WIDTH) -> Photographed:
    """Scene `seed` from `photos` positions, each photo `width` px wide."""
    stage = staged(seed, photos, width)
    return stage.photograph(stage.poses)


def _surfaces(rng: np.random.Generator, seed: int) -> list[Material]:
    """Materials of all kinds, some of them nearly blank."""

    def pick(count: int) -> tuple[str, ...]:
        return tuple(COLOURS[k] for k in rng.choice(len(COLOURS), count, replace=False))

    c = Canvas(1.0, 1.0, float(rng.uniform(160, 420)))
    s = 100 * seed
    pictures: list[Any] = [
        textures.wood(c, s + 1, *pick(2)),
        textures.boards(c, s + 2),
        textures.plaster(c, s + 3, pick(1)[0]),
        textures.plaster(c, s + 4),
        textures.bricks(c, s + 5),
        textures.wallpaper(c, s + 6, *pick(2)),
        textures.cloth(c, s + 7, pick(4)),
        textures.glaze(c, s + 8, pick(3), 6),
        prints.page(c, s + 9),
        prints.landscape(c, s + 10, pick(6)),
        prints.composition(c, s + 11, pick(5)),
        prints.composition(c, s + 12, pick(3), 3),
    ]
    grain = float(rng.choice([0.02, 0.08, 0.2]))
    rough = [noise.grain(c, p, grain, s + 20 + k) for k, p in enumerate(pictures)]
    codes = pick(3)
    blank = [noise.colour(code) * np.ones((*c.shape, 1), np.float32) for code in codes]
    faint = [noise.grain(c, p, float(rng.choice([0.0, 0.02, 0.06])), s + 40 + k) for k, p in enumerate(blank)]
    shaded = [np.clip(p * rng.uniform(0.5, 1.0), 0, 1).astype(np.float32) for p in (*rough, *faint)]
    return [Material(Surface(Texture(p)), p) for p in shaded]


@dataclass(frozen=True, eq=False)
class Material:
    once: Surface
    picture: np.ndarray

    def repeated(self, times: int) -> Surface:
        """The picture side by side, as floors and walls have it."""
        return Surface(Texture(np.ascontiguousarray(np.tile(self.picture[::2, ::2], (times, times, 1)))))


def _scene(rng: np.random.Generator, seed: int) -> tuple[Scene, np.ndarray, float]:
    """A scene, what the cameras look at, and from how far."""
    room = Room(1.0, 1000 + seed)
    materials = _surfaces(rng, seed)

    def one() -> Material:
        return materials[int(rng.integers(len(materials)))]

    def material() -> Surface:
        return one().once

    indoors, back = rng.random() < 0.65, float(rng.uniform(1.0, 4.5))
    room.wall((0, 0, 0), (8, 0, 0), (0, 8, 0), one().repeated(6), name="floor")
    if indoors:
        room.wall((0, back, 2), (8, 0, 0), (0, 0, 2.5), one().repeated(5), name="back")
        side = float(rng.uniform(1.8, 4))
        room.wall((-side, 0, 2), (0, 8, 0), (0, 0, 2.5), one().repeated(5), name="left")
        room.wall((side, 0, 2), (0, -8, 0), (0, 0, 2.5), one().repeated(5), name="right")
        room.wall((0, 0, 4.2), (8, 0, 0), (0, -8, 0), material(), name="ceiling")
    elif rng.random() < 0.7:
        far = back * float(rng.uniform(1.5, 5))
        room.wall((0, far, 2), (3 * far, 0, 0), (0, 0, 3.0), one().repeated(6), name="hedge")
    for _ in range(int(rng.integers(3, 14))):
        x, y = float(rng.uniform(-1.4, 1.4)), float(rng.uniform(-1.0, min(back, 2.0) - 0.3))
        size = rng.uniform(0.1, 0.6, 3) * float(rng.choice([0.6, 1.0, 1.6]))
        z = float(rng.choice([0.0, 0.0, rng.uniform(0, 1.4)]))
        kind = rng.random()
        if kind < 0.5:
            room.box((x, y, z + size[2] / 2), (size[0], size[1], size[2]), material(), float(rng.uniform(0, 90)))
        elif kind < 0.75:
            room.ball((x, y, z + size[2] / 2), (size[0] / 2, size[1] / 2, size[2] / 2), material())
        else:
            room.cylinder((x, y, z), size[0] / 3, size[2] * 1.5, material(), lean=(0, float(rng.uniform(-0.3, 0.3)), 1))
    if rng.random() < 0.6:
        _plant(room, rng, materials, int(rng.integers(30, 200)))
    middle = np.array([rng.uniform(-0.2, 0.2), min(0.5, back / 2), rng.uniform(0.4, 0.9)])
    scene = Scene(tuple(room.solids), (), gain=float(rng.uniform(0.7, 1.1)))
    return scene, middle, float(rng.uniform(2.0, 3.6))


def _plant(room: Room, rng: np.random.Generator, materials: Sequence[Material], leaves: int) -> None:
    """Twigs from one place and leaves round them: thin things at many depths."""
    root = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 0.6), rng.uniform(0, 0.6)])
    reach = float(rng.uniform(0.4, 1.1))
    for _ in range(leaves):
        turn = rng.normal(size=3) * np.array([1, 1, 0.7]) + np.array([0, 0, 0.6])
        turn /= np.linalg.norm(turn)
        at = root + turn * reach * rng.uniform(0.2, 1)
        if rng.random() < 0.2:
            room.cylinder(tuple(root), float(rng.uniform(0.004, 0.02)), reach, materials[0].once, lean=tuple(turn))
            continue
        u = rng.normal(size=3)
        u /= np.linalg.norm(u)
        v = np.cross(u, rng.normal(size=3))
        v /= np.linalg.norm(v)
        u, v = u * rng.uniform(0.02, 0.13), v * rng.uniform(0.015, 0.05)
        normal = np.cross(u, v)
        frame = np.stack([u, v, normal / np.linalg.norm(normal), at], 1)
        room.solids.append(Solid("quad", frame, (materials[int(rng.integers(len(materials)))].once,), name="leaf"))
        back = np.stack([v, u, -normal / np.linalg.norm(normal), at], 1)
        room.solids.append(Solid("quad", back, (materials[int(rng.integers(len(materials)))].once,), name="leaf"))


def _poses(rng: np.random.Generator, photos: int, middle: np.ndarray, distance: float) -> list[Rigid]:
    """A grid as of a light field, an arc, or anywhere in front; angles between neighbours from 2 to 20 degrees."""
    kind, step = rng.integers(3), np.radians(float(np.exp(rng.uniform(np.log(2), np.log(16)))))
    poses = []
    for i in range(photos):
        if kind == 0:
            columns = int(np.ceil(np.sqrt(photos)))
            yaw, pitch = (i % columns - (columns - 1) / 2) * step, 0.25 + (i // columns - 1) * 0.8 * step
        elif kind == 1:
            yaw, pitch = (i - (photos - 1) / 2) * step, 0.25 + 0.1 * np.sin(i)
        else:
            yaw, pitch = rng.normal() * 1.6 * step, 0.28 + 0.8 * rng.normal() * step
        yaw, pitch = yaw + rng.normal() * 0.1 * step, float(np.clip(pitch, 0.03, 1.1))
        away = distance * (1 + 0.12 * rng.normal())
        eye = middle + away * np.array([np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
        target = middle + rng.normal(size=3) * 0.08
        up = np.array([0.05 * rng.normal(), 0.0, 1.0])
        poses.append(Rigid.look_at(torch.tensor(eye), torch.tensor(target), torch.tensor(up)))
    return poses
