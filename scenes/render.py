"""A camera's picture of a scene, antialiased, with the exact depth and normal of every pixel's centre."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.scenes.solids import NEAR, Solid
from splat.scenes.trace import NOTHING, Scene, first_hits, shade

Tile = tuple[int, int, int, int]
"""Rows and columns of a part of a picture: top, bottom, left, right."""
CHUNK = 32768
"""Rays at a time: their arrays stay in the second-level cache."""


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
    rays = _Rays(camera, eye.astype(np.float32), turn.astype(np.float32))
    _inside_faces(scene, rays, np.where(edge, np.int16(NOTHING), ids), depth, inner, rgb, alpha)
    _at_edges(scene, rays, ids, edge, tiles, edges, rgb, alpha)
    return Picture(rgb * np.float32(scene.gain), alpha, depth, normals, ids)


def _centres(
    scene: Scene, camera: Camera, eye: np.ndarray, turn: np.ndarray, ids: np.ndarray, nearest: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, normals and faces at pixel centres, where `ids` says which solid is seen and `nearest` at which depth, as
    float32 found them."""
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


@dataclass(frozen=True, eq=False)
class _Rays:
    """Makes the rays of one picture, in float32."""

    camera: Camera
    eye: np.ndarray
    turn: np.ndarray

    def grid(self, y: np.ndarray, x: np.ndarray, side: int, ray: np.ndarray | None = None) -> np.ndarray:
        """Directions [3 n side^2] of a grid of rays in each of n pixels, or [3 n] of one `ray` of each grid."""
        number = np.arange(side * side)[None] if ray is None else ray[:, None]
        px = (x[:, None] + (number % side + 0.5) / side).astype(np.float32).ravel()
        py = (y[:, None] + (number // side + 0.5) / side).astype(np.float32).ravel()
        return _directions(self.camera, self.turn, px, py)

    def footprint(self, side: int) -> float:
        return 1 / (self.camera.fx * side)


def _inside_faces(
    scene: Scene, rays: _Rays, ids: np.ndarray, depth: np.ndarray, side: int, rgb: np.ndarray, alpha: np.ndarray
) -> None:
    """Fill the pixels that one face covers: `ids` [h w] says whose, NOTHING leaves a pixel alone."""
    for k, ys, xs in _groups(ids):
        for start in range(0, ys.size, CHUNK // side**2):
            y, x = (a[start : start + CHUNK // side**2] for a in (ys, xs))
            direction = rays.grid(y, x, side)
            # The neighbours' centres hit this convex face too, so every ray between them does, up to float32.
            t = scene.solids[k].intersect(rays.eye, direction)
            t = np.where(np.isfinite(t), t, np.repeat(depth[y, x], side * side))
            light = shade(scene, k, rays.eye, direction, t, rays.footprint(side), side)
            rgb[y, x] = light.reshape(-1, side * side, 3).mean(1)
            alpha[y, x] = 1


def _at_edges(
    scene: Scene, rays: _Rays, ids: np.ndarray, edge: np.ndarray, tiles: list[Tile], side: int, rgb: np.ndarray,
    alpha: np.ndarray,
) -> None:  # fmt: skip
    """Fill the pixels marked in `edge` [h w]; only solids seen nearby are tried."""
    parts = []
    for top, bottom, left, right in tiles:
        y, x = np.nonzero(edge[top:bottom, left:right])
        if y.size:
            near = ids[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
            direction = rays.grid(y + top, x + left, side)
            hits = first_hits(scene.solids, rays.eye, direction, np.unique(near[near >= 0]).tolist())
            parts.append((y + top, x + left, *hits))
    y, x, t, which = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    light = np.zeros((t.size, 3), np.float32)
    for k, _, at in _groups(which[None]):
        for some in np.split(at, range(CHUNK, at.size, CHUNK)):
            pixel = some // side**2
            direction = rays.grid(y[pixel], x[pixel], side, some % side**2)
            light[some] = shade(scene, k, rays.eye, direction, t[some], rays.footprint(side), 1)
    cover = (which >= 0).reshape(-1, side * side).mean(1, dtype=np.float32)
    rgb[y, x] = light.reshape(-1, side * side, 3).mean(1) / np.maximum(cover, 1e-6)[:, None]
    alpha[y, x] = cover


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
