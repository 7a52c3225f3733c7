"""Unit shapes under affine maps: intersection, surface coordinates, normals.

Every solid is a unit shape under an affine map `world_from_local`, so one ray parameter t serves all of them:
quad: |x|, |y| <= 1, z = 0; box: [-1, 1]^3; sphere: |p| = 1; cylinder: x^2 + y^2 = 1, |z| <= 1, with caps.
Rays are structure of arrays, [3 n]; directions are not unit: with z = 1 in the camera's frame, t is the z-depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from splat.scenes.texels import Texture

Shape = Literal["quad", "box", "sphere", "cylinder"]
FACES: dict[str, int] = {"quad": 1, "box": 6, "sphere": 1, "cylinder": 3}
"""Box: -x +x -y +y -z +z. Cylinder: side, bottom, top. Quad: the side that its z axis points from."""
NEAR = 1e-4


@dataclass(frozen=True, eq=False)
class Surface:
    """What one face of a solid looks like: a window of a texture, times a colour."""

    texture: Texture
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """u0, v0, u1, v1 of the texture that cover the face."""
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def albedo(self) -> np.ndarray:
        return self.texture.mean * np.array(self.tint, np.float32)


@dataclass(frozen=True, eq=False)
class Solid:
    shape: Shape
    world_from_local: np.ndarray
    """float64 [3 4]; the linear part may scale each axis differently and mirror."""
    surfaces: tuple[Surface, ...]
    """One per face, see FACES."""
    gloss: float = 0.0
    """Strength of the highlight; 0 is Lambertian."""
    casts: bool = True
    """Throws shadows and takes part in bounces."""
    visible: bool = True
    """Cameras see it; False for a plain stand-in that throws the shadow of many small solids."""
    name: str = ""

    def __post_init__(self) -> None:
        assert len(self.surfaces) == FACES[self.shape], (self.name, self.shape, len(self.surfaces))

    @cached_property
    def local_from_world(self) -> np.ndarray:
        linear = np.linalg.inv(self.world_from_local[:, :3])
        return np.concatenate([linear, -linear @ self.world_from_local[:, 3:]], 1)

    def corners(self) -> np.ndarray:
        """World corners [k 3] of a box that holds the solid."""
        z = (0.0,) if self.shape == "quad" else (-1.0, 1.0)
        local = np.array([[x, y, w] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for w in z])
        return local @ self.world_from_local[:, :3].T + self.world_from_local[:, 3]

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest world coordinates [3] of the corners."""
        corners = self.corners()
        return corners.min(0), corners.max(0)

    def face_size(self, face: int) -> tuple[float, float]:
        """Width and height of a face in metres: the extent of u and of v."""
        sx, sy, sz = np.linalg.norm(self.world_from_local[:, :3], axis=0).tolist()
        if self.shape == "sphere":
            return np.pi * (sx + sy), np.pi * (sx + sy + 2 * sz) / 4
        if self.shape == "cylinder" and face == 0:
            return np.pi * (sx + sy), 2 * sz
        if self.shape == "box":
            return ((2 * sy, 2 * sz), (2 * sx, 2 * sz), (2 * sx, 2 * sy))[face // 2]
        return 2 * sx, 2 * sy

    def intersect(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Nearest t > NEAR [n] of rays [3 1] or [3 n], [3 n]; infinity where the ray misses."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            o, d = self.to_local(origin, direction)
            return _INTERSECT[self.shape](o, d)

    def to_local(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m = self.local_from_world.astype(direction.dtype)
        o, d = _turn(m[:, :3], origin), _turn(m[:, :3], direction)
        o += m[:, 3:]
        return o, d

    def surface_at(self, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face, u and v [n] of points [3 n] on the unit shape. Seen from outside with local z up, u grows to the right
        and v downwards."""
        x, y, z = local
        half = local.dtype.type(0.5)
        if self.shape == "quad":
            return np.zeros(x.shape, np.int8), (x + 1) * half, (1 - y) * half
        if self.shape == "box":
            size = np.abs(local)
            axis = size.argmax(0)
            positive = np.take_along_axis(local, axis[None], 0)[0] > 0
            sign = np.where(positive, 1, -1).astype(local.dtype)
            u = np.where(axis == 0, y * sign, np.where(axis == 1, -x * sign, x * sign))
            v = np.where(axis == 2, y, z)
            return (2 * axis + positive).astype(np.int8), (u + 1) * half, (1 - v) * half
        around = np.arctan2(y, x) * local.dtype.type(0.5 / np.pi)
        around = np.where(around < 0, around + 1, around)
        if self.shape == "sphere":
            return np.zeros(x.shape, np.int8), around, np.arccos(np.clip(z, -1, 1)) * local.dtype.type(1 / np.pi)
        side = np.abs(z) < 1 - 1e-5
        face = np.where(side, 0, np.where(z < 0, 1, 2)).astype(np.int8)
        u = np.where(side, around, np.where(z < 0, 1 - x, x + 1) * np.where(side, 1, half))
        return face, u, (1 - np.where(side, z, y)) * half

    def normal_at(self, local: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Outward unit normals in the world [3 n]."""
        n = np.zeros_like(local)
        if self.shape == "quad":
            n[2] = 1
        elif self.shape == "box":
            np.put_along_axis(
                n, (face // 2)[None].astype(np.int64), np.where(face % 2 == 1, 1, -1).astype(n.dtype)[None], 0
            )
        elif self.shape == "sphere":
            n = local
        else:
            side = face == 0
            n[0], n[1], n[2] = np.where(side, local[0], 0), np.where(side, local[1], 0), np.where(side, 0, local[2])
        m = self.local_from_world.astype(local.dtype)
        world = np.stack([m[0, i] * n[0] + m[1, i] * n[1] + m[2, i] * n[2] for i in range(3)])
        return world / np.sqrt((world * world).sum(0))

    def points_at(self, face: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Points of the unit shape [3 n]: the inverse of `surface_at`."""
        a, b = 2 * u - 1, 1 - 2 * v
        one = np.ones_like(a)
        turn = 2 * np.pi * u
        if self.shape == "quad":
            return np.stack([a, b, 0 * a])
        if self.shape == "box":
            sign = one if face % 2 else -one
            return np.stack(((sign, sign * a, b), (-sign * a, sign, b), (sign * a, b, sign))[face // 2])
        if self.shape == "sphere":
            tilt = np.pi * v
            return np.stack([np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt)])
        if face == 0:
            return np.stack([np.cos(turn), np.sin(turn), b])
        return np.stack([a if face == 2 else -a, b, one if face == 2 else -one])


def _turn(m: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """m @ vectors [3 n], leaving out the zeros that a matrix along the world's axes is full of."""
    out = np.empty_like(vectors)
    for i in range(3):
        terms = [k for k in range(3) if m[i, k] != 0]
        np.multiply(m[i, terms[0]], vectors[terms[0]], out=out[i])
        for k in terms[1:]:
            out[i] += m[i, k] * vectors[k]
    return out


def _quad(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    t = -o[2] / d[2]
    inside = (np.abs(o[0] + t * d[0]) <= 1) & (np.abs(o[1] + t * d[1]) <= 1) & (t > NEAR)
    return np.where(inside, t, np.inf)


def _box(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    inverse = 1 / np.where(d == 0, d.dtype.type(1e-20), d)  # infinity minus infinity would say "missed"
    middle, half = -o * inverse, np.abs(inverse)
    near, far = middle - half, middle + half
    enter = np.maximum(np.maximum(near[0], near[1]), near[2])
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    return np.where((enter <= leave) & (enter > NEAR), enter, np.inf)


def _roots(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The nearer root of a t^2 + 2 b t + c, NaN where there is none. Written so that nothing cancels for c > 0 > b."""
    root = np.sqrt(b * b - a * c)
    return np.where(b < 0, c / (root - b), (-b - root) / a)


def _sphere(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    t = _roots((d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1)
    return np.where(t > NEAR, t, np.inf)


def _cylinder(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    t = _roots(d[0] * d[0] + d[1] * d[1], o[0] * d[0] + o[1] * d[1], o[0] * o[0] + o[1] * o[1] - 1)
    side = np.where((np.abs(o[2] + t * d[2]) <= 1) & (t > NEAR), t, np.inf)
    t = (-np.sign(d[2]) - o[2]) / d[2]
    x, y = o[0] + t * d[0], o[1] + t * d[1]
    return np.minimum(side, np.where((x * x + y * y <= 1) & (t > NEAR), t, np.inf))


_INTERSECT = {"quad": _quad, "box": _box, "sphere": _sphere, "cylinder": _cylinder}
