"""`street`: 200 photos along a street that bends for 126 m between two rows of houses, none of which sees both ends.

Frozen: changing a number here changes what every figure measured on this scene means.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.scenes import noise, prints, textures
from splat.scenes.furnish import COVERS, Room
from splat.scenes.noise import Canvas, Number
from splat.scenes.shot import Session, Shot
from splat.scenes.solids import Surface
from splat.scenes.texels import Texture
from splat.scenes.trace import Light, Scene

VIEWS = 200
WIDTH, HEIGHT, FOCAL = 320, 240, 250.0
NOISE = 2 / 255
GAIN = 1.0
RADIUS, BEND = 60.0, 2.1
"""Metres and radians of the arc that the middle of the street is; x is to the right of who stands at its beginning."""
HALF_WIDTH = 5.0
"""Metres from the middle to the houses."""
LENGTH = RADIUS * BEND
YAW = 52.0
"""Degrees that photos look to the left and to the right of where the street leads, in turn."""
_DENSITY = 55.0  # texels per metre at detail 1: a pixel is about 2 cm wide on the houses


def place(along: Number, aside: Number = 0.0) -> tuple[float, float, float]:
    """x, y and heading (radians from +x) at so many metres from the beginning and to the right of the middle. The
    street begins towards +y and bends to the right."""
    turn = along / RADIUS
    radius = RADIUS - aside
    return float(RADIUS - radius * np.cos(turn)), float(radius * np.sin(turn)), float(np.pi / 2 - turn)


def scene(detail: Number, seed: int, length: Number = LENGTH) -> Scene:
    """Two rows of houses, cobbles, things on the pavements, a wall at either end, and clouds above it all."""
    room = Room(detail, 500 + seed)
    for side in (-1, 1):
        _houses(room, side, length)
    _ground(room, length)
    _ends(room, length)
    _on_the_pavements(room, length)
    light = Light((-10.0, -45.0, 85.0), (7.0, 0, 0), (0, -6.2, -3.3), (115.0, 110.0, 100.0), 2)
    return Scene(
        tuple(room.solids), (light,), sky=(0.50, 0.53, 0.58), light_texel=0.5 / max(detail, 0.25) ** 0.75, gain=GAIN
    )


def _facade(room: Room, width: Number, height: Number, seed: int) -> Surface:
    """A wall with rows of windows, a door and a sign."""
    canvas = room.canvas(width, height, _DENSITY)
    rng = np.random.default_rng([seed, 71])
    paints = ("#d9cfbd", "#c9b08a", "#b8c4c0", "#d8b4a0", "#e2d6b0", "#a9b59a")
    kind = seed % 3
    if kind == 0:
        wall = textures.bricks(canvas, seed, 0.45, 0.16)
    elif kind == 1:
        wall = textures.plaster(canvas, seed, paints[seed % len(paints)])
    else:
        wall = textures.wallpaper(canvas, seed, paints[seed % len(paints)], paints[(seed + 2) % len(paints)])
    x, y = canvas.xy()
    columns, floors = max(2, int(width / 1.9)), max(1, int(height / 2.7))
    frame, cloth = (noise.colour(c) for c in COVERS[seed % len(COVERS)])
    for floor in range(floors):
        for column in range(columns):
            u = (column + 0.5 + rng.uniform(-0.06, 0.06)) * width / columns
            v = height - (floor + 0.5) * height / floors + rng.uniform(-0.1, 0.1)
            w, h = rng.uniform(0.38, 0.55), rng.uniform(0.6, 0.85)
            door = floor == 0 and column == int(rng.integers(columns))
            h = 1.05 if door else h
            v = height - 1.0 if door else v
            inside, pane = (np.abs(x - u) < w) & (np.abs(y - v) < h), (np.abs(x - u) < w - 0.07)
            wall = np.where(inside[..., None], frame, wall)
            curtain = np.clip(0.5 + 0.5 * np.sin((x - u) * rng.uniform(20, 45)) * np.ones(canvas.shape), 0, 1)
            ink = noise.mix(noise.colour("#1f2830"), cloth, curtain * rng.uniform(0.2, 0.9))
            bars = (np.abs(x - u) > 0.02) & (np.abs(y - v) > 0.02)
            if door:
                bars, ink = np.ones(canvas.shape, bool), noise.mix(frame, cloth, 0.3 + 0.4 * curtain)
            wall = np.where((inside & pane & (np.abs(y - v) < h - 0.07) & bars)[..., None], ink, wall)
    size = rng.uniform(0.28, 0.42)
    word = prints.WORDS[seed % len(prints.WORDS)]
    sign = prints.stamp(canvas, word, 0.08 * width, height - 2.55, size)
    wall = noise.mix(wall.astype(np.float32), noise.colour(COVERS[(seed + 5) % len(COVERS)][0]), 0.9 * sign)
    return Surface(Texture(np.clip(noise.grain(canvas, wall, 0.05, seed + 7), 0, 1).astype(np.float32)))


def _houses(room: Room, side: int, length: Number) -> None:
    """A row without gaps: each house stands a little further forward or back, and is of its own height."""
    rng = np.random.default_rng([side + 1, 73])
    along, number = -3.0, 0
    roof, plain = room.plain("#7a4638"), room.plain("#b5a48c")
    while along < length + 3:
        width = float(rng.uniform(4.6, 7.4))
        height, back = float(rng.uniform(4.6, 7.6)), float(rng.uniform(0.0, 0.7))
        depth = 3.0
        # on the inner side of the bend the same angle spans fewer metres, on the outer side more
        x, y, heading = place(along + width / 2, side * (HALF_WIDTH + back + depth / 2))
        span = width * (RADIUS - side * (HALF_WIDTH + back)) / RADIUS + 0.3
        seed = 510 + 40 * (side + 1) + number
        face = _facade(room, span, height, seed)
        # the box's y axis points away from the street on the left, towards it on the right
        faces = {2 if side < 0 else 3: face, 5: roof}
        room.box(
            (x, y, height / 2), (span, depth, height), plain, float(np.degrees(heading)), faces=faces, name="house"
        )
        along, number = along + width, number + 1


def _ground(room: Room, length: Number) -> None:
    step, width = 10.5, 2 * HALF_WIDTH + 3
    for i, along in enumerate(np.arange(-step, length + 2 * step, step).tolist()):
        x, y, heading = place(along)
        canvas = room.canvas(step + 3, width, 40.0)
        picture = textures.bricks(canvas, 600 + i, 0.5, 0.28)
        grey = noise.mix(picture, picture.mean(2, keepdims=True) * noise.colour("#b9b6ae") * 1.5, 0.8)
        ground = Surface(Texture(np.clip(grey, 0, 1).astype(np.float32)))
        a, b = np.array([np.cos(heading), np.sin(heading), 0.0]), np.array([-np.sin(heading), np.cos(heading), 0.0])
        half_a, half_b = (a * (step + 3) / 2).tolist(), (b * width / 2).tolist()
        # neighbours overlap at the outside of the bend: a millimetre says which one is seen
        room.wall((x, y, -0.001 * (i % 2)), tuple(half_a), tuple(half_b), ground, casts=False, name="ground")
    canvas = Canvas(220.0, 220.0, 4.0 * max(room.detail, 0.5))
    clouds = noise.smoothstep(-0.6, 1.6, noise.fractal(canvas, 20.0, 0.8, 650, gain=0.65))
    picture = noise.mix(noise.colour("#7fa6cc"), noise.colour("#f4f2ec"), clouds)
    above = Surface(Texture(np.clip(picture, 0, 1)), tint=(2.6, 2.6, 2.6))
    room.wall((40.0, 40.0, 13.0), (110.0, 0, 0), (0, -110.0, 0), above, casts=False, name="clouds")


def _ends(room: Room, length: Number) -> None:
    """A wall across the street at either end."""
    for name, along, seed in (("first end", -3.2, 660), ("last end", length + 3.2, 670)):
        x, y, heading = place(along)
        face = _facade(room, 2 * HALF_WIDTH + 4, 6.0, seed)
        yaw = float(np.degrees(heading)) + 90.0
        room.box((x, y, 3.0), (2 * HALF_WIDTH + 4, 0.4, 6.0), room.plain("#8d7f6b"), yaw,
                 faces={2: face, 3: face}, name=name)  # fmt: skip


def _on_the_pavements(room: Room, length: Number) -> None:
    """Trees, posts, crates and balls, one every few metres on either side."""
    rng = np.random.default_rng([3, 79])
    leaves = [
        Surface(Texture(textures.glaze(room.canvas(2.0, 1.0, 90), 680 + i, inks, 9)))
        for i, inks in enumerate((("#3f5c33", "#7f9a4d", "#2b4024"), ("#6a7f3a", "#a9b55e", "#46552a")))
    ]
    glazes = [
        Surface(Texture(textures.glaze(room.canvas(1.2, 0.6, 120), 690 + i, (*COVERS[3 * i], "#e8dfc8"), 5)))
        for i in range(4)
    ]
    crates = [Surface(Texture(prints.crate(room.canvas(0.7, 0.7, 120), 700 + i, w)))
              for i, w in enumerate(("TEA", "FISH", "TIMBER", "COPPER"))]  # fmt: skip
    trunk, iron = room.plain("#6b4a2a"), room.plain("#3a4248")
    along, number = 1.0, 0
    while along < length - 1:
        side = -1 if number % 2 else 1
        x, y, _ = place(along, side * float(rng.uniform(3.1, 3.9)))
        match int(rng.integers(5)):
            case 0:
                room.cylinder((x, y, 0.0), 0.11, 1.7, trunk, name="trunk")
                room.ball((x, y, 2.2), (0.75, 0.75, 0.8), leaves[number % 2], name="tree")
            case 1:
                room.cylinder((x, y, 0.0), 0.06, 2.6, iron, name="post")
                room.ball((x, y, 2.7), (0.2, 0.2, 0.24), glazes[number % 4], name="lamp")
            case 2:
                size = float(rng.uniform(0.5, 0.9))
                room.box((x, y, size / 2), (size, size, size), trunk, float(rng.uniform(0, 90)),
                         faces={f: crates[(number + f) % 4] for f in range(6)}, name="crate")  # fmt: skip
            case 3:
                room.ball((x, y, 0.42), (0.42, 0.42, 0.42), glazes[number % 4], name="ball")
            case _:
                room.cylinder((x, y, 0.0), 0.32, 0.85, glazes[(number + 1) % 4], name="barrel")
        along, number = along + float(rng.uniform(1.6, 2.8)), number + 1


def walked(i: int) -> float:
    """Metres from the beginning at which photo i is taken."""
    return 1.0 + (LENGTH - 7.0) * i / (VIEWS - 1)


def walk(views: int) -> Iterator[Rigid]:
    """`world_from_cam` of the first photos: down the street at eye height, looking ahead to the left and to the right
    in turn."""
    rng = np.random.default_rng([11, 83])
    wobble = rng.standard_normal((VIEWS, 4)) * np.array([0.12, 0.04, 3.0, 0.03])
    for i in range(views):
        side = 1 if i % 2 else -1
        x, y, heading = place(walked(i), -0.9 * side + wobble[i, 0])
        angle = heading - side * np.radians(YAW + wobble[i, 2])
        eye = np.array([x, y, 1.62 + wobble[i, 1]])
        target = eye + np.array([np.cos(angle), np.sin(angle), 0.03 + wobble[i, 3]])
        yield Rigid.look_at(torch.tensor(eye), torch.tensor(target), torch.tensor([0.0, 0.0, 1.0]))


def session(views: int | None, scale: Number, seed: int) -> Session:
    """What was photographed, from where, and how the camera saw it. Fewer photos are those of the beginning, as close
    to each other, of a street that ends soon behind them."""
    count = VIEWS if views is None else min(views, VIEWS)
    camera = Camera(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT).scaled(scale)
    shots = tuple(Shot(f"street_{i:03d}.jpg", camera, pose) for i, pose in enumerate(walk(count)))
    length = walked(count - 1) + 6.0
    return Session(lambda: scene(scale, 0, length), shots, NOISE, seed, posed=True)
