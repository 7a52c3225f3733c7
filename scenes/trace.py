"""What a ray meets and how bright it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from splat.scenes.noise import Number
from splat.scenes.solids import FACES, Solid

NOTHING = -1


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
