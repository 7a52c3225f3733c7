"""Eight photos of three textured planes with known poses, for tests of what programs and people write around photos.

Small, matched without doubt, and made in a tenth of a second: the planes are drawn by homographies, with nothing of the
program that is tested.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

WIDTH, HEIGHT, FOCAL = 480, 360, 420.0
QUICK = ("--preset", "fast", "--iterations", "60", "--max-resolution", "240", "--no-renders", "--method", "points")
"""Options of `splat reconstruct` for a run of some seconds."""


@dataclass(frozen=True, eq=False)
class StreetView:
    bgr: np.ndarray
    """uint8 [h w 3]."""
    rotation: np.ndarray
    """[3 3], cam_from_world, OpenCV axes."""
    translation: np.ndarray
    """[3], of cam_from_world."""
    depth: np.ndarray
    """float32 [h w], z; 0 where no plane is."""


@cache
def street(count: int = 8, width: int = WIDTH, height: int = HEIGHT) -> tuple[StreetView, ...]:
    """`count` photos along a path past the planes. Intrinsics: FOCAL, FOCAL, width / 2, height / 2."""
    rng = np.random.default_rng(0)

    def texture() -> np.ndarray:
        noise = (rng.integers(0, 256, (k, k, 3)).astype(np.float32) for k in (9, 40, 130, 400))
        return np.sum([cv2.resize(n, (800, 800)) / 4 for n in noise], axis=0)

    textures = [texture() for _ in range(3)]
    planes = [  # a corner and two sides of each: a wall, the ground, a box before them
        ((-4, -3, 5), (8, 0, 0), (0, 6, 0)),
        ((-4, 1.2, 1.6), (8, 0, 0), (0, 0, 3.4)),
        ((-0.7, -0.2, 2.6), (1.3, 0, 0.5), (0, 1.4, 0)),
    ]
    k = np.array([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]])
    views = []
    for i in range(count):
        s = i / max(count - 1, 1)
        centre, a = np.array([-0.8 + 1.6 * s, 0.1 * (i % 3), 0.1 * (i % 2)]), 0.25 - 0.5 * s
        r = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
        image, depth = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
        y, x = np.mgrid[:height, :width]
        rays = np.stack([(x - width / 2) / FOCAL, (y - height / 2) / FOCAL, np.ones(x.shape)], -1) @ r  # in the world
        for t, (origin, u, v) in zip(textures, planes):
            columns = [r @ np.array(u) / 800, r @ np.array(v) / 800, r @ (np.array(origin) - centre)]
            h = k @ np.stack(columns, 1)
            on = cv2.warpPerspective(np.ones((800, 800), np.float32), h, (width, height))[..., None]
            image = image * (1 - on) + cv2.warpPerspective(t, h, (width, height)) * on
            normal = np.cross(u, v)
            with np.errstate(divide="ignore"):
                z = (np.array(origin) - centre) @ normal / (rays @ normal)
            depth = np.where(on[..., 0] > 0.5, z, depth).astype(np.float32)
        views.append(StreetView(image.clip(0, 255).astype(np.uint8), r, -r @ centre, depth))
    return tuple(views)


def write_photos(folder: Path, names: list[str] | None = None, quality: int = 95) -> list[Path]:
    """The photos as files called `names` (default 0.jpg, ...); the suffix decides the format."""
    paths = []
    for view, name in zip(street(), names or [f"{i}.jpg" for i in range(8)]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = path.suffix if path.suffix.lower() in {".png", ".tif", ".tiff", ".bmp", ".webp"} else ".jpg"
        path.write_bytes(cv2.imencode(suffix, view.bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
        paths.append(path)
    return paths


def transforms(names: list[str], views: tuple[StreetView, ...] | None = None) -> dict[str, Any]:
    """A nerfstudio `transforms.json` of views called `names`."""
    frames = []
    for name, view in zip(names, views or street()):
        m = np.eye(4)
        m[:3, :3] = view.rotation.T * [1, -1, -1]
        m[:3, 3] = -view.rotation.T @ view.translation
        frames.append({"file_path": name, "transform_matrix": m.tolist()})
    head = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    return head | {"camera_model": "OPENCV", "frames": frames}


def write_transforms(root: Path, names: list[str] | None = None, **changes: Any) -> Path:
    """Photos and `transforms.json` with values of the file changed; returns its path."""
    names = names or [f"images/{i}.jpg" for i in range(8)]
    write_photos(root, names)
    path = root / "transforms.json"
    path.write_text(json.dumps(transforms(names) | changes))
    return path


def write_colmap(root: Path, names: list[str], second_line: str = "\n", sparse: str = "sparse/0") -> Path:
    """A COLMAP text model (PINHOLE, poses without points) of views called `names`; returns its folder. `second_line`:
    what follows each image's line (some programs leave the line of its points out: "")."""
    folder = root / sparse
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}\n")
    rows = []
    for i, (name, view) in enumerate(zip(names, street()), 1):
        values = [i, *_quaternion(view.rotation), *view.translation, 1, name]
        rows.append(" ".join(map(str, values)) + "\n" + second_line)
    (folder / "images.txt").write_text("".join(rows))
    return folder


def _quaternion(r: np.ndarray) -> list[float]:
    """w x y z."""
    v = cv2.Rodrigues(r)[0].ravel()
    a = float(np.linalg.norm(v))
    return [float(np.cos(a / 2)), *(v / max(a, 1e-12) * np.sin(a / 2)).tolist()]
