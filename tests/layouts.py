"""One small scene written in every dataset layout, by code that shares nothing with the readers.

The photos show a bright dot for every point, drawn where OpenCV projects it (lens included). Whatever a reader makes
of poses, axes, intrinsics, lens, orientation and pixel centres: the dots must be where the capture's cameras see the
points.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from splat.core.geometry import Rigid

RADIUS = 6.0
"""Dots of a view whose neighbour or border is nearer than this are not measured."""


@dataclass(frozen=True)
class Shot:
    """How the photos were taken and stored."""

    width: int = 240
    height: int = 180
    fx: float = 210.0
    fy: float = 205.0
    cx: float = 113.0
    cy: float = 96.5
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """OpenCV's k1 k2 p1 p2, or its fisheye k1 k2 k3 k4."""
    fisheye: bool = False
    orientation: int = 1
    """EXIF: the photo is stored turned, and poses and intrinsics describe it as stored."""
    file_scale: float = 1.0
    """The file is this much smaller than the size its dataset states."""
    alpha: bool = False
    suffix: str = ".png"

    @property
    def k(self) -> np.ndarray:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])


@dataclass(frozen=True)
class Scene:
    points: np.ndarray
    """[n 3] in the source frame."""
    world_from_cam: list[np.ndarray] = field(default_factory=list)
    """[4 4] per view, OpenCV axes."""
    shot: Shot = Shot()

    @property
    def stems(self) -> list[str]:
        return [f"shot_{i:02d}" for i in range(len(self.world_from_cam))]

    def pixels(self, view: int) -> np.ndarray:
        """[n 2] in the stored photo at its stated size, centre of the top-left pixel at (0.5, 0.5)."""
        cam = np.linalg.inv(self.world_from_cam[view])
        s, zero = self.shot, np.zeros(3)
        local = (self.points @ cam[:3, :3].T + cam[:3, 3]).reshape(-1, 1, 3)
        d = np.array(s.distortion)
        if s.fisheye:
            return cv2.fisheye.projectPoints(local, zero, zero, s.k, d)[0].reshape(-1, 2)
        return cv2.projectPoints(local, zero, zero, s.k, d)[0].reshape(-1, 2)

    def write_photo(self, path: Path, view: int) -> None:
        s = self.shot
        w, h = round(s.width * s.file_scale), round(s.height * s.file_scale)
        y, x = np.mgrid[:h, :w] + 0.5
        image = np.full((h, w), 20.0)
        for px, py in self.pixels(view) * s.file_scale:
            image += 200 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.3**2))
        grey = np.clip(image, 0, 255).astype(np.uint8)
        pixels = np.dstack([grey] * 3 + [np.full_like(grey, 255)] * s.alpha)
        if s.alpha:
            pixels[:2, :2, 3] = 0
        exif = Image.Exif()
        exif[0x0112] = s.orientation
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, exif=exif, quality=98)

    def write_photos(self, folder: Path) -> None:
        for i, stem in enumerate(self.stems):
            self.write_photo(folder / f"{stem}{self.shot.suffix}", i)


def make_scene(shot: Shot = Shot(), views: int = 5, seed: int = 0) -> Scene:
    """Points in a box about the origin, seen from cameras with different heights and rolls."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.9, 0.9, (14, 3))
    poses = []
    for i in range(views):
        angle = 0.35 * (i - views / 2)
        eye = torch.tensor([3.4 * np.sin(angle), 0.3 * i - 0.5, -3.4 * np.cos(angle)])
        up = torch.tensor([0.3 * np.cos(i), -1.0, 0.2 * i])
        poses.append(Rigid.look_at(eye, torch.tensor([0.05, -0.02 * i, 0.0]), up).matrix().numpy())
    return Scene(points, poses, shot)


def centred(**kwargs: object) -> Shot:
    """A pinhole with square pixels and its principal point in the centre: all that some layouts can say."""
    return replace(Shot(fx=208.0, fy=208.0, cx=120.0, cy=90.0), **kwargs)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- writers


def write_colmap_text(scene: Scene, root: Path, model: str = "OPENCV", sparse: str = "sparse/0") -> None:
    """By hand, after colmap.github.io/format.html."""
    s = scene.shot
    params = {
        "PINHOLE": [s.fx, s.fy, s.cx, s.cy],
        "SIMPLE_PINHOLE": [s.fx, s.cx, s.cy],
        "SIMPLE_RADIAL": [s.fx, s.cx, s.cy, s.distortion[0]],
        "OPENCV": [s.fx, s.fy, s.cx, s.cy, *s.distortion],
        "OPENCV_FISHEYE": [s.fx, s.fy, s.cx, s.cy, *s.distortion],
    }[model]
    folder = root / sparse
    folder.mkdir(parents=True, exist_ok=True)
    line = f"7 {model} {s.width} {s.height} " + " ".join(map(repr, map(float, params)))
    (folder / "cameras.txt").write_text(f"# a comment\n{line}\n")
    lines = []
    # ids and order unlike the names' order
    for i in reversed(range(len(scene.stems))):
        cam = np.linalg.inv(scene.world_from_cam[i])
        q, t = quat_wxyz(cam[:3, :3]), cam[:3, 3]
        lines.append(" ".join(map(str, [100 - i, *q, *t, 7, f"{scene.stems[i]}{s.suffix}"])))
        lines.append(" ".join(f"{x} {y} {j + 1}" for j, (x, y) in enumerate(scene.pixels(i))))
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    rows = []
    for j, p in enumerate(scene.points):
        track = " ".join(f"{100 - i} {j}" for i in range(len(scene.stems)))
        rows.append(f"{j + 1} {p[0]} {p[1]} {p[2]} {10 * j} 128 {255 - j} 0.5 {track}")
    (folder / "points3D.txt").write_text("\n".join(rows) + "\n")


def write_colmap_binary(scene: Scene, root: Path, model: str = "OPENCV", sparse: str = "sparse/0") -> None:
    """The same model through COLMAP's own writer."""
    import pycolmap

    write_colmap_text(scene, root, model, sparse)
    folder = root / sparse
    pycolmap.Reconstruction(folder).write_binary(folder)
    for text in folder.glob("*.txt"):
        text.unlink()


def quat_wxyz(r: np.ndarray) -> np.ndarray:
    """By the eigenvector of Bar-Itzhack's matrix."""
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r.trace()],
        ]
    )
    x, y, z, w = np.linalg.eigh(k / 3)[1][:, -1]
    return np.array([w, x, y, z])


def opengl(world_from_cam: np.ndarray) -> list[list[float]]:
    """+x right, +y up, +z back."""
    return (world_from_cam @ np.diag([1.0, -1, -1, 1])).tolist()


APPLIED = np.array([[0.0, 0, -1, 0.4], [1, 0, 0, -2.0], [0, -1, 0, 0.7], [0, 0, 0, 1]])
"""A turn and a shift, as `applied_transform`."""


def write_transforms(scene: Scene, root: Path, **overrides: object) -> dict:
    """nerfstudio: one camera for all, an applied transform, points in a PLY."""
    s = scene.shot
    names = ("k1", "k2", "k3", "k4") if s.fisheye else ("k1", "k2", "p1", "p2")
    data: dict = {
        "w": s.width, "h": s.height, "fl_x": s.fx, "fl_y": s.fy, "cx": s.cx, "cy": s.cy,
        "camera_model": "OPENCV_FISHEYE" if s.fisheye else "OPENCV",
        **dict(zip(names, s.distortion)),
        "applied_transform": APPLIED[:3].tolist(),
        "ply_file_path": "sparse_pc.ply",
        "frames": [
            {"file_path": f"images/{stem}{s.suffix}", "transform_matrix": opengl(APPLIED @ pose)}
            for stem, pose in zip(reversed(scene.stems), reversed(scene.world_from_cam))
        ],
    }  # fmt: skip
    data |= overrides
    root.mkdir(parents=True, exist_ok=True)
    (root / "transforms.json").write_text(json.dumps(data))
    moved = scene.points @ APPLIED[:3, :3].T + APPLIED[:3, 3]
    rows = "".join(f"{x} {y} {z} {10 * j} 128 {255 - j}\n" for j, (x, y, z) in enumerate(moved))
    header = f"ply\nformat ascii 1.0\nelement vertex {len(moved)}\n"
    header += "".join(f"property float {a}\n" for a in "xyz") + "".join(
        f"property uint8 {c}\n" for c in ("red", "green", "blue")
    )
    (root / "sparse_pc.ply").write_text(header + "end_header\n" + rows)
    return data


def write_instant_ngp(scene: Scene, root: Path) -> None:
    """Every frame its own intrinsics, no camera_model, names that start with ./ and lack a suffix."""
    s = scene.shot
    own = {"fl_x": s.fx, "fl_y": s.fy, "cx": s.cx, "cy": s.cy, "w": float(s.width), "h": float(s.height)}
    own |= dict(zip(("k1", "k2", "k3", "k4") if s.fisheye else ("k1", "k2", "p1", "p2"), s.distortion))
    frames = [
        {"file_path": f"./images/{stem}", "sharpness": 1.0, "transform_matrix": opengl(pose), **own}
        for stem, pose in zip(scene.stems, scene.world_from_cam)
    ]
    root.mkdir(parents=True, exist_ok=True)
    (root / "transforms.json").write_text(json.dumps({"aabb_scale": 4, "is_fisheye": s.fisheye, "frames": frames}))


def write_blender(scene: Scene, root: Path, held_out: int = 2) -> None:
    s = scene.shot
    for role, ids in (("train", range(held_out, len(scene.stems))), ("test", range(held_out))):
        frames = []
        for i in ids:
            scene.write_photo(root / role / f"r_{i}.png", i)
            frames.append({"file_path": f"./{role}/r_{i}", "transform_matrix": opengl(scene.world_from_cam[i])})
        data = {"camera_angle_x": 2 * float(np.arctan(0.5 * s.width / s.fx)), "frames": frames}
        (root / f"transforms_{role}.json").write_text(json.dumps(data))


def write_llff(scene: Scene, root: Path) -> None:
    s = scene.shot
    rows = []
    for pose in scene.world_from_cam:
        right, down, ahead, where = pose[:3].T
        m = np.stack([down, right, -ahead, where, [s.height, s.width, s.fx]], 1)
        rows.append(np.concatenate([m.ravel(), [1.0, 9.0]]))
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / "poses_bounds.npy", np.array(rows))


SCALE = np.array([[2.5, 0, 0, 0.3], [0, 2.5, 0, -0.2], [0, 0, 2.5, 0.1], [0, 0, 0, 1]])
"""`scale_mat` of IDR: world from normalized coordinates."""


def write_idr(scene: Scene, root: Path, file: str = "cameras_sphere.npz") -> None:
    """Projections with pixel centres at whole numbers, each with a factor and sign of its own."""
    k = np.eye(4)
    k[:3, :3] = scene.shot.k
    k[:2, 2] -= 0.5
    arrays = {}
    for i, pose in enumerate(scene.world_from_cam):
        arrays[f"world_mat_{i}"] = (k @ np.linalg.inv(pose)) * (-1) ** i * (1 + i)
        arrays[f"scale_mat_{i}"] = SCALE
        scene.write_photo(root / "image" / f"{i:06d}{scene.shot.suffix}", i)
    np.savez(root / file, **arrays)


# ----------------------------------------------------------------------------------------------------------- measuring


def dot_errors(grey: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Distance in pixels between each expected position [n 2] and the dot drawn there, where one can be measured."""
    h, w = grey.shape
    errors = []
    for i, (x, y) in enumerate(expected):
        others = np.delete(expected, i, 0)
        if not (RADIUS < x < w - RADIUS and RADIUS < y < h - RADIUS):
            continue
        if len(others) and np.abs(others - (x, y)).max(1).min() < 2 * RADIUS:
            continue
        x0, y0, r = int(x), int(y), int(RADIUS) - 1
        window = grey[y0 - r : y0 + r + 1, x0 - r : x0 + r + 1].astype(float) - 20
        window[window < 8] = 0
        yy, xx = np.mgrid[y0 - r : y0 + r + 1, x0 - r : x0 + r + 1] + 0.5
        total = window.sum()
        found = (window * xx).sum() / max(total, 1e-9), (window * yy).sum() / max(total, 1e-9)
        errors.append(np.hypot(found[0] - x, found[1] - y) if total > 100 else np.inf)
    return np.array(errors)
