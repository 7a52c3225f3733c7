"""A COLMAP model in memory, read from `.bin` or `.txt` files without believing their counts.

pycolmap reads on past the end of a cut file, ends names at a space, and gives up a whole model for one camera; it is
used here for its camera models alone. `rigs` and `frames`, which COLMAP 4 adds, are not needed: `images` has the pose
of every image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from splat.core.camera import Lens
from splat.core.interrupts import import_module
from splat.ingest.cameras import MAX_COORDINATE


@dataclass(frozen=True, eq=False)
class ModelImage:
    """A registered photo."""

    name: str
    camera_id: int
    quat_wxyz: tuple[float, ...]
    """Rotation of `cam_from_world` as the file gives it: neither finite nor of unit length for certain."""
    translation: tuple[float, ...]
    pixels: np.ndarray
    """float64 [m 2]: keypoints in the photo as stored."""
    point_ids: np.ndarray
    """uint64 or int64 [m]: the id of the point that each keypoint shows, or one that no point has."""


@dataclass(frozen=True, eq=False)
class ModelPoints:
    """n points."""

    ids: np.ndarray
    """[n], in ascending order, each once."""
    positions: np.ndarray
    """float64 [n 3]."""
    rgb: np.ndarray
    """uint8 [n 3]."""


@dataclass(frozen=True, eq=False)
class ColmapModel:
    folder: Path
    cameras: dict[int, Lens | str]
    """By id: the lens, or the reason why it cannot be read."""
    images: tuple[ModelImage, ...]
    warnings: tuple[str, ...] = ()
    """What was passed over."""
    read_points: Callable[[], ModelPoints | None] = field(default=lambda: None)


def camera_models() -> dict[int, tuple[str, int]]:
    """COLMAP's camera models: id -> (name, number of parameters)."""
    pycolmap: Any = import_module("pycolmap")

    out = {}
    for name, model in pycolmap.CameraModelId.__members__.items():
        if name != "INVALID":
            out[int(model)] = name, len(pycolmap.Camera.create_from_model_id(1, model, 1.0, 2, 2).params)
    return out


def lens_camera(lens: Lens) -> Any:  # -> pycolmap.Camera
    pycolmap: Any = import_module("pycolmap")

    return pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))


def cam_from_world(image: ModelImage) -> Any:  # -> pycolmap.Rigid3d | str
    """The pose of an image, or the reason why it has none."""
    pycolmap: Any = import_module("pycolmap")

    w, x, y, z = image.quat_wxyz
    quat, translation = np.array([x, y, z, w]), np.array(image.translation)
    if not np.isfinite(quat).all() or not np.isfinite(translation).all():
        return "their pose is not finite"
    norm = float(np.linalg.norm(quat))
    if not 0.5 < norm < 2:
        return "the quaternion of their pose is not of unit length"
    if np.abs(translation).max() > 1e12:
        return f"their pose is {np.abs(translation).max():g} units away"
    if abs(norm - 1) > 1e-4:  # else as written, so that nothing is lost
        quat = quat / norm
    return pycolmap.Rigid3d(pycolmap.Rotation3d(quat), translation)


def sorted_points(ids: np.ndarray, positions: np.ndarray, rgb: np.ndarray) -> ModelPoints | None:
    """Points by id, without repeated ids and those that are not finite or too far for float32; None where none is
    left."""
    good = (np.abs(positions) < MAX_COORDINATE).all(1)
    ids, first = np.unique(ids[good], return_index=True)
    if not len(ids):
        return None
    return ModelPoints(ids, np.ascontiguousarray(positions[good][first]), np.ascontiguousarray(rgb[good][first]))
