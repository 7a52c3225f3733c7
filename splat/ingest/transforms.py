"""Frames of a `transforms*.json`: nerfstudio, instant-ngp, NeRF-synthetic and their relatives.

Conventions: `transform_matrix` is `world_from_cam` with OpenGL camera axes (+x right, +y up, +z back); its second and
third columns change sign for OpenCV axes. Intrinsics follow COLMAP: the centre of the top-left pixel is (0.5, 0.5), as
here. nerfstudio and instant-ngp use them the same way (rays start at index + 0.5), so `cx` and `cy` are unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from splat.core.camera import Lens
from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.ingest.cameras import PARAMETERS, camera_through
from splat.ingest.exif import PhotoInfo
from splat.ingest.folders import posix_path

Json = dict[str, Any]


def frames_of(data: Json, path: Path) -> list[Json]:
    """The frames, each merged with the global values of the file; its own values take precedence."""
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames:
        raise SplatError(f'{path} has no "frames": export it again.')
    shared = {k: v for k, v in data.items() if k != "frames"}
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise SplatError(f'Frame {i} of {path} has no "file_path": correct or remove it.')
    return [{**shared, **frame} for frame in frames]


def pose_of(frame: Json, path: Path) -> Rigid | None:
    """`world_from_cam` with OpenCV axes; None for values that are not finite (a photo that was not registered)."""
    where = f'"transform_matrix" of {frame["file_path"]} in {path}'
    try:
        m = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
    except KeyError:
        raise SplatError(f"There is no {where}: remove this frame.") from None
    except (TypeError, ValueError):
        raise SplatError(f"The {where} contains a value that is not a number: correct it.") from None
    if m.shape not in {(4, 4), (3, 4)}:
        raise SplatError(f"The {where} is not 4x4: correct it.")
    if not bool(m[:3].isfinite().all()):
        return None
    rotation = m[:3, :3] * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    u, scales, vt = torch.linalg.svd(rotation)
    upright = u @ vt
    even = float(scales[2]) > 0.98 * float(scales[0]) > 0  # allows few digits and a common scale
    if not even or float(torch.linalg.det(upright)) < 0:
        raise SplatError(f"The {where} is not a rotation: export it again, or use --ignore-poses.")
    return Rigid(upright.contiguous(), m[:3, 3].contiguous())


def lens_of(frame: Json, info: PhotoInfo, path: Path) -> Lens:
    """The lens of a frame, in pixels of the size that the frame gives, else of the photo."""

    def number(key: str, default: float | None = None) -> float | None:
        value = frame.get(key, default)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SplatError(f'"{key}" in {path} is {value!r}, not a number: correct it.')
        return float(value)

    width, height = (round(number(k) or s) for k, s in zip(("w", "h"), info.size))
    fx, fy = number("fl_x") or number("fx"), number("fl_y") or number("fy")
    for axis, size in (("x", width), ("y", height)):
        angle = number(f"camera_angle_{axis}")
        if angle and not 0 < angle < math.pi:
            raise SplatError(f'"camera_angle_{axis}" in {path} is {angle}: it must lie between 0 and pi.')
        if angle and axis == "x" and not fx:
            fx = 0.5 * size / math.tan(0.5 * angle)
        if angle and axis == "y" and not fy:
            fy = 0.5 * size / math.tan(0.5 * angle)
    fx, fy = fx or fy, fy or fx
    if not fx or not fy or min(fx, fy) <= 0:
        raise SplatError(f'{path} gives no focal length for {frame["file_path"]}: add "fl_x" or "camera_angle_x".')
    values = {k: number(k, 0.0) or 0.0 for k in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")}
    values |= {"fx": fx, "fy": fy, "f": fx, "cx": number("cx") or width / 2, "cy": number("cy") or height / 2}
    model = _model(frame, values, path)
    if model == "FULL_OPENCV" and frame.get("camera_model") != model and values["k4"]:
        values = _without_eighth_power(values, math.hypot(width / fx, height / fy) / 2)
    return Lens(model, tuple(values[n] for n in PARAMETERS[model].split()), width, height)


def _model(frame: Json, values: dict[str, float], path: Path) -> str:
    """The COLMAP camera model of a frame; PINHOLE where distortion is absent or zero."""
    named = str(frame.get("camera_model") or frame.get("camera_type") or "").upper()
    if frame.get("is_fisheye") or "FISHEYE" in named:
        return named if named in PARAMETERS else "OPENCV_FISHEYE"
    if named in {"FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL"}:
        return named
    if named not in {"", "OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE"}:
        raise SplatError(f"{path} has cameras of type {named}: cut them into perspective views, or use --ignore-poses.")
    if "PINHOLE" in named:
        return "PINHOLE"
    if values["k3"] or values["k4"]:
        return "FULL_OPENCV"
    return "OPENCV" if any(values[k] for k in ("k1", "k2", "p1", "p2")) else "PINHOLE"


def _without_eighth_power(values: dict[str, float], corner: float) -> dict[str, float]:
    """Radial coefficients k1 to k3 that fit 1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8 for radii up to `corner` in the
    least-squares sense. No camera model of COLMAP has the last term (k4 of FULL_OPENCV is in its denominator)."""
    r = torch.linspace(0, corner, 200, dtype=torch.float64)[:, None]
    powers = r * torch.cat([r**2, r**4, r**6, r**8], 1)
    target = powers @ torch.tensor([values[f"k{i}"] for i in (1, 2, 3, 4)], dtype=torch.float64)[:, None]
    k1, k2, k3 = torch.linalg.lstsq(powers[:, :3], target).solution[:, 0].tolist()
    return values | {"k1": k1, "k2": k2, "k3": k3, "k4": 0.0}


def view_of(name: str, frame: Json, info: PhotoInfo, path: Path) -> View | None:
    """The view of a frame; None where it has no pose. `info` is the header of its photo."""
    pose = pose_of(frame, path)
    if pose is None:
        return None
    lens = lens_of(frame, info, path)
    camera, pose = camera_through(lens, pose, info)
    mask = frame.get("mask_path")
    return View(
        name=name,
        image_path=info.path,
        photo_size=info.size,
        camera=camera,
        world_from_cam=pose,
        mask_path=path.parent / posix_path(mask) if isinstance(mask, str) else None,
        camera_group=_group(lens),
        focal_from="file",
    )


def _group(lens: Lens) -> str:
    return f"{lens.model} {lens.width}x{lens.height} " + " ".join(f"{p:g}" for p in lens.params)


def common_folder(files: list[str]) -> PurePosixPath:
    """The deepest folder that contains all of these relative paths."""
    parents = [PurePosixPath(f).parent.parts for f in files]
    depth = 0
    while all(len(p) > depth for p in parents) and len({p[depth] for p in parents}) == 1:
        depth += 1
    return PurePosixPath(*parents[0][:depth])


def report_missing(missing: list[str], total: int, path: Path, warn: Callable[[str], None]) -> None:
    """Warns with the number of missing photos and the first names. Raises SplatError where all are missing."""
    if not missing:
        return
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    if len(missing) == total:
        raise SplatError(
            f"None of the {total} photos that {path} names exists (first: {missing[0]}): "
            "put them beside it, or name their folder with --images."
        )
    warn(f"{len(missing)} of the {total} photos that {path} names do not exist: left out ({some}).")
