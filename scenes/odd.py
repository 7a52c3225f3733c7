"""Odd captures, made out of the photos of `atelier` and their exact depth: what a method must survive, one at a time.

`make("sky", truth, folder)` writes `folder/images/`, `transforms.json` (exact poses), `split.json` and, where a capture
has them, `masks/`. Changes are painted at the size of `truth` and then averaged down, so that their edges are as smooth
as those of the rest. What is painted is a property of the world, seen through the exposure of each photo.

Frozen: changing a number here changes what every figure measured on these captures means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.geometry import Rigid
from splat.core.image import read_pixels, write_png
from splat.core.resampling import resize_area
from splat.scenes import Truth, atelier
from splat.scenes.shot import opengl
from splat.scenes.texels import srgb_from_linear

SCALE = 1.25
"""Of `atelier`, for photos of 400 x 300."""
SHRINK = 2
"""Pixels of the truth on a side of a photo's pixel."""
TEST_EVERY = 8
HANGS = 0.05
"""What is nearer to a wall than this belongs to it, pictures included (metres)."""
PAINT = (0.42, 0.38, 0.30)
WALLS_END = 0.9
"""Walls are gone above this height where there is sky (metres)."""
BALL_RADIUS = 0.3
BALL_EVERY = 4
SMALLER, SMALLER_EVERY = 0.6, 2
CROP, CROP_EVERY = (0.15, 0.75), 3
"""First and last column that is left, as a share of the width: landscape becomes portrait, its middle off-centre."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One photo on its way from the truth to the capture."""

    number: int
    """Among the photos to train on, or among those held out."""
    trained: bool
    camera: Camera
    world_from_cam: Rigid
    gain: float
    """Of the photo's exposure, in linear light."""
    depth: np.ndarray
    """float32 [h w], metres along z; infinite where nothing is seen."""
    pixels: np.ndarray
    """uint8 [h w 3]."""
    use: np.ndarray | None = None
    """bool [h w], False where the photo shows what is not to be learnt; None: no mask."""

    def points(self) -> np.ndarray:
        """World points [h w 3] at pixel centres, metres."""
        return self.eye() + self.depth[..., None] * self.rays()

    def rays(self) -> np.ndarray:
        """World directions [h w 3] through pixel centres, of unit z in the camera's frame."""
        c = self.camera
        pixels = c.pixel_centres().numpy().astype(np.float64)
        x, y = (pixels[..., 0] - c.cx) / c.fx, (pixels[..., 1] - c.cy) / c.fy
        found: np.ndarray = np.stack([x, y, np.ones_like(x)], -1) @ self.world_from_cam.rotation.numpy().T
        return found

    def eye(self) -> np.ndarray:
        found: np.ndarray = self.world_from_cam.translation.numpy()
        return found

    def painted(self, where: np.ndarray, linear: np.ndarray) -> Seen:
        """With radiance `linear` [h w 3] where `where` [h w] says."""
        new = (srgb_from_linear(linear * self.gain) * 255 + 0.5).astype(np.uint8)
        return replace(self, pixels=np.where(where[..., None], new, self.pixels))


Change = Callable[[Seen], Seen]


def _same(seen: Seen) -> Seen:
    return seen


def blank_wall(seen: Seen) -> Seen:
    """The wall at the back, its pictures included, in one colour that neither light nor place changes."""
    p = seen.points()
    return seen.painted((p[..., 1] > atelier.BACK - HANGS) & (p[..., 2] > 0.13), np.broadcast_to(PAINT, p.shape))


def sky(seen: Seen) -> Seen:
    """All walls and the ceiling open above WALLS_END. Nothing of the scene is behind them, so no photo misses it."""
    x, y, z = np.moveaxis(seen.points(), -1, 0)
    outside = (np.abs(x) > atelier.HALF_WIDTH - HANGS) | (y > atelier.BACK - HANGS) | (z > atelier.CEILING - HANGS)
    return seen.painted((outside | (y < atelier.FRONT + HANGS)) & (z > WALLS_END), sky_colour(seen.rays()))


def sky_colour(directions: np.ndarray) -> np.ndarray:
    """Radiance [... 3] of the sky in world directions [... 3] of any length: pale at the horizon, bluer above, with a
    broad glow on one side."""
    unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    up = 0.5 + 0.5 * np.tanh(2.5 * unit[..., 2:])
    glow = (0.5 + 0.5 * unit @ np.array([0.6, 0.75, 0.28])) ** 6
    colour: np.ndarray = (1 - up) * np.array([0.50, 0.50, 0.48]) + up * np.array([0.16, 0.30, 0.58])
    return colour + 0.25 * glow[..., None] * np.array([1.0, 0.7, 0.4])


def moved_ball(seen: Seen) -> Seen:
    """Every fourth photo to train on shows a ball somewhere else, held-out photos none: a thing that was moved."""
    if not seen.trained or seen.number % BALL_EVERY != 1:
        return seen
    h, w = seen.depth.shape
    rng = np.random.default_rng([73, seen.number])
    column, row = int(w * rng.uniform(0.25, 0.75)), int(h * rng.uniform(0.3, 0.7))
    share = rng.uniform(0.55, 0.85)  # of the way to what this pixel shows
    return with_ball(seen, seen.eye() + share * seen.depth[row, column] * seen.rays()[row, column])


def with_ball(seen: Seen, centre: np.ndarray) -> Seen:
    """A chequered ball at a world point, behind what is nearer; `use` leaves it out."""
    depth = ball_depth(seen, centre)
    visible = depth < seen.depth
    normal = (seen.eye() + np.where(visible, depth, 0)[..., None] * seen.rays() - centre) / BALL_RADIUS
    chequer = np.prod(np.sin(7.0 * normal + 0.4), -1) > 0
    colour = np.where(chequer[..., None], (0.75, 0.16, 0.08), (0.10, 0.55, 0.62)) * (0.8 + 0.25 * normal[..., 2:])
    return replace(seen.painted(visible, colour), use=~visible)


def ball_depth(seen: Seen, centre: np.ndarray) -> np.ndarray:
    """z-depth [h w] of the ball around a world point at pixel centres, infinite beside it."""
    d, o = seen.rays(), seen.eye() - centre
    a, b, c = (d * d).sum(-1), d @ o, o @ o - BALL_RADIUS**2
    inside = b * b - a * c
    t = (-b - np.sqrt(np.maximum(inside, 0))) / a
    return np.where((inside > 0) & (t > 0), t, np.inf)


def reduced(seen: Seen, factor: float) -> Seen:
    """A photo of fewer pixels; one of them is masked where any that went into it was. Its depth is dropped."""
    camera = seen.camera.scaled(factor)
    size = camera.width, camera.height
    use = None if seen.use is None else resize_area(seen.use.astype(np.uint8) * 255, *size) == 255
    return replace(seen, camera=camera, pixels=resize_area(seen.pixels, *size), use=use, depth=np.zeros((0, 0)))


def cropped(seen: Seen, first: float, last: float) -> Seen:
    """The columns between two shares of the width; the principal point stays where it is in the world."""
    left, right = round(first * seen.camera.width), round(last * seen.camera.width)
    camera = replace(seen.camera, cx=seen.camera.cx - left, width=right - left)
    return replace(seen, camera=camera, pixels=seen.pixels[:, left:right])


def other_size(seen: Seen) -> Seen:
    """Every third photo to train on is cropped, every second one smaller."""
    if seen.trained and seen.number % CROP_EVERY == CROP_EVERY - 1:
        seen = cropped(seen, *CROP)
    return reduced(seen, SMALLER) if seen.trained and seen.number % SMALLER_EVERY == SMALLER_EVERY - 1 else seen


@dataclass(frozen=True)
class Odd:
    """How a capture differs from the plain one."""

    about: str
    change: Change = _same
    """Of a photo at the size of the truth."""
    after: Change = _same
    """Of a photo at its own size."""
    train: tuple[int, ...] = field(default=())
    test: tuple[int, ...] = field(default=())
    """Photos of the walk; where both are empty all, every TEST_EVERY-th of which is held out."""
    masks: bool = False

    def roles(self, count: int) -> tuple[list[int], list[int]]:
        """Indices of photos to train on and held out."""
        if self.train:
            return list(self.train), list(self.test)
        return [i for i in range(count) if i % TEST_EVERY], list(range(0, count, TEST_EVERY))


CAPTURES: dict[str, Odd] = {
    "plain": Odd("nothing is odd"),
    "two_photos": Odd("two photos to train on", train=(5, 7), test=(6, 8, 15, 16, 17)),
    "three_photos": Odd("three photos to train on", train=(4, 7, 10), test=(5, 6, 8, 9, 15)),
    "blank_wall": Odd("a quarter of the photos is one flat colour", blank_wall),
    "sky": Odd("sky above low walls", sky),
    "moved_object": Odd("a ball in every fourth photo, each time elsewhere", moved_ball),
    "masked_object": Odd("the same ball, masked", moved_ball, masks=True),
    "mixed_sizes": Odd("photos of several sizes and shapes", after=other_size),
}


def make(name: str, truth: Truth, folder: Path, shrink: int = SHRINK) -> Path:
    """Write a capture of CAPTURES into `folder`, or leave what is there when it was made of the same.

    `shrink`: pixels of the truth on a side of a photo's pixel. Same arguments, same machine: same bytes.
    """
    if name not in CAPTURES:
        raise SplatError(f"There is no odd capture {name!r}: choose one of {', '.join(CAPTURES)}.")
    odd, record = CAPTURES[name], folder / "made.json"
    made_of = Path(__file__).read_bytes() + (truth.folder / "truth" / "cameras.json").read_bytes()
    key = {"capture": name, "made of": hashlib.sha256(made_of).hexdigest()[:16], "shrink": shrink}
    if record.exists() and json.loads(record.read_text()) == key:
        return folder
    record.unlink(missing_ok=True)
    frames, split = [], {"train": list[str](), "test": list[str]()}
    for role, indices in zip(split, odd.roles(len(truth.names)), strict=True):
        for number, i in enumerate(indices):
            photo = f"{Path(truth.names[i]).stem}.png"
            seen = odd.after(reduced(odd.change(_seen(truth, i, number, role == "train")), 1 / shrink))
            write_png(folder / "images" / photo, seen.pixels)
            if odd.masks and seen.use is not None:
                write_png(folder / "masks" / photo, seen.use.astype(np.uint8) * 255)
            frames.append(_frame(f"images/{photo}", seen))
            split[role].append(photo)
    write_json(folder / "transforms.json", {"camera_model": "PINHOLE", "frames": frames})
    write_json(folder / "split.json", split)
    write_json(record, key)
    return folder


def _seen(truth: Truth, index: int, number: int, trained: bool) -> Seen:
    depth = truth.depth(truth.names[index]).numpy()
    return Seen(
        number,
        trained,
        truth.cameras[index],
        truth.world_from_cam[index],
        2.0 ** truth.exposure_ev[index],
        np.where(depth > 0, depth, np.float32(np.inf)),
        read_pixels(truth.images / truth.names[index]),
    )


def _frame(file: str, seen: Seen) -> dict[str, object]:
    """As nerfstudio writes it."""
    c = seen.camera
    return {
        "file_path": file, "w": c.width, "h": c.height, "fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy,
        "transform_matrix": opengl(seen.world_from_cam),
    }  # fmt: skip
