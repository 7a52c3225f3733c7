"""`View.camera` at the photo's own size, from EXIF data or from the camera model of a dataset."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.lens import pinhole_for
from splat.ingest.exif import PhotoInfo, read_info

GUESSED_FOCAL = 1.2
"""Focal length without EXIF data, in multiples of the long side (0.75 to 1.2 for a phone's main camera)."""

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


def camera_of_photo(info: PhotoInfo) -> tuple[Camera, Literal["exif", "guess"]]:
    """A pinhole with the EXIF focal length, or with `GUESSED_FOCAL`; and which of them."""
    width, height = info.size
    focal = info.focal_px or GUESSED_FOCAL * max(width, height)
    return Camera(focal, focal, width / 2, height / 2, width, height), "exif" if info.focal_px else "guess"


def group_of_photo(info: PhotoInfo) -> str:
    """`View.camera_group`: the same for photos of one camera body, focal length and size, which share intrinsics."""
    width, height = info.size
    return " ".join(filter(None, [info.make_model, f"{width}x{height}", info.focal_tag]))


def camera_through(
    lens: Lens, world_from_cam: Rigid, info: PhotoInfo, stored_pixels: bool = False
) -> tuple[Camera, Rigid]:
    """The pinhole camera and pose of an upright photo, from the lens and pose that another program gives.

    The photo may have another size than the lens (`images_4`). Programs that ignore EXIF orientation (COLMAP) describe
    the photo as stored; camera and pose are then rotated with the photo. `stored_pixels`: the program is one of them;
    otherwise this is inferred from a swapped width and height. Raises SplatError for impossible intrinsics and for
    lenses without a pinhole equivalent.
    """
    bad = SplatError(
        f"{info.path} has impossible intrinsics {lens.model} {lens.params}: correct them or --ignore-poses."
    )
    if min(lens.width, lens.height) <= 0 or not all(map(math.isfinite, lens.params)):
        raise bad
    if info.orientation != 1:
        swapped = _same_shape((lens.width, lens.height), info.stored_size)
        upright = _same_shape((lens.width, lens.height), info.size)
        if swapped and (stored_pixels or not upright):
            lens, cam_from_rotated = rotated(lens, info.orientation)
            world_from_cam = world_from_cam @ cam_from_rotated
    try:
        camera = pinhole_for(lens)
    except (RuntimeError, ValueError):
        raise SplatError(
            f"{info.path} was taken with a {lens.model} camera that has no pinhole equivalent: "
            "cut it into perspective views first, or use --ignore-poses."
        ) from None
    if not all(map(math.isfinite, (camera.fx, camera.fy, camera.cx, camera.cy))) or min(camera.fx, camera.fy) <= 0:
        raise bad
    width, height = info.size
    if (width, height) == (lens.width, lens.height):
        return camera, world_from_cam
    # Undistortion may change the size by a few pixels: keep that ratio.
    w, h = round(camera.width * width / lens.width), round(camera.height * height / lens.height)
    return camera.resized(max(1, w), max(1, h)), world_from_cam


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return abs(math.log(a[0] / a[1]) - math.log(b[0] / b[1])) < 0.02


def rotated(lens: Lens, orientation: int) -> tuple[Lens, Rigid]:
    """The lens of the photo rotated upright (EXIF 3, 6 or 8), and `cam_from_rotated`."""
    quarter_turns = {1: 0, 6: 1, 3: 2, 8: 3}.get(orientation)
    if quarter_turns is None or (quarter_turns and lens.model not in PARAMETERS):
        raise SplatError(
            f"Photos with EXIF orientation {orientation} and a {lens.model} lens cannot be read with their poses: "
            "turn the photos upright, or use --ignore-poses."
        )
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


def without_poses(capture: Capture) -> Capture:
    """The photos alone, with cameras from EXIF data or the guess, without poses and points."""

    def bare(view: View) -> View:
        info = read_info(view.image_path)
        if isinstance(info, str):
            raise SplatError(f"{view.image_path} cannot be read: {info}.")
        camera, focal_from = camera_of_photo(info)
        return replace(
            view, camera=camera, focal_from=focal_from, camera_group=group_of_photo(info), world_from_cam=None
        )

    return Capture(tuple(bare(v) for v in capture.views), kind=capture.kind, source=capture.source)
