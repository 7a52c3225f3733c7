"""A small exact ray tracer: quads, boxes, ellipsoids and cylinders, their pictures and their baked light.

Every solid is a unit shape under an affine map `world_from_local`, so one ray parameter t serves all of them:
quad: |x|, |y| <= 1, z = 0; box: [-1, 1]^3; sphere: |p| = 1; cylinder: x^2 + y^2 = 1, |z| <= 1, with caps.
Rays are structure of arrays, [3 n]; directions are not unit: with z = 1 in the camera's frame, t is the z-depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from splat.core.camera import Camera
from splat.core.geometry import Rigid

Number = float | int
Shape = Literal["quad", "box", "sphere", "cylinder"]
FACES: dict[str, int] = {"quad": 1, "box": 6, "sphere": 1, "cylinder": 3}
"""Box: -x +x -y +y -z +z. Cylinder: side, bottom, top. Quad: the side that its z axis points from."""
NEAR = 1e-4
NOTHING = -1
CHUNK = 32768
"""Rays at a time: their arrays stay in the second-level cache."""


def linear_from_srgb(value: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(value <= 0.04045, value / 12.92, ((np.maximum(value, 0) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(value: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, clipped to [0, 1]."""
    value = np.clip(value, 0, 1)
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * np.maximum(value, 1e-9) ** (1 / 2.4) - 0.055)


_LINEAR = linear_from_srgb(np.arange(4096) / 4095).astype(np.float32)


class Texture:
    """A picture and its halvings down to a few texels; one texel is four 16-bit linear values in one 64-bit word."""

    def __init__(self, picture: np.ndarray) -> None:
        """`picture`: sRGB [h w 3] in [0, 1], row 0 at the top."""
        code = np.clip(picture * 4095 + 0.5, 0, 4095).astype(np.uint16)
        level = _LINEAR[code]
        words, sizes, starts, start = [], [], [], 0
        while True:
            h, w, _ = level.shape
            packed = np.zeros((h, w, 4), np.uint16)
            packed[..., :3] = level * 65535 + np.float32(0.5)
            words.append(packed.view(np.uint64).reshape(-1))
            sizes.append((h, w))
            starts.append(start)
            start += h * w
            if min(h, w) < 4:
                break
            level = level[: h // 2 * 2, : w // 2 * 2]
            level = level[::2] + level[1::2]
            level = (level[:, ::2] + level[:, 1::2]) / 4
        self.texels = np.concatenate(words)
        self.heights, self.widths = np.array(sizes, np.int32).T.copy()
        self.starts = np.array(starts, np.int32)
        self.mean: np.ndarray = level.mean((0, 1))
        """Average linear colour [3]."""

    def look_up(self, u: np.ndarray, v: np.ndarray, level: np.ndarray, wrap: bool) -> np.ndarray:
        """Linear colour [n 3] at u (right) and v (down) in [0, 1], bilinear in the nearest of the levels (0 = finest)."""
        level = np.clip(level + 0.5, 0, len(self.starts) - 1).astype(np.int32)
        if level.size and level.min() == level.max():
            h, w, start = self.heights[level[0]], self.widths[level[0]], self.starts[level[0]]
        else:
            h, w, start = self.heights[level], self.widths[level], self.starts[level]
        x, y = u * w.astype(np.float32) - np.float32(0.5), v * h.astype(np.float32) - np.float32(0.5)
        left, top = np.floor(x), np.floor(y)
        x -= left
        y -= top
        left, top = left.astype(np.int32), top.astype(np.int32)
        right = left + 1
        if wrap:
            left, right = np.where(left < 0, left + w, left), np.where(right >= w, right - w, right)
        else:
            left, right = np.maximum(left, 0), np.minimum(right, w - 1)
        upper = start + np.clip(top, 0, h - 1) * w
        lower = start + np.clip(top + 1, 0, h - 1) * w
        colour = self._across(upper + left, upper + right, x[:, None])
        colour += (self._across(lower + left, lower + right, x[:, None]) - colour) * y[:, None]
        return colour[:, :3] * np.float32(1 / 65535)

    def _across(self, left: np.ndarray, right: np.ndarray, share: np.ndarray) -> np.ndarray:
        a, b = (self.texels.take(i).view(np.uint16).reshape(-1, 4).astype(np.float32) for i in (left, right))
        b -= a
        b *= share
        a += b
        return a


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
        o = [m[i, 0] * origin[0] + m[i, 1] * origin[1] + m[i, 2] * origin[2] + m[i, 3] for i in range(3)]
        d = []
        for i in range(3):
            terms = [m[i, k] * direction[k] for k in range(3) if m[i, k] != 0]
            d.append(sum(terms[1:], terms[0]))
        return np.stack(o), np.stack(d)

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
            np.put_along_axis(n, (face // 2)[None].astype(np.int64), np.where(face % 2 == 1, 1, -1).astype(n.dtype)[None], 0)
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


def _quad(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    t = -o[2] / d[2]
    inside = (np.abs(o[0] + t * d[0]) <= 1) & (np.abs(o[1] + t * d[1]) <= 1) & (t > NEAR)
    return np.where(inside, t, np.inf)


def _box(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    inverse = 1 / np.where(d == 0, d.dtype.type(1e-20), d)  # infinity minus infinity would say "missed"
    middle, half = -o * inverse, np.abs(inverse)
    enter, leave = (middle - half).max(0), (middle + half).min(0)
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


def first_hits(
    solids: Sequence[Solid], origin: np.ndarray, direction: np.ndarray, among: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """t [n] and index [n] of the nearest solid along each ray; infinity and NOTHING where there is none."""
    n = direction.shape[1]
    best, which = np.full(n, np.inf, direction.dtype), np.full(n, NOTHING, np.int16)
    for k in range(len(solids)) if among is None else among:
        t = solids[k].intersect(origin, direction)
        nearer = t < best
        if nearer.any():
            best = np.where(nearer, t, best)
            which[nearer] = k
    return best, which


@dataclass(frozen=True, eq=False)
class Light:
    """A rectangle that shines to the side its normal points to."""

    centre: tuple[Number, Number, Number]
    half_u: tuple[Number, Number, Number]
    half_v: tuple[Number, Number, Number]
    """Half edges in metres; the normal is half_u x half_v."""
    rgb: tuple[Number, Number, Number]
    """Radiance."""
    samples: int = 4
    """Squared: shadow rays to this light."""


@dataclass(frozen=True, eq=False)
class Scene:
    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    sky: tuple[Number, Number, Number] = (0.0, 0.0, 0.0)
    """Radiance of what is behind everything, for the light only: a pixel that sees nothing is transparent."""
    light_texel: float = 0.03
    """Size in metres of the texels in which light is baked."""
    gain: float = 1.0
    """Pixel value (linear) of unit radiance."""
    irradiance: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    """(solid, face) -> light [h w 3], divided by pi, so that radiance = albedo x this; filled by `light.bake`."""


def shade(
    scene: Scene, k: int, origin: np.ndarray, direction: np.ndarray, t: np.ndarray, footprint: Number, grid: int
) -> np.ndarray:
    """Radiance [n 3] of hits of solid k; each `grid`^2 rays in a row belong to one pixel. `footprint`: width of a ray's
    cone at t = 1 (metres)."""
    solid = scene.solids[k]
    o, d = solid.to_local(origin, direction)
    local = o + t * d
    face, u, v = solid.surface_at(local)
    normal = solid.normal_at(local, face)
    slant = np.abs((normal * direction).sum(0)) / np.sqrt((direction * direction).sum(0))
    # A slanted footprint is an ellipse; the geometric mean of its axes balances blur against aliasing.
    width = footprint * t / np.sqrt(np.maximum(slant, 0.1))
    # Each ray of a pixel rounds its level of detail differently: their mean blends the two nearest levels.
    dither = np.resize((np.arange(grid * grid, dtype=np.float32) + 0.5) / (grid * grid) - 0.5, t.size)
    out = np.empty((t.size, 3), np.float32)
    for f in range(FACES[solid.shape]):
        at = np.flatnonzero(face == f)
        if at.size == 0:
            continue
        surface, wrap = solid.surfaces[f], solid.shape in {"sphere", "cylinder"} and f == 0
        u0, v0, u1, v1 = surface.window
        across, down = solid.face_size(f)
        texture = surface.texture
        density = np.sqrt(texture.widths[0] * abs(u1 - u0) / across * texture.heights[0] * abs(v1 - v0) / down)
        level = np.log2(np.maximum(width[at] * np.float32(density), np.float32(1e-6))) + dither[at]
        uf, vf = u[at], v[at]
        albedo = texture.look_up(np.float32(u0) + uf * np.float32(u1 - u0), np.float32(v0) + vf * np.float32(v1 - v0),
                                 level, wrap)  # fmt: skip
        albedo *= np.array(surface.tint, np.float32)
        # Light is smooth: one look-up serves the rays of a pixel where all of them are on this face.
        rays = grid * grid if at.size == t.size else 1
        light = lit(scene, k, f, uf[::rays], vf[::rays], wrap)
        albedo *= np.repeat(light, rays, 0) if rays > 1 else light
        out[at] = albedo
    if solid.gloss:
        out += solid.gloss * _highlights(scene, origin + t * direction, direction, normal)[:, None].astype(np.float32)
    return out


def lit(scene: Scene, k: int, face: int, u: np.ndarray, v: np.ndarray, wrap: bool) -> np.ndarray:
    """Baked light [n 3], bilinear."""
    light = scene.irradiance.get((k, face))
    if light is None:
        return np.ones((u.size, 3), np.float32)
    h, w, _ = light.shape
    x, y = u * w - np.float32(0.5), v * h - np.float32(0.5)
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    ix, iy = x0.astype(np.int32), y0.astype(np.int32)
    left, right = (ix % w, (ix + 1) % w) if wrap else (np.clip(ix, 0, w - 1), np.clip(ix + 1, 0, w - 1))
    top, bottom = np.clip(iy, 0, h - 1), np.clip(iy + 1, 0, h - 1)
    return (light[top, left] * (1 - fx) + light[top, right] * fx) * (1 - fy) + (
        light[bottom, left] * (1 - fx) + light[bottom, right] * fx
    ) * fy


def _highlights(scene: Scene, points: np.ndarray, direction: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Blinn-Phong highlights [n] of the lights' centres, broad as of a satin varnish."""
    view = -direction / np.linalg.norm(direction, axis=0)
    total = np.zeros(points.shape[1], points.dtype)
    for light in scene.lights:
        to_light = np.array(light.centre, points.dtype)[:, None] - points
        to_light /= np.linalg.norm(to_light, axis=0)
        half = view + to_light
        half /= np.linalg.norm(half, axis=0)
        total += np.maximum((half * normal).sum(0), 0) ** 40 * ((to_light * normal).sum(0) > 0)
    return total


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera sees."""

    rgb: np.ndarray
    """Linear float32 [h w 3], averaged over the covered part of each pixel."""
    alpha: np.ndarray
    """Covered part of each pixel, float32 [h w]."""
    depth: np.ndarray
    """z-depth at pixel centres, float32 [h w]; 0 where nothing is seen."""
    normals: np.ndarray
    """Unit world normals at pixel centres, towards the camera, float32 [h w 3]; 0 where nothing is seen."""
    ids: np.ndarray
    """Solid at pixel centres, int16 [h w]; NOTHING where there is none."""


def render(
    scene: Scene, camera: Camera, world_from_cam: Rigid, inner: int = 2, edges: int = 4, tile: int = 64
) -> Picture:
    """`inner`^2 rays a pixel, `edges`^2 where its 3 x 3 neighbourhood sees more than one face; depth and normals are
    those of the pixel's centre, in float64."""
    h, w = camera.height, camera.width
    eye, turn = world_from_cam.translation.numpy()[:, None], world_from_cam.rotation.numpy()
    boxes = _screen_boxes(scene.solids, camera, world_from_cam)
    tiles = [(y, min(y + tile, h), x, min(x + tile, w)) for y in range(0, h, tile) for x in range(0, w, tile)]
    ids, nearest = np.full((h, w), NOTHING, np.int16), np.zeros((h, w), np.float32)
    for top, bottom, left, right in tiles:
        among = [k for k, (x0, y0, x1, y1) in boxes.items() if x0 < right and x1 > left and y0 < bottom and y1 > top]
        y, x = (a.ravel() for a in np.mgrid[top:bottom, left:right])
        direction = _directions(camera, turn, x + 0.5, y + 0.5).astype(np.float32)
        t, which = first_hits(scene.solids, eye.astype(np.float32), direction, among)
        ids[top:bottom, left:right] = which.reshape(bottom - top, right - left)
        nearest[top:bottom, left:right] = t.reshape(bottom - top, right - left)
    depth, normals, faces = _centres(scene, camera, eye, turn, ids, nearest)
    edge = _changes(ids.astype(np.int32) * 8 + faces)

    rgb, alpha = np.zeros((h, w, 3), np.float32), np.zeros((h, w), np.float32)
    eye = eye.astype(np.float32)
    for k, ys, xs in _groups(np.where(edge, np.int16(NOTHING), ids)):
        for part in range(0, ys.size, CHUNK // inner**2):
            y, x = (a[part : part + CHUNK // inner**2] for a in (ys, xs))
            direction = _rays(camera, turn, y, x, inner)
            # The neighbours' centres hit this convex face too, so every ray between them does.
            t = scene.solids[k].intersect(eye, direction)
            light = shade(scene, k, eye, direction, t, 1 / (camera.fx * inner), inner)
            rgb[y, x] = light.reshape(-1, inner * inner, 3).mean(1)
            alpha[y, x] = 1
    for top, bottom, left, right in tiles:
        y, x = np.nonzero(edge[top:bottom, left:right])
        if y.size == 0:
            continue
        near = ids[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
        direction = _rays(camera, turn, y + top, x + left, edges)
        t, which = first_hits(scene.solids, eye, direction, np.unique(near[near >= 0]).tolist())
        light = np.zeros((t.size, 3), np.float32)
        for k in np.unique(which[which >= 0]).tolist():
            at = np.flatnonzero(which == k)
            light[at] = shade(scene, k, eye, direction[:, at], t[at], 1 / (camera.fx * edges), 1)
        cover = (which >= 0).reshape(-1, edges * edges).mean(1, dtype=np.float32)
        mean = light.reshape(-1, edges * edges, 3).mean(1)
        rgb[y + top, x + left] = mean / np.maximum(cover, 1e-6)[:, None]
        alpha[y + top, x + left] = cover
    return Picture(rgb * np.float32(scene.gain), alpha, depth, normals, ids)


def _centres(
    scene: Scene, camera: Camera, eye: np.ndarray, turn: np.ndarray, ids: np.ndarray, nearest: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, normals and faces at pixel centres, where `ids` says which solid is seen and `nearest` at which depth, both
    found in float32."""
    depth, normals = np.zeros(ids.shape, np.float32), np.zeros((*ids.shape, 3), np.float32)
    faces = np.zeros(ids.shape, np.int8)
    for k, y, x in _groups(ids):
        solid, direction = scene.solids[k], _directions(camera, turn, x + 0.5, y + 0.5)
        t = solid.intersect(eye, direction)
        grazed = ~np.isfinite(t)  # hit within the precision of float32 only
        if grazed.any():
            t[grazed] = nearest[y[grazed], x[grazed]]
        o, d = solid.to_local(eye, direction)
        local = o + t * d
        face = solid.surface_at(local)[0]
        normal = solid.normal_at(local, face)
        depth[y, x], faces[y, x] = t, face
        normals[y, x] = (normal * np.where((normal * direction).sum(0) > 0, -1, 1)).T
    return depth, normals, faces


def _groups(ids: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each solid of an image of ids [h w] with the rows and columns of its pixels."""
    order = np.argsort(ids, axis=None, kind="stable")
    values, starts = np.unique(ids.ravel()[order], return_index=True)
    for k, part in zip(values.tolist(), np.split(order, starts[1:]), strict=True):
        if k != NOTHING:
            yield k, part // ids.shape[1], part % ids.shape[1]


def _rays(camera: Camera, turn: np.ndarray, y: np.ndarray, x: np.ndarray, grid: int) -> np.ndarray:
    """float32 directions [3 n grid^2] of a grid of rays in each of n pixels."""
    offset = (np.arange(grid * grid) % grid + 0.5) / grid
    down = (np.arange(grid * grid) // grid + 0.5) / grid
    px, py = (x[:, None] + offset).astype(np.float32).ravel(), (y[:, None] + down).astype(np.float32).ravel()
    return _directions(camera, turn.astype(np.float32), px, py)


def _directions(camera: Camera, turn: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """World directions [3 n] through pixel positions, of unit z in the camera's frame."""
    a, b = (x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy
    return np.stack([turn[i, 0] * a + turn[i, 1] * b + turn[i, 2] for i in range(3)])


def _screen_boxes(
    solids: Sequence[Solid], camera: Camera, world_from_cam: Rigid
) -> dict[int, tuple[float, float, float, float]]:
    """Pixel bounds (x0, y0, x1, y1) of the solids that may be seen."""
    cam_from_world = world_from_cam.inverse().matrix().numpy()
    boxes = {}
    for k, solid in enumerate(solids):
        if not solid.visible:
            continue
        x, y, z = cam_from_world[:3, :3] @ solid.corners().T + cam_from_world[:3, 3:]
        if z.max() <= NEAR:
            continue
        if z.min() <= 0.01:  # reaches behind the camera: may be anywhere
            boxes[k] = (0.0, 0.0, float(camera.width), float(camera.height))
            continue
        px, py = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
        boxes[k] = (float(px.min()) - 1, float(py.min()) - 1, float(px.max()) + 1, float(py.max()) + 1)
    return boxes


def _changes(key: np.ndarray) -> np.ndarray:
    """Pixels whose 3 x 3 neighbourhood holds more than one key [h w], and the image's border, as nobody knows what lies
    beyond."""
    wide = np.pad(key, 1, constant_values=np.iinfo(key.dtype).min)
    h, w = key.shape
    out = np.zeros(key.shape, bool)
    for dy in range(3):
        for dx in range(3):
            out |= wide[dy : dy + h, dx : dx + w] != key
    return out
