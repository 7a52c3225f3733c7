"""Light, baked once per scene: soft shadows of rectangular lights, then bounces between the surfaces.

Diffuse light does not depend on the camera, so it is computed at the texels of a coarse grid on every face: shadow rays
to a grid of points on each light, and gather rays over the hemisphere whose hits are kept, so that each further bounce
is only a look-up (Cohen and Wallace, Radiosity and Realistic Image Synthesis, 1993, chapter 4: gathering).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from splat.scenes.solids import FACES, Solid
from splat.scenes.trace import NOTHING, Light, Scene, first_hits

GATHER = 32
"""Hemisphere directions a texel."""
BOUNCES = 4
LIFT = 2e-3
"""Metres that a ray starts above its surface."""
MOST_TEXELS = 160
"""Along one edge of a face."""
CHUNK = 16384


def bake(scene: Scene, workers: int = 2) -> None:
    """Fill `scene.irradiance`."""
    grids, points, normals = _texels(scene)
    casters = [k for k, solid in enumerate(scene.solids) if solid.casts]
    direct = np.zeros(points.shape, np.float32)
    with ThreadPoolExecutor(workers) as pool:
        for light in scene.lights:
            parts = pool.map(
                _direct(scene, casters, light, points, normals), _chunks(points.shape[1], light.samples**2)
            )
            direct += np.concatenate(list(parts), 1)
        gather = _gather(scene, casters, grids, points, normals)
        hits = np.concatenate(list(pool.map(gather, _chunks(points.shape[1], GATHER))))
    albedo = np.concatenate([
        np.repeat(scene.solids[k].surfaces[face].albedo[:, None], h * w, 1) for (k, face), (_, h, w) in grids.items()
    ], 1)  # fmt: skip
    sky = np.array(scene.sky, np.float32)[:, None]
    total = direct
    for _ in range(BOUNCES):
        leaving = np.concatenate([albedo * total, sky], 1)  # index -1, a miss, is the sky
        total = direct + np.stack([channel[hits].mean(1) for channel in leaving])
    for key, (start, h, w) in grids.items():
        solid = scene.solids[key[0]]
        grid = total[:, start : start + h * w].reshape(3, h, w).transpose(1, 2, 0)
        wrap = solid.shape in {"sphere", "cylinder"} and key[1] == 0
        scene.irradiance[key] = _soften(grid, wrap).astype(np.float32)


def _chunks(texels: int, rays: int) -> list[slice]:
    step = max(1, CHUNK // rays)
    return [slice(a, min(a + step, texels)) for a in range(0, texels, step)]


def _grid_size(solid: Solid, face: int, texel: float) -> tuple[int, int]:
    across, down = solid.face_size(face)
    texel *= 0.8 + 0.12 * max(across, down)  # shadows on small things are small
    w, h = (int(np.clip(np.ceil(s / texel), 3, MOST_TEXELS)) for s in (across, down))
    return h, max(w, 8) if solid.shape in {"sphere", "cylinder"} and face == 0 else w


def _texels(scene: Scene) -> tuple[dict[tuple[int, int], tuple[int, int, int]], np.ndarray, np.ndarray]:
    """(solid, face) -> (start, h, w) in the flat arrays that follow: points [3 n], lifted, and normals [3 n]."""
    grids: dict[tuple[int, int], tuple[int, int, int]] = {}
    points, normals, start = [], [], 0
    for k, solid in enumerate(scene.solids):
        for face in range(FACES[solid.shape]):
            h, w = _grid_size(solid, face, scene.light_texel)
            v, u = (a.ravel() for a in np.meshgrid((np.arange(h) + 0.5) / h, (np.arange(w) + 0.5) / w, indexing="ij"))
            local = solid.points_at(face, u, v)
            normal = solid.normal_at(local, np.full(u.shape, face, np.int8))
            world = solid.world_from_local[:, :3] @ local + solid.world_from_local[:, 3:]
            points.append(world + LIFT * normal)
            normals.append(normal)
            grids[k, face] = (start, h, w)
            start += h * w
    return grids, np.concatenate(points, 1).astype(np.float32), np.concatenate(normals, 1).astype(np.float32)


def _direct(
    scene: Scene, casters: list[int], light: Light, points: np.ndarray, normals: np.ndarray
) -> Callable[[slice], np.ndarray]:
    """A function of a slice of texels: light [3 m] that reaches them straight, over pi."""
    s = (np.arange(light.samples) + 0.5) / light.samples * 2 - 1
    a, b = (g.ravel()[None] for g in np.meshgrid(s, s))
    centre, half_u, half_v = (np.array(v)[:, None] for v in (light.centre, light.half_u, light.half_v))
    targets = (centre + half_u * a + half_v * b).astype(np.float32)
    area_normal = np.cross(half_u[:, 0], half_v[:, 0]) * 4
    area = np.linalg.norm(area_normal)
    outward = (area_normal / area).astype(np.float32)
    rgb = np.array(light.rgb, np.float32)[:, None]

    def part(which: slice) -> np.ndarray:
        p, n = points[:, which, None], normals[:, which, None]
        ray = targets[:, None, :] - p
        square = (ray * ray).sum(0)
        cosines = np.maximum((ray * n).sum(0), 0) * np.maximum(-(ray * outward[:, None, None]).sum(0), 0)
        share = cosines / np.maximum(square, 1e-4) ** 2 * np.float32(area / light.samples**2 / np.pi)
        flat = share.reshape(-1)
        live = np.flatnonzero(flat > 0)
        if live.size:
            origin = np.broadcast_to(p, ray.shape).reshape(3, -1)[:, live]
            corners = np.concatenate([points[:, which], targets], 1)
            near = _reaching(scene, casters, corners.min(1), corners.max(1))
            blocked = _blocked(scene, near, origin, ray.reshape(3, -1)[:, live])
            flat[live[blocked]] = 0
        return share.sum(1)[None] * rgb

    return part


def _reaching(scene: Scene, casters: list[int], low: np.ndarray, high: np.ndarray) -> list[int]:
    """The casters whose bounds touch the box from `low` to `high`."""
    bounds = [(k, scene.solids[k].bounds) for k in casters]
    return [k for k, (a, b) in bounds if (a <= high).all() and (b >= low).all()]


def _blocked(scene: Scene, casters: list[int], origin: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """Whether something stands between `origin` and `origin + ray` [n]."""
    blocked = np.zeros(ray.shape[1], bool)
    open_ = np.arange(ray.shape[1])
    for k in casters:
        hit = scene.solids[k].intersect(origin, ray) < 0.999
        if hit.any():
            blocked[open_[hit]] = True
            open_, origin, ray = open_[~hit], origin[:, ~hit], ray[:, ~hit]
    return blocked


def _gather(
    scene: Scene,
    casters: list[int],
    grids: dict[tuple[int, int], tuple[int, int, int]],
    points: np.ndarray,
    normals: np.ndarray,
) -> Callable[[slice], np.ndarray]:
    """A function of a slice of texels: the flat texel [m GATHER] seen in each cosine-weighted direction, -1: none."""
    i = np.arange(GATHER) + 0.5
    radius, turn = np.sqrt(i / GATHER), i * np.pi * (3 - np.sqrt(5))
    disc = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sqrt(1 - radius**2)]).astype(np.float32)

    def part(which: slice) -> np.ndarray:
        n = normals[:, which]
        helper = np.where(np.abs(n[2]) < 0.9, np.array([[0], [0], [1]]), np.array([[1], [0], [0]])).astype(np.float32)
        a = np.cross(helper, n, axis=0)
        a /= np.linalg.norm(a, axis=0)
        b = np.cross(n, a, axis=0)
        ray = a[:, :, None] * disc[0] + b[:, :, None] * disc[1] + n[:, :, None] * disc[2]
        origin = np.broadcast_to(points[:, which, None], ray.shape).reshape(3, -1)
        ray = ray.reshape(3, -1)
        t, solid = first_hits(scene.solids, origin, ray, casters)
        texel = np.full(t.shape, NOTHING, np.int32)
        for k in np.unique(solid[solid >= 0]).tolist():
            at = np.flatnonzero(solid == k)
            o, d = scene.solids[k].to_local(origin[:, at], ray[:, at])
            face, u, v = scene.solids[k].surface_at(o + t[at] * d)
            table = np.array([grids[k, f] for f in range(FACES[scene.solids[k].shape])])
            start, h, w = table[face].T
            x, y = np.clip((u * w).astype(int), 0, w - 1), np.clip((v * h).astype(int), 0, h - 1)
            texel[at] = start + y * w + x
        return texel.reshape(-1, GATHER)

    return part


def _soften(grid: np.ndarray, wrap: bool) -> np.ndarray:
    """A 1-2-1 blur: hides the steps between the points of a light."""
    wide = np.pad(grid, ((0, 0), (1, 1), (0, 0)), mode="wrap" if wrap else "edge")
    grid = (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4
    tall = np.pad(grid, ((1, 1), (0, 0), (0, 0)), mode="edge")
    return (tall[:-2] + 2 * tall[1:-1] + tall[2:]) / 4
