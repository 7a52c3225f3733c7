"""`shelf`: a bookcase seen from the front, 12 photos on a small grid of positions, as LLFF captures are taken.

Frozen: changing a number here changes what every figure measured on this scene means.
"""

from __future__ import annotations

import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.scenes import prints, textures
from splat.scenes.furnish import Room, turned, wooden
from splat.scenes.noise import Number
from splat.scenes.shot import Session, Shot
from splat.scenes.solids import Surface
from splat.scenes.texels import Texture
from splat.scenes.trace import Light, Scene

COLUMNS, ROWS = 4, 3
WIDTH, HEIGHT, FOCAL = 640, 480, 560.0
NOISE = 2 / 255
GAIN = 1.15
STEP = 0.16
"""Metres between neighbouring positions."""


def scene(detail: Number, seed: int) -> Scene:
    room = Room(detail, 300 + seed)
    wall = Texture(textures.plaster(room.canvas(4.4, 3.0, 260), 301, "#c9d0c4"))
    room.wall((0, 0.36, 1.3), (2.2, 0, 0), (0, 0, 1.5), Surface(wall), name="wall")
    boards = Texture(textures.boards(room.canvas(4.4, 3.4, 200), 302))
    room.wall((0, -1.34, -0.2), (2.2, 0, 0), (0, 1.7, 0), Surface(boards), name="floor")
    oak = wooden(303, 620 * detail, "#b98550", "#6a4121")
    left, right, front, back = -0.80, 0.80, -0.02, 0.32
    heights = (0.50, 0.88, 1.26, 1.66)
    room.bookcase(left, right, front, back, heights, oak, floor=0.40)
    for i, (a, b) in enumerate(((0.0, 0.58), (0.40, 1.0), (0.0, 0.46))):
        span = right - left - 0.06
        room.book_row(
            left + 0.03 + a * span, left + 0.03 + b * span, front + 0.03, heights[i], 0.24, 0.29, 310 + i, 900
        )
    _things(room, heights)
    lights = (
        Light((-1.6, -1.9, 2.3), (0.5, -0.4, 0.0), (0.25, 0.3, 0.5), (13.0, 13.4, 14.2)),
        Light((1.4, -1.6, 2.4), (0.3, 0.3, 0), (0.2, -0.2, 0.35), (6.0, 5.2, 4.2), 3),
    )
    return Scene(
        tuple(room.solids), lights, sky=(0.42, 0.43, 0.45), light_texel=0.035 / max(detail, 0.25) ** 0.75, gain=GAIN
    )


def _things(room: Room, heights: tuple[Number, ...]) -> None:
    glaze = Surface(Texture(textures.glaze(room.canvas(0.7, 0.4, 900), 320, ("#2f4a5c", "#e8dfc8", "#c9a25d"), 7)))
    room.ball((0.30, 0.12, heights[0] + 0.13), (0.10, 0.10, 0.13), glaze, name="vase")
    room.cylinder((0.30, 0.12, heights[0] + 0.24), 0.04, 0.09, glaze, room.plain("#22201d"), name="vase neck")
    room.book_pile((0.58, 0.14, heights[0]), 321, 5, 1000)
    globe = Surface(Texture(textures.globe(room.canvas(0.75, 0.38, 1000), 322)))
    tilt = np.array([[0.92, 0, 0.39], [0, 1, 0], [-0.39, 0, 0.92]]) @ turned(-60)
    room.cylinder((-0.52, 0.10, heights[1]), 0.07, 0.05, room.plain("#3a2a1c"), name="globe foot")
    room.ball((-0.52, 0.10, heights[1] + 0.16), (0.115, 0.115, 0.115), globe, tilt, gloss=0.2, name="globe")
    tea = [Surface(Texture(prints.crate(room.canvas(0.18, 0.18, 1000), 323 + f, "TEA"))) for f in range(2)]
    room.box((-0.25, 0.12, heights[1] + 0.09), (0.18, 0.18, 0.18), room.plain("#b08550"), 24,
             faces=dict(zip(range(4), tea * 2)), name="tea box")  # fmt: skip
    canvas = room.canvas(0.30, 0.24, 1000)
    hills = ("#7fa6c0", "#e9cfa0", "#6a7f9a", "#4f6a4d", "#39442f")
    frame = textures.wood(canvas, 326, "#6b4a2a", "#2a1c12")
    art = prints.framed(canvas, prints.landscape(canvas, 325, hills), frame, 0.022)
    lean = np.array([[1, 0, 0], [0, np.cos(-0.2), -np.sin(-0.2)], [0, np.sin(-0.2), np.cos(-0.2)]])
    room.box((0.16, 0.17, heights[2] + 0.125), (0.30, 0.02, 0.24), room.plain("#6b4a2a"), -6, lean,
             {2: Surface(Texture(art))}, "small picture")  # fmt: skip
    cup = Surface(Texture(textures.glaze(room.canvas(0.3, 0.11, 1000), 327, ("#e8e0cc", "#a33b3f", "#2b2b2b"), 4)))
    room.cylinder((0.42, 0.06, heights[2]), 0.048, 0.11, cup, room.plain("#4a2f1e"), name="cup")
    rings = Surface(Texture(textures.glaze(room.canvas(0.6, 0.3, 900), 328, ("#4f6a4d", "#e8d9b8", "#b65a36"), 5)))
    room.ball((0.62, 0.12, heights[2] + 0.12), (0.11, 0.11, 0.12), rings, turned(50), name="jar")
    page = Surface(Texture(prints.chart(room.canvas(0.5, 0.36, 700), 329)))
    room.box((-1.22, 0.35, 1.25), (0.5, 0.01, 0.36), room.plain("#d8cfbb"), faces={2: page}, name="map")
    page = Surface(
        Texture(prints.composition(room.canvas(0.44, 0.6, 700), 330, ("#c23b2e", "#2d5f8a", "#e0b23a", "#2b2b2b")))
    )
    room.box((1.16, 0.35, 1.15), (0.44, 0.01, 0.6), room.plain("#d8cfbb"), faces={2: page}, name="print")
    room.book_pile((-0.45, 0.16, heights[3]), 331, 3, 900)
    room.cylinder((0.2, 0.15, heights[3]), 0.09, 0.16, glaze, room.plain("#32241a"), name="pot")


def poses(views: int) -> list[Rigid]:
    """`world_from_cam` on a slightly uneven grid, row by row, all looking about straight ahead."""
    rng = np.random.default_rng([9, 53])
    wobble = rng.standard_normal((COLUMNS * ROWS, 6)) * np.array([0.02, 0.03, 0.02, 0.03, 0.03, 0.02])
    found = []
    for i in np.linspace(0, COLUMNS * ROWS - 1, views).round().astype(int).tolist():
        row, column = divmod(i, COLUMNS)
        column = column if row % 2 == 0 else COLUMNS - 1 - column
        x, z = (column - (COLUMNS - 1) / 2) * STEP, 1.12 - (row - (ROWS - 1) / 2) * STEP
        eye = torch.tensor([x, -1.75, z]) + torch.tensor(wobble[i, :3])
        target = torch.tensor([0.35 * x, 0.15, 1.08 + 0.35 * (z - 1.12)]) + torch.tensor(
            [wobble[i, 3], 0, wobble[i, 4]]
        )
        found.append(Rigid.look_at(eye, target, torch.tensor([wobble[i, 5], 0.0, 1.0])))
    return found


def session(views: int | None, scale: Number, seed: int) -> Session:
    """What was photographed, from where, and how the camera saw it."""
    views = COLUMNS * ROWS if views is None else views
    camera = Camera(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT).scaled(scale)
    shots = tuple(Shot(f"shelf_{i:02d}.jpg", camera, pose) for i, pose in enumerate(poses(views)))
    return Session(lambda: scene(scale, 0), shots, NOISE, seed)
