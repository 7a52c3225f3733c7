"""`orbit`: a toy lighthouse on its rock, on nothing, with alpha: 36 photos to train on and 8 to test, all around.

Frozen: changing a number here changes what every figure measured on this scene means.
"""

from __future__ import annotations

import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.scenes import noise, prints, textures
from splat.scenes.furnish import Room, turned, wooden
from splat.scenes.noise import Number
from splat.scenes.shot import Session, Shot
from splat.scenes.solids import Surface
from splat.scenes.texels import Texture
from splat.scenes.trace import Light, Scene

TRAIN, TEST = 36, 8
SIZE, FOCAL = 400, 540.0
NOISE = 1 / 255
GAIN = 0.85
DISTANCE = 4.5


def scene(detail: Number, seed: int) -> Scene:
    room = Room(detail, 400 + seed)
    _island(room)
    _tower(room)
    _house(room)
    lights = (
        Light((-3.0, -2.5, 4.5), (0.9, -1.0, 0), (0.55, 0.45, 0.85), (11.0, 10.6, 9.8)),
        Light((3.5, 1.5, 3.0), (0, 0.6, 0), (-0.4, 0, -0.5), (4.5, 4.8, 5.4), 3),
    )
    return Scene(
        tuple(room.solids), lights, sky=(0.40, 0.43, 0.48), light_texel=0.035 / max(detail, 0.25) ** 0.75, gain=GAIN
    )


def _mottled(
    room: Room, width: Number, height: Number, seed: int, dark: str, light: str, density: Number = 320.0
) -> Surface:
    canvas = room.canvas(width, height, density)
    value = noise.fractal(canvas, width / 8, 0.01, seed, gain=0.8, wrap=True)
    ink = noise.mix(noise.colour(dark), noise.colour(light), np.clip(0.5 + 0.4 * value, 0, 1))
    return Surface(Texture(np.clip(ink, 0, 1)))


def _island(room: Room) -> None:
    sea = room.canvas(1.9, 1.9, 420)
    waves = noise.fractal(sea, 0.25, 0.012, 401, gain=0.75, stretch=(1.6, 0.8))
    water = noise.mix(noise.colour("#27567a"), noise.colour("#a9d0d6"), np.clip(0.35 + 0.3 * waves, 0, 1))
    foam = noise.smoothstep(1.0, 2.0, noise.fractal(sea, 0.3, 0.012, 402, gain=0.8))
    face = Surface(Texture(np.clip(noise.mix(water, noise.colour("#eef4f2"), 0.8 * foam), 0, 1)))
    side = Surface(Texture(prints.crate(room.canvas(1.9, 0.12, 420), 403, "LIGHT")))
    pine = wooden(404, 420 * room.detail, "#c49a63", "#7b5530")
    room.box((0, 0, -0.81), (1.9, 1.9, 0.12), pine, faces={5: face, **dict.fromkeys(range(4), side)}, name="sea")
    for i, (centre, radii) in enumerate((
        ((-0.18, 0.10, -0.72), (0.62, 0.58, 0.30)), ((0.30, -0.12, -0.74), (0.52, 0.46, 0.22)),
        ((0.05, 0.42, -0.75), (0.38, 0.34, 0.20)), ((-0.55, -0.38, -0.76), (0.20, 0.24, 0.14)),
        ((0.66, 0.40, -0.76), (0.16, 0.14, 0.12)),
    )):  # fmt: skip
        rock = _mottled(room, 2.4, 1.2, 410 + i, "#4d4a44", "#b5ad98")
        room.ball(centre, radii, rock, turned(37.0 * i), name="rock")


def _tower(room: Room) -> None:
    at = (-0.20, 0.10)
    canvas = room.canvas(1.5, 0.95, 420)
    x, y = canvas.xy()
    inks = np.stack([noise.colour("#efe8da"), noise.colour("#b5382c")])
    stripes = inks[np.floor(5 * y / canvas.height + 2 * x / canvas.width).astype(int) % 2]
    worn = noise.fractal(canvas, 0.3, 0.008, 420, gain=0.75, wrap=True)
    flakes = noise.smoothstep(1.5, 1.9, noise.fractal(canvas, 0.12, 0.01, 421, gain=0.8, wrap=True))
    stripes = noise.mix(stripes * (0.92 + 0.10 * worn)[..., None], noise.colour("#8a7d6a"), 0.7 * flakes)
    for i in range(6):
        u, v = (0.17 * i + 0.08) % 1 * canvas.width, (0.12 + 0.14 * i) * canvas.height
        window = (np.abs(x - u) < 0.035) & (np.abs(y - v) < 0.05)
        pane = (np.abs(x - u) < 0.026) & (np.abs(y - v) < 0.041) & (np.abs(x - u) > 0.004)
        stripes = np.where(window[..., None], noise.colour("#5a3a22"), stripes)
        stripes = np.where(pane[..., None], noise.colour("#2a3440"), stripes)
    coat = Surface(Texture(np.clip(stripes, 0, 1).astype(np.float32)))
    stone = _mottled(room, 1.9, 0.2, 422, "#6a6258", "#c9bfa8")
    room.cylinder((*at, -0.52), 0.30, 0.16, stone, name="foot")
    room.cylinder((*at, -0.36), 0.23, 0.85, coat, stone, name="tower")
    iron = room.plain("#2c3138")
    deck = Surface(Texture(textures.wood(room.canvas(0.7, 0.7, 420), 423, "#9a6f45", "#4a2f1a")))
    room.cylinder((*at, 0.49), 0.33, 0.045, iron, deck, name="gallery")
    for i in range(12):
        angle = 2 * np.pi * i / 12
        base = (at[0] + 0.30 * float(np.cos(angle)), at[1] + 0.30 * float(np.sin(angle)), 0.535)
        room.cylinder(base, 0.012, 0.12, iron, name="railing")
    lamp = Surface(Texture(textures.glaze(room.canvas(0.95, 0.24, 500), 424, ("#f2d98a", "#33363f", "#f7efcf"), 4)))
    room.cylinder((*at, 0.535), 0.15, 0.24, lamp, name="lantern")
    roof = Surface(Texture(textures.bricks(room.canvas(1.3, 0.6, 420), 425, 0.09, 0.045)))
    room.ball((*at, 0.775), (0.21, 0.21, 0.17), roof, name="roof")
    room.ball((*at, 0.97), (0.035, 0.035, 0.05), room.plain("#d9b84a"), gloss=0.3, name="knob")


def _house(room: Room) -> None:
    walls = [
        Surface(Texture(textures.bricks(room.canvas(s, 0.3, 520), 430 + i, 0.10, 0.04)))
        for i, s in enumerate((0.34, 0.46))
    ]
    pine = wooden(432, 420 * room.detail, "#8a4a34", "#4a2418")
    room.box((0.34, -0.14, -0.42), (0.46, 0.34, 0.30), pine, 24,
             faces={0: walls[0], 1: walls[0], 2: walls[1], 3: walls[1]}, name="house")  # fmt: skip
    tiles = Surface(Texture(textures.bricks(room.canvas(0.52, 0.28, 520), 433, 0.06, 0.04)))
    for side in (-1, 1):
        angle = side * 0.72
        tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        middle = np.array([0.34, -0.14, -0.185]) + turned(24) @ np.array([0, -side * 0.10, 0.0])
        centre = (float(middle[0]), float(middle[1]), float(middle[2]))
        room.box(centre, (0.52, 0.28, 0.025), pine, 24, tilt, {4: tiles, 5: tiles}, "roof")
    room.box((0.44, -0.02, -0.10), (0.07, 0.07, 0.24), walls[0], 24, name="chimney")
    crates = [Surface(Texture(prints.crate(room.canvas(0.15, 0.15, 800), 436 + f, "FISH"))) for f in range(2)]
    room.box((0.26, -0.52, -0.675), (0.15, 0.15, 0.15), pine, 50, faces=dict(zip(range(4), crates * 2)), name="crate")
    barrel = Surface(Texture(textures.glaze(room.canvas(0.55, 0.16, 700), 438, ("#8a5a34", "#3f2412", "#c9a25d"), 4)))
    room.cylinder((0.62, -0.50, -0.75), 0.075, 0.17, barrel, name="barrel")
    room.ball((-0.62, 0.52, -0.69), (0.10, 0.10, 0.10),
              Surface(Texture(textures.glaze(room.canvas(0.6, 0.3, 600), 439, ("#d96a2a", "#f4eadb", "#d96a2a"), 5))),
              gloss=0.3, name="buoy")  # fmt: skip


def poses(count: int, first_turn: Number, low: Number, high: Number) -> list[Rigid]:
    """`world_from_cam` once around at elevations (degrees) that swing between `low` and `high`."""
    found = []
    for i in range(count):
        turn = 2 * np.pi * (i + first_turn) / count
        tilt = np.radians((low + high) / 2 + (high - low) / 2 * np.sin(2.4 * i + 0.5))
        eye = DISTANCE * np.array([np.cos(turn) * np.cos(tilt), np.sin(turn) * np.cos(tilt), np.sin(tilt)])
        found.append(Rigid.look_at(torch.tensor(eye), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])))
    return found


def session(views: int | None, scale: Number, seed: int) -> Session:
    """What was photographed, from where, and how the camera saw it. `views` counts the training photos."""
    camera = Camera(FOCAL, FOCAL, SIZE / 2, SIZE / 2, SIZE, SIZE).scaled(scale)
    train = TRAIN if views is None else views
    test = TEST if views is None else max(1, round(views * TEST / TRAIN))
    shots = [Shot(f"train_{i:02d}.png", camera, p) for i, p in enumerate(poses(train, 0.0, 5, 55))]
    shots += [Shot(f"test_{i:02d}.png", camera, p, test=True) for i, p in enumerate(poses(test, 0.4, 12, 48))]
    return Session(lambda: scene(scale, 0), tuple(shots), NOISE, seed, transparent=True)
