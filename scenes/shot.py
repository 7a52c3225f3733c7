"""From radiance to files: exposure, noise, encoding, and the truth that goes with each photo."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from splat.core.camera import Camera
from splat.core.files import atomic_path, write_atomic
from splat.core.geometry import Rigid
from splat.scenes.render import Picture
from splat.scenes.texels import srgb_from_linear
from splat.scenes.trace import Scene

JPEG_QUALITY = 97


@dataclass(frozen=True, eq=False)
class Shot:
    """One photo to take."""

    name: str
    camera: Camera
    world_from_cam: Rigid
    exposure_ev: float = 0.0
    """Stops by which the photo is brighter than the scene's own exposure."""
    test: bool = False
    """Held out where the layout says so (`orbit`); else every eighth photo is, as everywhere."""


@dataclass(frozen=True, eq=False)
class Session:
    """All photos of one scene."""

    scene: Callable[[], Scene]
    shots: tuple[Shot, ...]
    noise: float
    """Standard deviation of the noise in sRGB values of [0, 1]."""
    seed: int
    transparent: bool = False
    """PNG with alpha instead of JPEG, and `transforms_train.json` and `transforms_test.json` beside the photos."""
    posed: bool = False
    """`transforms.json` beside the photos, as nerfstudio writes it: the dataset brings its poses."""

    def layouts(self, scene: str) -> dict[str, Any]:
        """File name -> content of the pose files that the photos' layout has: those of NeRF-synthetic or nerfstudio, or
        none."""
        if self.posed:
            c = self.shots[0].camera
            lens = {"fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy, "w": c.width, "h": c.height}
            frames = [
                {"file_path": f"images/{s.name}", "transform_matrix": opengl(s.world_from_cam)} for s in self.shots
            ]
            return {"transforms.json": {"camera_model": "PINHOLE", **lens, "frames": frames}}
        if not self.transparent:
            return {}
        files: dict[str, Any] = {}
        for part, test in (("train", False), ("test", True)):
            shots = [s for s in self.shots if s.test == test]
            camera = self.shots[0].camera
            angle = 2 * np.arctan(camera.width / (2 * camera.fx))
            frames = [
                {"file_path": f"./images/{Path(s.name).stem}", "transform_matrix": opengl(s.world_from_cam)}
                for s in shots
            ]
            files[f"transforms_{part}.json"] = {"camera_angle_x": float(angle), "frames": frames}
        return files


def opengl(world_from_cam: Rigid) -> list[list[float]]:
    """The matrix for camera axes +x right, +y up, -z ahead."""
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    value: list[list[float]] = (world_from_cam.matrix().numpy() @ flip).tolist()
    return value


def smooth_drift(views: int, peak: float) -> list[float]:
    """Exposure of each photo in stops: slow waves of one, two and three periods over the walk, zero mean, the largest
    deviation is `peak`. The phases are frozen."""
    t = (np.arange(views) + 0.5) / views * 2 * np.pi
    wave = 0.55 * np.sin(t + 0.4) + 0.5 * np.sin(2 * t + 2.6) + 0.8 * np.sin(3 * t - 0.4)
    wave -= wave.mean()
    return (peak * wave / np.abs(wave).max()).tolist()


def develop(picture: Picture, exposure_ev: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 [h w 3]: exposure in linear light, sRGB encoding, then noise of `noise` in [0, 1]."""
    srgb = srgb_from_linear(picture.rgb * np.float32(2.0**exposure_ev))
    noisy = srgb + np.float32(noise) * rng.standard_normal(srgb.shape, dtype=np.float32)
    return (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)


def encode(pixels: np.ndarray, alpha: np.ndarray | None) -> bytes:
    """JPEG without chroma subsampling, or PNG with straight alpha where `alpha` [h w] in [0, 1] is given."""
    buffer = io.BytesIO()
    if alpha is None:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        cover = (alpha * 255 + 0.5).astype(np.uint8)
        pixels = np.where(cover[..., None] > 0, pixels, np.uint8(255))
        Image.fromarray(np.dstack([pixels, cover])).save(buffer, "PNG")
    return buffer.getvalue()


def save(shot: Shot, index: int, picture: Picture, session: Session, images: Path, truth: Path) -> None:
    """The photo into `images`, its depth and normals into `truth`; each file whole or not at all."""
    rng = np.random.default_rng([session.seed, index, 61])
    pixels = develop(picture, shot.exposure_ev, session.noise, rng)
    write_atomic(images / shot.name, encode(pixels, picture.alpha if session.transparent else None))
    with atomic_path(truth / f"{Path(shot.name).stem}.npz") as temporary:
        with temporary.open("wb") as file:
            np.savez_compressed(file, depth=picture.depth, normals=picture.normals.astype(np.float16), ids=picture.ids)
