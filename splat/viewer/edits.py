"""Edits of a splat as a recipe: operations in the frame of the scene, which another splat of the same scene can repeat.

A recipe does not name rows: crops, cuts and strokes of the brush are geometry, so that it applies to every format of
the splat, and to one that was trained longer. `kept` and `placed_from_scene` are all that applying it takes:

    recipe = read_recipe(path)
    edited = gaussians[kept(recipe, gaussians)].transformed(placed_from_scene(recipe))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json, shown
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid, Similarity, matrix_from_quat, rotation_between
from splat.viewer.decoding import MalformedMessage, decode

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
MAX_SIDE = 8192
"""Of a picture, px."""


@dataclass(frozen=True)
class Pinhole:
    """A camera as messages and recipes write it."""

    width: int
    height: int
    fx: float
    """Intrinsics in px, pixel centres at .5."""
    fy: float
    cx: float
    cy: float
    world_from_cam: tuple[tuple[float, float, float, float], ...]
    """Three rows; camera axes +x right, +y down, +z ahead; in the frame of the scene."""

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ValueError(f"a picture has 1 to {MAX_SIDE} px a side")
        if not (self.fx > 0 and self.fy > 0):
            raise ValueError("focal lengths are above 0")
        if len(self.world_from_cam) != 3:
            raise ValueError("world_from_cam has three rows of four")
        r = torch.tensor(self.world_from_cam, dtype=torch.float64)[:, :3]
        if not torch.allclose(r @ r.T, torch.eye(3, dtype=torch.float64), atol=1e-3) or float(torch.det(r)) < 0:
            raise ValueError("world_from_cam is no rotation and translation")

    @property
    def camera(self) -> Camera:
        return Camera(self.fx, self.fy, self.cx, self.cy, self.width, self.height)

    @property
    def pose(self) -> Rigid:
        return Rigid.from_matrix(torch.tensor(self.world_from_cam, dtype=torch.float64))


@dataclass(frozen=True)
class Box:
    """Crop by a box, judged by centres."""

    kind: Literal["box"]
    centre: Vector
    half: Vector
    """Half of its sides, world units."""
    quat_wxyz: Quaternion = (1.0, 0.0, 0.0, 0.0)
    """How it is turned."""
    keep: Literal["inside", "outside"] = "inside"

    def __post_init__(self) -> None:
        if min(self.half) <= 0 or math.hypot(*self.quat_wxyz) < 1e-6:
            raise ValueError("a box has sides above 0 and a rotation")


@dataclass(frozen=True)
class Sphere:
    """Crop by a sphere, judged by centres."""

    kind: Literal["sphere"]
    centre: Vector
    radius: float
    keep: Literal["inside", "outside"] = "inside"

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError("a sphere has a radius above 0")


@dataclass(frozen=True)
class MinOpacity:
    """Remove what is fainter."""

    kind: Literal["opacity"]
    min_opacity: float


@dataclass(frozen=True)
class MaxSize:
    """Remove what is larger."""

    kind: Literal["size"]
    max_size: float
    """Standard deviation along the longest axis, world units."""


@dataclass(frozen=True)
class Floaters:
    """Remove what lies in space that photos see past. Which photos decide is not in the recipe: they are those of the
    run that it is applied to."""

    kind: Literal["floaters"]
    min_seen_past: float
    """At least two photos see past it by more than this share of the depth that they see there."""


@dataclass(frozen=True)
class Brush:
    """Remove what a stroke in a picture covers, down to a depth."""

    kind: Literal["brush"]
    view: Pinhole
    radius: float
    """px."""
    points: tuple[Vector, ...]
    """x and y in px, and the z-depth down to which the stroke reaches there, world units (0: the depth of what is seen
    there, which the viewer fills in)."""

    def __post_init__(self) -> None:
        if not 0 < self.radius <= 500 or not 1 <= len(self.points) <= 5000:
            raise ValueError("a stroke has a radius of at most 500 px and 1 to 5000 points")
        if max(self.view.width, self.view.height) > 4096:  # it is drawn into an image of this size
            raise ValueError("a stroke is made in a picture of at most 4096 px a side")


@dataclass(frozen=True)
class Scale:
    """Two points whose distance is known."""

    kind: Literal["scale"]
    a: Vector
    b: Vector
    metres: float

    def __post_init__(self) -> None:
        if self.metres <= 0 or math.dist(self.a, self.b) <= 0:
            raise ValueError("the points differ and the length is above 0")


@dataclass(frozen=True)
class Ground:
    """Three points of the ground: it becomes level, at height 0."""

    kind: Literal["ground"]
    a: Vector
    b: Vector
    c: Vector

    def __post_init__(self) -> None:
        u, v = np.subtract(self.b, self.a), np.subtract(self.c, self.a)
        if np.linalg.norm(np.cross(u, v)) <= 1e-9 * np.linalg.norm(u) * np.linalg.norm(v):
            raise ValueError("three points of the ground must not lie on a line")


Operation = Box | Sphere | MinOpacity | MaxSize | Floaters | Brush | Scale | Ground


@dataclass(frozen=True)
class Frame:
    """`scene_from_file`: the frame of the operations, from that of the splat file."""

    scale: float = 1.0
    rotation: tuple[Vector, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    translation: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.scale <= 0 or len(self.rotation) != 3:
            raise ValueError("a frame has a scale above 0 and three rows of rotation")

    @staticmethod
    def of(similarity: Similarity) -> Frame:
        rotation = tuple((float(a), float(b), float(c)) for a, b, c in similarity.rotation)
        x, y, z = (float(v) for v in similarity.translation)
        return Frame(float(similarity.scale), rotation, (x, y, z))

    @property
    def similarity(self) -> Similarity:
        numbers = (torch.tensor(v, dtype=torch.float64) for v in (self.rotation, self.translation))
        return Similarity(self.scale, *numbers)


@dataclass(frozen=True)
class Recipe:
    """What was done to a splat."""

    operations: tuple[Operation, ...] = ()
    """In turn; of several scales or grounds the last counts."""
    scene_from_file: Frame = Frame()
    up: Vector = (0.0, -1.0, 0.0)
    """Unit vector, in the frame of the scene."""
    splat: str = ""
    """Name of the file that was edited."""
    format: Literal["splat edits 1"] = "splat edits 1"


def read_recipe(path: Path) -> Recipe:
    """Raises SplatError naming the file and the field that is wrong."""
    try:
        return decode(Recipe, read_json(path), "the recipe")
    except MalformedMessage as e:
        raise SplatError(f"{shown(path)} is no recipe of edits ({shown(e)}): save it again in `splat view`.") from None


def write_recipe(path: Path, recipe: Recipe) -> None:
    write_json(path, dataclasses.asdict(recipe))


SeenPast = Callable[[Gaussians], Float[Tensor, "n"]]
"""By which share of their depth at least two photos see past each Gaussian (`geometry.floaters.seen_past`), given in
the frame of the scene."""


def kept(recipe: Recipe, gaussians: Gaussians, seen_past: SeenPast | None = None) -> Bool[Tensor, "n"]:
    """Which Gaussians, given in the frame of the scene, the operations leave. Raises SplatError where one of them cuts
    floaters and nobody knows (`seen_past`) which these are."""
    mask = torch.ones(len(gaussians), dtype=torch.bool)
    for operation in recipe.operations:
        mask &= survivors(operation, gaussians, seen_past)
    return mask


def survivors(operation: Operation, gaussians: Gaussians, seen_past: SeenPast | None = None) -> Bool[Tensor, "n"]:
    """Which Gaussians one operation leaves."""
    means = gaussians.means.detach().cpu().double()
    if isinstance(operation, Box):
        turn = matrix_from_quat(torch.tensor(operation.quat_wxyz, dtype=torch.float64))
        local = (means - _tensor(operation.centre)) @ turn
        inside = (local.abs() <= _tensor(operation.half)).all(1)
        return inside if operation.keep == "inside" else ~inside
    if isinstance(operation, Sphere):
        inside = (means - _tensor(operation.centre)).norm(dim=1) <= operation.radius
        return inside if operation.keep == "inside" else ~inside
    if isinstance(operation, MinOpacity):
        return (gaussians.opacities >= operation.min_opacity).cpu()
    if isinstance(operation, MaxSize):
        return (gaussians.scales.max(1).values <= operation.max_size).cpu()
    if isinstance(operation, Floaters):
        if seen_past is None:
            raise SplatError("the recipe cuts floaters, which only the photos of a run can tell: apply it to the run.")
        return (seen_past(gaussians) <= operation.min_seen_past).cpu()
    if isinstance(operation, Brush):
        return ~_under(operation, means)
    return torch.ones(len(gaussians), dtype=torch.bool)


def _under(brush: Brush, means: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
    """What a stroke covers. The stroke is drawn into an image of the depths that it reaches to."""
    camera, r = brush.view.camera, math.ceil(brush.radius)
    reach = np.zeros((camera.height + 2 * r, camera.width + 2 * r))  # with a margin: strokes leave the picture
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    disc = x * x + y * y <= brush.radius**2
    for px, py, far in brush.points:
        top, left = math.floor(py), math.floor(px)
        if 0 <= top < camera.height and 0 <= left < camera.width:
            window = reach[top : top + 2 * r + 1, left : left + 2 * r + 1]
            np.maximum(window, np.where(disc, far, 0), out=window)
    inner = torch.from_numpy(reach[r : r + camera.height, r : r + camera.width].copy())
    points = brush.view.pose.inverse().apply(means)
    z = points[:, 2]
    ahead = z > 1e-9
    pixels = camera.project(torch.where(ahead[:, None], points, torch.ones(3, dtype=torch.float64)))
    seen = ahead & camera.contains(pixels)
    column, row = pixels[seen].floor().long().unbind(1)
    covered = torch.zeros(len(means), dtype=torch.bool)
    covered[seen] = z[seen] <= inner[row, column]
    return covered


def placed_from_scene(recipe: Recipe) -> Similarity:
    """Where the edited splat is written: the frame of its file, scaled and levelled as measured.

    A scale makes a unit a metre. A ground is turned by the smallest rotation that makes it perpendicular to the axis of
    the file's frame nearest to up, and moved to 0 along that axis.
    """
    file_from_scene = recipe.scene_from_file.similarity.inverse()
    placed = file_from_scene
    scales = [o for o in recipe.operations if isinstance(o, Scale)]
    if scales:
        a, b = (placed.apply(_tensor(p)) for p in (scales[-1].a, scales[-1].b))
        placed = _scaled(scales[-1].metres / float((a - b).norm())) @ placed
    grounds = [o for o in recipe.operations if isinstance(o, Ground)]
    if grounds:
        up = placed.rotation @ _tensor(recipe.up)
        a, b, c = (placed.apply(_tensor(p)) for p in (grounds[-1].a, grounds[-1].b, grounds[-1].c))
        normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=0)
        normal = normal if float(normal @ up) >= 0 else -normal
        axis = torch.zeros(3, dtype=torch.float64)
        main = int(up.abs().argmax())
        axis[main] = 1.0 if float(up[main]) > 0 else -1.0
        turn = rotation_between(normal, axis)
        turned = Similarity(1.0, turn, torch.zeros(3, dtype=torch.float64)) @ placed
        height = float(turned.apply(_tensor(grounds[-1].a)) @ axis)
        placed = Similarity(1.0, torch.eye(3, dtype=torch.float64), -height * axis) @ turned
    return placed


def _scaled(factor: float) -> Similarity:
    return Similarity(factor, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))


def _tensor(values: Any) -> Float[Tensor, "..."]:
    return torch.tensor(values, dtype=torch.float64)
