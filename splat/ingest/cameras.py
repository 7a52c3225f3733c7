"""From what a file says about a camera to `View.camera` at the photo's own size."""

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
"""Times the long side, where nothing is known (a phone's main camera is at about 0.75 to 1.2)."""

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
"""COLMAP's camera models whose parameters have a meaning here (to turn them); any other model is passed through."""


def camera_of_photo(info: PhotoInfo) -> tuple[Camera, Literal["exif", "guess"]]:
    """A pinhole with the EXIF focal length, or with the guess."""
    width, height = info.size
    focal = info.focal_px or GUESSED_FOCAL * max(width, height)
    return Camera(focal, focal, width / 2, height / 2, width, height), "exif" if info.focal_px else "guess"


def group_of_photo(info: PhotoInfo) -> str:
    """Photos of one body, lens setting and size share their intrinsics."""
    width, height = info.size
    return " ".join(filter(None, [info.make_model, f"{width}x{height}", info.focal_tag]))


def camera_through(
    lens: Lens, world_from_cam: Rigid, info: PhotoInfo, stored_pixels: bool = False
) -> tuple[Camera, Rigid]:
    """The camera of an upright photo, at its size, and its pose; `lens` and pose come from another program.

    The photo may be smaller or larger than the lens says (`images_4`). Programs that do not know EXIF orientation
    (COLMAP) describe the photo as stored: then camera and pose are turned as the photo is. `stored_pixels` says that
    this program is one of them; otherwise it shows in width and height that are swapped.
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
            lens, cam_from_turned = turned(lens, info.orientation)
            world_from_cam = world_from_cam @ cam_from_turned
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
    # removing a lens may change the size by a few pixels: keep that ratio
    w, h = round(camera.width * width / lens.width), round(camera.height * height / lens.height)
    return camera.resized(max(1, w), max(1, h)), world_from_cam


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return abs(math.log(a[0] / a[1]) - math.log(b[0] / b[1])) < 0.02


def turned(lens: Lens, orientation: int) -> tuple[Lens, Rigid]:
    """The lens after its photo was turned upright (EXIF 3, 6 or 8), and `cam_from_turned`."""
    quarter_turns = {1: 0, 6: 1, 3: 2, 8: 3}.get(orientation)
    if quarter_turns is None or (quarter_turns and lens.model not in PARAMETERS):
        raise SplatError(
            f"Photos with EXIF orientation {orientation} and a {lens.model} lens cannot be read with their poses: "
            "turn the photos upright, or use --ignore-poses."
        )
    cam_from_turned = Rigid.identity()
    for _ in range(quarter_turns):
        lens = _turned_clockwise(lens)
        # clockwise: the new x runs against the old y, the new y along the old x
        quarter = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]], dtype=torch.float64)
        cam_from_turned = cam_from_turned @ Rigid(quarter, torch.zeros(3, dtype=torch.float64))
    return lens, cam_from_turned


def _turned_clockwise(lens: Lens) -> Lens:
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


def forget_poses(capture: Capture) -> Capture:
    """The photos alone: cameras as a folder of photos would have them, and neither poses nor points."""

    def bare(view: View) -> View:
        info = read_info(view.image_path)
        if isinstance(info, str):
            raise SplatError(f"{view.image_path} cannot be read: {info}.")
        camera, focal_from = camera_of_photo(info)
        return replace(
            view, camera=camera, focal_from=focal_from, camera_group=group_of_photo(info), world_from_cam=None
        )

    return Capture(tuple(bare(v) for v in capture.views), kind=capture.kind, source=capture.source)
