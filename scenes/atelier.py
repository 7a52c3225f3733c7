"""`atelier`: a textured room with things at several depths, and 24 photos of a walk through it.

Frozen: changing a number here changes what every figure measured on this scene means.
"""

from __future__ import annotations

import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.scenes import noise, prints, textures
from splat.scenes.furnish import Room, turned, wooden
from splat.scenes.noise import Canvas, Number
from splat.scenes.shot import Session, Shot, smooth_drift
from splat.scenes.solids import Surface
from splat.scenes.texels import Texture
from splat.scenes.trace import Light, Scene

VIEWS = 24
WIDTH, HEIGHT, FOCAL = 640, 480, 540.0
NOISE = 2 / 255
DRIFT_EV = 0.3
GAIN = 0.64
HALF_WIDTH, FRONT, BACK, CEILING = 2.6, -2.8, 3.2, 2.8
"""The room: |x| <= HALF_WIDTH, FRONT <= y <= BACK, 0 <= z <= CEILING (metres)."""


def scene(detail: Number, seed: int) -> Scene:
    """`detail` scales the resolution of textures and baked light."""
    room = Room(detail, 100 + seed)
    _shell(room)
    _against_the_walls(room)
    _table(room)
    _on_the_floor(room)
    lights = (
        Light((-HALF_WIDTH + 0.01, -0.9, 1.65), (0, 0.75, 0), (0, 0, 0.7), (21.0, 22.0, 24.0)),
        Light((0.5, 0.2, CEILING - 0.02), (0.6, 0, 0), (0, -0.6, 0), (7.5, 6.6, 5.4), 3),
        Light((HALF_WIDTH - 0.01, -1.6, 1.7), (0, -0.5, 0), (0, 0, 0.6), (7.0, 7.2, 7.8), 3),
    )
    return Scene(tuple(room.solids), lights, light_texel=0.055 / max(detail, 0.25) ** 0.75, gain=GAIN)


def _picture(room: Room, width: Number, height: Number, density: Number) -> Canvas:
    return room.canvas(width, height, density)


def _shell(room: Room) -> None:
    w, depth = 2 * HALF_WIDTH, BACK - FRONT
    y = (BACK + FRONT) / 2
    half = depth / 2
    z = CEILING / 2
    floor = Texture(textures.boards(room.canvas(w, depth, 330), 1))
    room.wall((0, y, 0), (w / 2, 0, 0), (0, half, 0), Surface(floor), name="floor")
    plaster = Texture(textures.plaster(room.canvas(w, CEILING, 220), 2))
    room.wall((0, BACK, z), (w / 2, 0, 0), (0, 0, z), Surface(plaster), name="back wall")
    bricks = Texture(textures.bricks(room.canvas(depth, CEILING, 260), 3))
    room.wall((-HALF_WIDTH, y, z), (0, half, 0), (0, 0, z), Surface(bricks), name="brick wall")
    paper = Texture(textures.wallpaper(room.canvas(depth, CEILING, 260), 4))
    room.wall((HALF_WIDTH, y, z), (0, -half, 0), (0, 0, z), Surface(paper), name="papered wall")
    white = Texture(textures.plaster(Canvas(w, depth, 40 * room.detail), 5, "#e6e1d6"))
    room.wall((0, y, CEILING), (w / 2, 0, 0), (0, -half, 0), Surface(white), name="ceiling")
    room.wall((0, FRONT, z), (-w / 2, 0, 0), (0, 0, z), Surface(white), name="front wall")
    rug = Texture(textures.cloth(room.canvas(2.7, 1.9, 420), 6, ("#7a2e2a", "#c9a25d", "#2f4a5c", "#d9cdb0")))
    room.box((0.15, 1.05, 0.006), (2.7, 1.9, 0.012), room.plain("#8a6a4a"), yaw=-4, faces={5: Surface(rug)}, name="rug")
    skirting = wooden(60, 200 * room.detail, "#d7cbb4", "#b5a88e")
    room.box((0, BACK - 0.01, 0.06), (w, 0.02, 0.12), skirting, name="skirting")
    room.box((-HALF_WIDTH + 0.01, y, 0.06), (0.02, depth, 0.12), skirting, name="skirting")
    room.box((HALF_WIDTH - 0.01, y, 0.06), (0.02, depth, 0.12), skirting, name="skirting")


def _against_the_walls(room: Room) -> None:
    walnut = wooden(61, 420 * room.detail, "#8a5a34", "#3f2412")
    left, right, front, back = -2.15, -0.75, 2.86, 3.18
    heights = (0.12, 0.50, 0.88, 1.24, 1.58, 1.90)
    room.bookcase(left, right, front, back, heights, walnut)
    for i, (a, b) in enumerate(((0.0, 1.0), (0.0, 0.62), (0.3, 1.0), (0.0, 1.0), (0.0, 0.7))):
        span = right - left - 0.06
        room.book_row(
            left + 0.03 + a * span, left + 0.03 + b * span, front + 0.02, heights[i], 0.24, 0.29, 200 + i, 520
        )
    pot = Surface(Texture(textures.glaze(room.canvas(0.5, 0.25, 600), 62, ("#c9a25d", "#2f4a5c", "#efe6cf"), 5)))
    room.cylinder((-0.98, 3.0, heights[1]), 0.085, 0.24, pot, room.plain("#3b2c20"), name="jar")
    room.ball((-1.96, 3.0, heights[2] + 0.12), (0.11, 0.11, 0.12), pot, name="jar")
    room.box((-1.9, 3.0, heights[4] + 0.0 + 0.0 + 0.02), (0.2, 0.15, 0.04), walnut, name="box")

    canvas = _picture(room, 1.05, 0.78, 460)
    hills = ("#7fa6c0", "#d9b48c", "#6b7f8e", "#4f6a4d", "#9a8a3d", "#3c4a33")
    room.picture((0.25, BACK, 1.72), (1, 0, 0), (1.05, 0.78), prints.landscape(canvas, 63, hills), canvas, "#6b4a2a",
                 mat=0.06)  # fmt: skip
    canvas = _picture(room, 0.9, 1.2, 460)
    room.picture((1.55, BACK, 1.75), (1, 0, 0), (0.9, 1.2), prints.chart(canvas, 64), canvas, "#2c2a28")

    oak = wooden(65, 420 * room.detail, "#b4834f", "#6d4422")
    room.box((1.15, 2.93, 0.42), (1.5, 0.46, 0.66), oak, name="sideboard")
    for i in range(3):
        canvas = room.canvas(0.46, 0.56, 450)
        door = prints.framed(canvas, textures.wood(canvas, 66 + i, "#a9713c", "#5c3516"),
                               textures.wood(canvas, 70 + i, "#c49256", "#7b4c25", along_x=False), 0.055)  # fmt: skip
        x = 0.66 + 0.49 * i
        room.box((x, 2.695, 0.42), (0.46, 0.012, 0.56), oak, faces={2: Surface(Texture(door))}, name="door")
        room.ball((x + 0.15, 2.675, 0.45), (0.018, 0.02, 0.018), room.plain("#b79a4f"), name="knob")
    room.box((1.15, 2.93, 0.045), (1.3, 0.36, 0.09), oak, name="plinth")
    glaze = Surface(Texture(textures.glaze(room.canvas(0.75, 0.36, 520), 74, ("#a33b3f", "#efe6cf", "#33363f"), 6)))
    room.ball((0.62, 2.92, 0.75 + 0.16), (0.12, 0.12, 0.16), glaze, name="vase")
    room.cylinder((0.62, 2.92, 0.75 + 0.30), 0.045, 0.10, glaze, room.plain("#26211d"), name="vase neck")
    room.book_row(1.35, 1.80, 2.80, 0.75, 0.24, 0.27, 210, 520)
    canvas = _picture(room, 0.34, 0.26, 800)
    art = prints.framed(canvas, prints.landscape(canvas, 75, ("#e0b48a", "#f0dcae", "#8a5a5c", "#3f3a52")),
                          textures.wood(canvas, 76, "#d9c08a", "#8a6a3a"), 0.025)  # fmt: skip
    lean = np.array([[1, 0, 0], [0, np.cos(-0.25), -np.sin(-0.25)], [0, np.sin(-0.25), np.cos(-0.25)]])
    room.box(
        (1.02, 2.86, 0.75 + 0.13), (0.34, 0.02, 0.26), walnut, 8, lean, {2: Surface(Texture(art))}, "small picture"
    )

    canvas = _picture(room, 0.95, 1.3, 460)
    inks = ("#c23b2e", "#e0b23a", "#2d5f8a", "#2b2b2b", "#6f9a7c", "#d8cfbb")
    room.picture((-HALF_WIDTH, 1.45, 1.55), (0, 1, 0), (0.95, 1.3), prints.composition(canvas, 77, inks), canvas,
                 "#2c2a28")  # fmt: skip
    canvas = _picture(room, 0.6, 0.8, 460)
    room.picture((-HALF_WIDTH, 2.55, 1.65), (0, 1, 0), (0.6, 0.8), prints.page(canvas, 78, 3), canvas, "#a9834f", 0.004)
    canvas = _picture(room, 1.1, 0.8, 460)
    dusk = ("#3d4a6b", "#e0a070", "#6a5a7a", "#4a4660", "#2f3a4a", "#20242c")
    room.picture(
        (HALF_WIDTH, 1.75, 1.65), (0, -1, 0), (1.1, 0.8), prints.landscape(canvas, 79, dusk), canvas, "#b08d4f"
    )
    canvas = _picture(room, 0.6, 0.6, 460)
    room.picture(
        (HALF_WIDTH, 2.72, 1.6), (0, -1, 0), (0.6, 0.6), prints.composition(canvas, 80, inks, 5), canvas, "#d8cfbb"
    )


def _table(room: Room) -> None:
    oak = wooden(81, 600 * room.detail, "#c08d58", "#6b4222")
    top = Surface(Texture(textures.wood(room.canvas(1.5, 0.85, 700), 82, "#bb8750", "#63391b")))
    room.table((-0.25, 1.05, 0), (1.5, 0.85, 0.76), top, oak, yaw=6)
    z = 0.76
    sheet = room.canvas(0.30, 0.42, 1300)
    room.box((-0.42, 0.86, z + 0.003), (0.30, 0.42, 0.006), room.plain("#d8d2c0"), 20,
             faces={5: Surface(Texture(prints.page(sheet, 83)))}, name="newspaper")  # fmt: skip
    pile = room.book_pile((-0.76, 1.08, z), 84, 4, 1100)
    cup = Surface(Texture(textures.glaze(room.canvas(0.28, 0.1, 900), 85, ("#e8e0cc", "#3f7a7a", "#2b2b2b"), 4)))
    room.cylinder((-0.74, 1.08, pile), 0.045, 0.10, cup, room.plain("#4a2f1e"), name="cup")
    vase = Surface(Texture(textures.glaze(room.canvas(0.8, 0.5, 800), 86, ("#2f4a5c", "#e3d8be", "#b65a36"), 9)))
    room.ball((-0.12, 1.22, z + 0.17), (0.13, 0.13, 0.17), vase, name="vase")
    room.cylinder((-0.12, 1.22, z + 0.31), 0.05, 0.12, vase, room.plain("#1d1a18"), name="vase neck")
    for i, (lean, code) in enumerate(
        (((0.35, 0.1, 1), "#4f6a4d"), ((-0.3, 0.15, 1), "#6f7a3d"), ((0.05, -0.3, 1), "#5d5a34"))
    ):
        room.cylinder((-0.12, 1.22, z + 0.36), 0.006, 0.36 - 0.04 * i, room.plain(code), lean=lean, name="stem")
        tip = np.array([-0.12, 1.22, z + 0.36]) + np.array(lean) / np.linalg.norm(lean) * (0.36 - 0.04 * i)
        petals = noise.fractal(Canvas(0.3, 0.15, 500 * room.detail), 0.05, 0.006, 87 + i, gain=0.8, wrap=True)
        head = noise.colour(("#c9603a", "#d9b84a", "#8d3f5c")[i]) * (1 + 0.28 * petals)[..., None]
        room.ball(tuple(tip.tolist()), (0.05, 0.05, 0.045), Surface(Texture(np.clip(head, 0, 1))), name="flower")
    globe = Surface(Texture(textures.globe(room.canvas(0.9, 0.45, 900), 90)))
    room.cylinder((0.30, 1.12, z), 0.075, 0.02, room.plain("#3a2a1c"), name="globe foot")
    room.cylinder((0.30, 1.12, z + 0.02), 0.012, 0.05, room.plain("#b79a4f"), name="globe stem")
    angle = 0.41
    tilt = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]) @ turned(-110)
    room.ball((0.30, 1.12, z + 0.07 + 0.145), (0.145, 0.145, 0.145), globe, tilt, gloss=0.25, name="globe")
    box = room.canvas(0.16, 0.09, 1000)
    room.box((0.02, 0.82, z + 0.045), (0.16, 0.11, 0.09), oak, -24,
             faces={2: Surface(Texture(prints.crate(box, 91, "TEA")))}, name="tea box")  # fmt: skip
    room.box((0.30, 0.86, z + 0.004), (0.21, 0.15, 0.008), room.plain("#7a2e2a"), 33,
             faces={5: Surface(Texture(prints.chart(room.canvas(0.21, 0.15, 1200), 92)))}, name="card")  # fmt: skip


def _on_the_floor(room: Room) -> None:
    pine = wooden(93, 420 * room.detail, "#c49a63", "#7b5530")
    for i, (centre, side, yaw, label) in enumerate((
        ((1.35, 1.25, 0.26), 0.52, 28.0, "ATELIER"), ((1.42, 1.22, 0.70), 0.36, 4.0, "NORTH"),
    )):  # fmt: skip
        sides = [Surface(Texture(prints.crate(room.canvas(side, side, 650), 94 + 7 * i + f, label))) for f in range(2)]
        room.box(centre, (side, side, side), pine, yaw, faces=dict(zip(range(4), sides * 2)), name="crate")
    z = 0.012
    seat = Surface(Texture(textures.wood(room.canvas(0.36, 0.36, 800), 110, "#b5824d", "#5f3a1c")))
    room.cylinder((0.62, 0.35, 0.43), 0.18, 0.035, pine.cut(1.1, 0.04, room.rng), seat, name="stool")
    for turn in (20, 140, 260):
        x, y = 0.62 + 0.17 * np.cos(np.radians(turn)), 0.35 + 0.17 * np.sin(np.radians(turn))
        lean = (-0.18 * np.cos(np.radians(turn)), -0.18 * np.sin(np.radians(turn)), 1.0)
        room.cylinder(
            (float(x), float(y), z), 0.018, 0.435, pine.cut(0.11, 0.43, room.rng), lean=lean, name="stool leg"
        )
    pot = Surface(Texture(textures.glaze(room.canvas(0.7, 0.18, 900), 111, ("#b65a36", "#e8d9b8", "#4f6a4d"), 4)))
    room.cylinder((0.62, 0.35, 0.465), 0.105, 0.17, pot, room.plain("#32241a"), name="pot")
    leaves = noise.fractal(Canvas(0.8, 0.4, 500 * room.detail), 0.10, 0.008, 112, gain=0.85, wrap=True)
    green = noise.mix(noise.colour("#3f5f34"), noise.colour("#9ab068"), np.clip(0.5 + 0.45 * leaves, 0, 1))
    room.ball((0.62, 0.35, 0.465 + 0.25), (0.13, 0.13, 0.12), Surface(Texture(green)), name="bush")
    weave = room.canvas(1.15, 0.42, 600)
    basket = Surface(Texture(textures.cloth(weave, 113, ("#8a6a3d", "#c9a869", "#6b4d28", "#b08d52"))))
    room.cylinder((-1.55, 0.75, 0), 0.185, 0.42, basket, room.plain("#1f1812"), name="basket")
    for i, (lean, tall) in enumerate((((0.16, 0.1, 1), 0.85), ((-0.2, 0.05, 1), 0.75), ((0.02, 0.22, 1), 0.95))):
        roll = prints.page(room.canvas(0.22, 0.9, 500), 114 + i, 1, ("#e9e4d4", "#c9d2d4", "#e3d2ae")[i])
        base = (-1.55 + 0.05 * (i - 1), 0.75 + 0.03 * i, 0.02)
        room.cylinder(base, 0.035, tall, Surface(Texture(roll)), room.plain("#cfc7b2"), lean=lean, name="paper roll")
    stripes = room.canvas(1.25, 0.63, 500)
    ball = textures.glaze(stripes, 117, ("#c23b2e", "#f0e6cc", "#2d5f8a"), 6)
    roll = turned(40) @ np.array([[1, 0, 0], [0, np.cos(0.9), -np.sin(0.9)], [0, np.sin(0.9), np.cos(0.9)]])
    room.ball((0.55, 1.85, 0.2 + z), (0.2, 0.2, 0.2), Surface(Texture(ball)), roll, name="ball")
    room.cylinder((2.25, 2.6, 0.0), 0.15, 0.03, room.plain("#33302c"), name="lamp foot")
    room.cylinder((2.25, 2.6, 0.03), 0.016, 1.35, room.plain("#8d7a4a"), name="lamp pole")
    shade = textures.cloth(room.canvas(1.3, 0.34, 420), 118, ("#d9cba6", "#c2a66a", "#e9e0c6", "#a9843f"))
    room.cylinder((2.25, 2.6, 1.36), 0.2, 0.32, Surface(Texture(shade)), room.plain("#e6dcc0"), name="lamp shade")
    room.box((-2.3, 1.9, 0.22), (0.45, 0.7, 0.44), pine, -3, name="chest",
             faces={f: Surface(Texture(prints.crate(room.canvas(s, 0.44, 500), 119 + f, "TIMBER")))
                    for f, s in ((1, 0.7), (2, 0.45))})  # fmt: skip
    room.book_pile((-2.3, 1.85, 0.44), 125, 5, 700)


def walk(views: int) -> list[Rigid]:
    """`world_from_cam`: to the right along an arc at eye height, then back a step closer and lower, as one holds a
    camera: never quite level, never quite on the path."""
    rng = np.random.default_rng([7, 51])
    poses = []
    wobble = rng.standard_normal((VIEWS, 6))
    for i in np.linspace(0, VIEWS - 1, views).round().astype(int).tolist():
        there = i < VIEWS // 2
        s = i / (VIEWS // 2 - 1) if there else (VIEWS - 1 - i) / (VIEWS // 2 - 1)
        turn = np.radians(-27 + 54 * s)
        radius, height = (3.15, 1.52) if there else (2.70, 1.24)
        jitter = wobble[i] * np.array([0.03, 0.03, 0.02, 0.05, 0.04, np.radians(1.2)])
        middle = np.array([0.0, 1.45])
        eye = np.array([middle[0] + radius * np.sin(turn) + jitter[0], middle[1] - radius * np.cos(turn) + jitter[1],
                        height + 0.05 * np.sin(i * 0.9) + jitter[2]])  # fmt: skip
        target = np.array([0.12 + 0.35 * np.sin(turn) + jitter[3], 1.9, 0.90 + jitter[4]])
        pose = Rigid.look_at(torch.tensor(eye), torch.tensor(target), torch.tensor([0.0, 0.0, 1.0]))
        roll = rotation_from_axis_angle(torch.tensor([0.0, 0.0, float(jitter[5])], dtype=torch.float64))
        poses.append(Rigid(pose.rotation @ roll, pose.translation))
    return poses


def session(views: int | None, scale: Number, seed: int) -> Session:
    """What was photographed, from where, and how the camera saw it."""
    views = VIEWS if views is None else views
    camera = Camera(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT).scaled(scale)
    drift = smooth_drift(views, DRIFT_EV)
    shots = tuple(
        Shot(f"atelier_{i:02d}.jpg", camera, pose, ev)
        for i, (pose, ev) in enumerate(zip(walk(views), drift, strict=True))
    )
    return Session(lambda: scene(scale, 0), shots, NOISE, seed)
