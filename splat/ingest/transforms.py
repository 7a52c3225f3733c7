"""Frames of a `transforms*.json`: nerfstudio, instant-ngp, NeRF-synthetic and their relatives.

Conventions: `transform_matrix` is `world_from_cam` with OpenGL camera axes (+x right, +y up, +z back); its second and
third columns change sign for OpenCV axes. Intrinsics follow COLMAP: the centre of the top-left pixel is (0.5, 0.5), as
here. nerfstudio and instant-ngp use them the same way (rays start at index + 0.5), so `cx` and `cy` are unchanged.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from splat.core.camera import Lens
from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.geometry import Rigid
from splat.core.lens import PARAMETERS, lens_problem
from splat.core.slots import Reporter
from splat.ingest.cameras import posed_view
from splat.ingest.exif import PhotoInfo
from splat.ingest.folders import posix_path

Json = dict[str, Any]

_MAX_LENGTH = 1e12
"""Of a camera's position, in the units of the file: what lies beyond is a damaged number."""


class WrongValue(Exception):
    """A value of a frame that cannot be used; its text is the reason, for `LeftOut`."""


def frames_of(data: Json, path: Path, report: Reporter) -> list[Json]:
    """The frames that name a photo, each merged with the global values of the file; its own values take precedence.
    Raises SplatError where there are none."""
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames:
        raise SplatError(f'{shown(path)} has no "frames": export it again.')
    shared = {k: v for k, v in data.items() if k != "frames"}
    nameless = [i for i, frame in enumerate(frames) if not _names_a_photo(frame)]
    if len(nameless) == len(frames):
        raise SplatError(f'Frame 0 of {shown(path)} has no "file_path": export it again.')
    if nameless:
        report.warn(
            f'{len(nameless)} of the {len(frames)} frames of {shown(path)} have no "file_path": left out '
            f"(first: frame {nameless[0]})."
        )
    return [{**shared, **frame} for frame in frames if _names_a_photo(frame)]


def _names_a_photo(frame: object) -> bool:
    name = frame.get("file_path") if isinstance(frame, dict) else None
    return isinstance(name, str) and PurePosixPath(posix_path(name)).name not in {"", ".."}


def number(frame: Json, key: str) -> float | None:
    """A finite number of a frame; None where it is absent or null. Raises WrongValue for anything else."""
    value = frame.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:  # an integer of hundreds of digits
            pass
    raise WrongValue(f'"{key}" is {shown(repr(value))[:60]}, not a number')


def matrix(value: object, what: str) -> torch.Tensor:
    """float64 [4 4] or [3 4] from nested lists. Raises WrongValue where `value` is none, or a number is not finite."""
    if value is None:
        raise WrongValue(f"there is no {what}")
    try:
        m = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise WrongValue(f"the {what} is not a matrix of numbers") from None
    if m.shape not in {(4, 4), (3, 4)}:
        raise WrongValue(f"the {what} is not 4x4")
    if not bool(m[:3].isfinite().all()):
        raise WrongValue(f"the {what} has values that are not finite")
    return m


def pose_of(frame: Json) -> Rigid:
    """`world_from_cam` with OpenCV axes. Raises WrongValue where there is none."""
    m = matrix(frame.get("transform_matrix"), '"transform_matrix"')
    return rigid(m[:3, :3] * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64), m[:3, 3], '"transform_matrix"')


def rigid(rotation: torch.Tensor, translation: torch.Tensor, what: str) -> Rigid:
    """The rigid motion of a nearly exact rotation, which may have a common scale. Raises WrongValue for others."""
    u, scales, vt = torch.linalg.svd(rotation)
    upright = u @ vt
    if not float(scales[2]) > 0.98 * float(scales[0]) > 0:  # allows few digits and a common scale
        raise WrongValue(f"the {what} is not a rotation")
    if float(torch.linalg.det(upright)) < 0:
        raise WrongValue(f"the {what} is not a rotation, it mirrors the scene")
    if float(translation.abs().max()) > _MAX_LENGTH:
        raise WrongValue(f"the {what} is {float(translation.abs().max()):g} units away")
    return Rigid(upright.contiguous(), translation.contiguous())


def lens_of(frame: Json, info: PhotoInfo) -> Lens:
    """The lens of a frame, in pixels of the size that the frame gives, else of the photo as stored. Raises
    WrongValue."""
    size = [number(frame, k) for k in ("w", "h")]
    if any(s is not None and not 0 <= s < 1e9 for s in size):
        raise WrongValue(f"the size of its camera is {size[0]:g}x{size[1]:g}" if all(size) else "the size is negative")
    width, height = (round(s) if s else stored for s, stored in zip(size, info.stored_size))
    fx, fy = number(frame, "fl_x") or number(frame, "fx"), number(frame, "fl_y") or number(frame, "fy")
    for axis, pixels in (("x", width), ("y", height)):
        angle = number(frame, f"camera_angle_{axis}")
        if angle and not 1e-6 < angle < math.pi:
            raise WrongValue(f'"camera_angle_{axis}" is {angle:g}, it must lie between 0 and pi')
        if angle and axis == "x" and not fx:
            fx = 0.5 * pixels / math.tan(0.5 * angle)
        if angle and axis == "y" and not fy:
            fy = 0.5 * pixels / math.tan(0.5 * angle)
    fx, fy = fx or fy, fy or fx
    if not fx or not fy:
        raise WrongValue('there is no focal length ("fl_x" or "camera_angle_x")')
    values = {k: number(frame, k) or 0.0 for k in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")}
    centre = number(frame, "cx") or width / 2, number(frame, "cy") or height / 2
    values |= {"fx": fx, "fy": fy, "f": fx, "cx": centre[0], "cy": centre[1], "omega": number(frame, "omega") or 0.0}
    values |= {k: number(frame, k) or 0.0 for k in ("sx1", "sy1")}
    model = _model(frame, values)
    if model == "FULL_OPENCV" and frame.get("camera_model") != model and values["k4"]:
        problem = lens_problem(Lens("PINHOLE", (fx, fy, *centre), width, height))
        if problem:
            raise WrongValue(problem)
        values = _without_eighth_power(values, math.hypot(width / fx, height / fy) / 2)
    return Lens(model, tuple(values[n] for n in PARAMETERS[model].split()), width, height)


def _model(frame: Json, values: dict[str, float]) -> str:
    """The COLMAP camera model of a frame; PINHOLE where distortion is absent or zero."""
    name = frame.get("camera_model") or frame.get("camera_type") or ""
    if not isinstance(name, str):
        raise WrongValue(f'"camera_model" is {shown(repr(name))[:60]}, not a name')
    named = name.upper()
    if frame.get("is_fisheye") or "FISHEYE" in named:
        return named if named in PARAMETERS else "OPENCV_FISHEYE"
    if named in {"FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL"}:
        return named
    if named not in {"", "OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE"}:
        raise WrongValue(f"cameras of type {shown(named)[:60]} are not read; cut the photos into perspective views")
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


def view_of(name: str, frame: Json, info: PhotoInfo, path: Path) -> View | str:
    """The view of a frame, or the reason why it is left out. `info` is the header of its photo, `path` the file."""
    try:
        pose, lens = pose_of(frame), lens_of(frame, info)
    except WrongValue as e:
        return str(e)
    mask = frame.get("mask_path")
    mask_path = path.parent / posix_path(mask) if isinstance(mask, str) and _can_be_a_path(mask) else None
    return posed_view(name, lens, pose, info, _group(lens), mask_path)


def _can_be_a_path(name: str) -> bool:
    return "\0" not in name and all(len(p.encode("utf-8", "surrogatepass")) < 256 for p in posix_path(name).split("/"))


def _group(lens: Lens) -> str:
    return f"{lens.model} {lens.width}x{lens.height} " + " ".join(f"{p:g}" for p in lens.params)


def common_folder(files: list[str]) -> PurePosixPath:
    """The deepest folder that contains all of these relative paths."""
    parents = [PurePosixPath(f).parent.parts for f in files]
    depth = 0
    while all(len(p) > depth for p in parents) and len({p[depth] for p in parents}) == 1:
        depth += 1
    return PurePosixPath(*parents[0][:depth])
