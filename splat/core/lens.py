"""Undistortion: resampling a photo taken through a lens to a pinhole camera. Uses the camera models of pycolmap."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from splat.core.camera import Camera, Lens
from splat.core.geometry import Rigid
from splat.core.interrupts import import_module
from splat.core.resampling import resampled, resize_area

_PINHOLES = {"SIMPLE_PINHOLE", "PINHOLE"}
PARAMETERS: dict[str, str] = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "fx fy cx cy omega",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
}
"""COLMAP's camera models that can be rotated with a photo: their parameter names. Other models are passed through."""
_MAX_SIDE = 100_000
"""Of a photo, px. Undistortion follows its border and takes seconds for this many."""
_FOCAL_RANGE = 0.01, 10_000.0
"""Focal length in multiples of the long side: far beyond any lens, but what damaged numbers rarely keep to."""
_MAX_STRETCH = 10.0
"""Between the two focal lengths, and by distortion."""


def pinhole_for(lens: Lens, blank_pixels: float = 0.0, max_upscale: float = 1.0) -> Camera:
    """The pinhole camera to undistort a photo to: with the focal length and size of the lens, cropped where needed.

    `blank_pixels` in [0, 1]: with 0 the image is cropped such that the photo covers all of it, with 1 it contains all
    of the photo. `Camera.lens` of the result is set, so reading a photo for it removes the distortion. Lenses wider
    than 90 degrees keep their focal length.
    """
    pycolmap: Any = import_module("pycolmap")

    source = _colmap_camera(lens)
    if lens.model in _PINHOLES:
        k = source.calibration_matrix().tolist()
        return Camera(k[0][0], k[1][1], k[0][2], k[1][2], lens.width, lens.height)
    options = pycolmap.UndistortCameraOptions()
    options.blank_pixels = blank_pixels
    options.max_scale = max_upscale
    target = pycolmap.undistort_camera(options, source)
    k = target.calibration_matrix().tolist()
    return Camera(k[0][0], k[1][1], k[0][2], k[1][2], target.width, target.height, lens)


def lens_problem(lens: Lens) -> str | None:
    """Why no photo has these intrinsics, such as "the focal length is 4e-310 px for 480x360"; None where they
    are believable. Judged are the size, focal length, principal point and distortion, in this order; each against the
    size. Nothing here takes longer for larger numbers."""

    w, h = lens.width, lens.height
    if not 0 < min(w, h) <= max(w, h) <= _MAX_SIDE:
        return f"the size of its camera is {w}x{h}"
    if not np.isfinite(lens.params).all():
        return f"the intrinsics are not finite ({_listed(lens.params)})"
    try:
        camera = _colmap_camera(lens)
        known = camera.verify_params()
    except (RuntimeError, ValueError, TypeError, KeyError, OverflowError):
        known = False
    if not known:
        return f"the intrinsics do not belong to a {lens.model} camera ({_listed(lens.params)})"
    focals = [lens.params[i] for i in camera.focal_length_idxs()]
    smallest, largest = (f * max(w, h) for f in _FOCAL_RANGE)
    for f in focals:
        if not smallest <= f <= largest:
            return f"the focal length is {f:g} px for {w}x{h}"
    if focals and max(focals) > _MAX_STRETCH * min(focals):
        return f"the focal lengths are {_listed(focals)} px"
    for i, size in zip(camera.principal_point_idxs(), (w, h)):
        if abs(lens.params[i] - size / 2) > 2 * size:
            return f"the principal point is at {lens.params[i]:g} px of {size}"
    if focals and camera.extra_params_idxs():
        # along the short side, where the polynomials of real lenses still hold
        angles = np.array([0.25, 0.5, 0.75]) * min(min(w, h) / 2 / min(focals), 1.2)
        ahead = np.stack([0 * angles, np.sin(angles), np.cos(angles)], 1)
        centre = np.array([lens.params[i] for i in camera.principal_point_idxs()])
        with np.errstate(all="ignore"):
            stretch = np.linalg.norm(np.asarray(camera.img_from_cam(ahead)) - centre, axis=1) / (angles * focals[-1])
        if not ((stretch > 1 / _MAX_STRETCH) & (stretch < _MAX_STRETCH)).all():
            extras = [lens.params[i] for i in camera.extra_params_idxs()]
            return f"the distortion is impossible ({_listed(extras)})"
    return None


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{v:g}" for v in values[:12])


def undistort(
    pixels: np.ndarray, alpha: np.ndarray | None, mask: np.ndarray | None, camera: Camera
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Resample a photo to `camera`, which has a lens: colour [h w 3], alpha and weight [h w], as in `core.image.Photo`.
    Pixels outside the photo get weight 0."""
    assert camera.lens is not None
    lens = camera.lens
    height, width = pixels.shape[:2]
    # Shrink first when a pixel of the target covers several of the photo: remap alone would alias.
    shrink = min(1.0, max(camera.fx, camera.fy) / lens.params[0] * lens.width / width)
    w, h = max(1, round(width * shrink)), max(1, round(height * shrink))
    map_x, map_y = _remap(lens, camera, w, h)

    def through(channels: np.ndarray, mode: int = cv2.INTER_CUBIC) -> np.ndarray:
        return cv2.remap(resize_area(channels, w, h), map_x, map_y, mode, borderMode=cv2.BORDER_REPLICATE)

    rgb, alpha = resampled(pixels[..., :3], alpha, through)
    inside = ((map_x >= -0.5) & (map_x <= w - 0.5) & (map_y >= -0.5) & (map_y <= h - 0.5)).astype(np.uint8) * 255
    if mask is not None:
        inside = np.minimum(inside, through(mask, cv2.INTER_LINEAR))
    return rgb, alpha, None if inside.min() == 255 else inside


def photo_positions(camera: Camera, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of `camera`, its position in the photo at width x height (pixel centres at whole numbers), float32
    [h w] each: through the lens, where the camera has one."""
    if camera.lens is not None:
        return _remap(camera.lens, camera, width, height)
    x = (np.arange(camera.width, dtype=np.float32) + 0.5) * (width / camera.width) - 0.5
    y = (np.arange(camera.height, dtype=np.float32) + 0.5) * (height / camera.height) - 0.5
    map_x, map_y = np.meshgrid(x, y)
    return map_x, map_y


def _colmap_camera(lens: Lens):  # -> pycolmap.Camera
    pycolmap: Any = import_module("pycolmap")

    return pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))


@functools.lru_cache(maxsize=4)
def _remap(lens: Lens, camera: Camera, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of `camera`, its position in the photo at width x height (cv2: pixel centres at integers)."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], -1).reshape(-1, 3)
    source = np.asarray(_colmap_camera(lens).img_from_cam(rays)).reshape(camera.height, camera.width, 2)
    source = np.nan_to_num(source, nan=-1e6)
    map_x = source[..., 0] * (width / lens.width) - 0.5
    map_y = source[..., 1] * (height / lens.height) - 0.5
    return map_x.astype(np.float32), map_y.astype(np.float32)


def rotated(lens: Lens, orientation: int) -> tuple[Lens, Rigid] | str:
    """The lens of the photo rotated upright (EXIF 3, 6 or 8), and `cam_from_rotated`; or why there is none."""
    quarter_turns = {1: 0, 6: 1, 3: 2, 8: 3}[orientation]
    if quarter_turns and lens.model not in PARAMETERS:
        return f"EXIF orientation {orientation} turns them, which their {lens.model} lens cannot be; store them upright"
    cam_from_rotated = Rigid.identity()
    for _ in range(quarter_turns):
        lens = _rotated_clockwise(lens)
        # Clockwise: the new x axis is the old -y axis, the new y axis the old x axis.
        quarter = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]], dtype=torch.float64)
        cam_from_rotated = cam_from_rotated @ Rigid(quarter, torch.zeros(3, dtype=torch.float64))
    return lens, cam_from_rotated


def _rotated_clockwise(lens: Lens) -> Lens:
    names = PARAMETERS[lens.model].split()
    p = dict(zip(names, lens.params))
    new = dict(p)
    new["cx"], new["cy"] = lens.height - p["cy"], p["cx"]
    if "fx" in p:
        new["fx"], new["fy"] = p["fy"], p["fx"]
    if "p1" in p:
        new["p1"], new["p2"] = p["p2"], -p["p1"]
    if "sx1" in p:
        new["sx1"], new["sy1"] = -p["sy1"], p["sx1"]
    return Lens(lens.model, tuple(new[n] for n in names), lens.height, lens.width)
