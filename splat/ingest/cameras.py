"""`View.camera` at the photo's own size, from EXIF data or from the camera model of a dataset."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.lens import lens_problem, pinhole_for
from splat.ingest.exif import PhotoInfo, read_info

GUESSED_FOCAL = 1.2
"""Focal length without EXIF data, in multiples of the long side (0.75 to 1.2 for a phone's main camera)."""

_MAX_SCALE = 32.0
"""Between the size that a dataset states and the photo's; `images_8` has 8."""

MAX_COORDINATE = 1e15
"""Of sparse points: float32 can hold its square. What is farther is left out, like what is not finite."""

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


def posed_view(
    name: str, lens: Lens, world_from_cam: Rigid, info: PhotoInfo, group: str, mask_path: Path | None = None
) -> View | str:
    """A view with the lens and pose that another program gives, as `camera_through` fits them; or the reason why it is
    left out."""
    mirrored = info.orientation in {2, 4, 5, 7}
    if mirrored:  # no pose is that of a mirrored photo
        info = replace(info, orientation=1)
    fitted = camera_through(lens, world_from_cam, info)
    if isinstance(fitted, str):
        return fitted
    return View(
        name=name,
        image_path=info.path,
        photo_size=info.size,
        camera=fitted[0],
        world_from_cam=fitted[1],
        as_stored=mirrored,
        mask_path=mask_path,
        camera_group=group,
        focal_from="file",
    )


def camera_through(lens: Lens, world_from_cam: Rigid, info: PhotoInfo) -> tuple[Camera, Rigid] | str:
    """The pinhole camera and pose of an upright photo, from the lens and pose that another program gives; or the reason
    why they cannot be those of this photo, for `LeftOut`.

    The photo may have another size than the lens (`images_4`), but not another shape. Lens and pose describe the
    pixels as stored, since the programs that write poses ignore EXIF orientation (COLMAP, nerfstudio, instant-ngp):
    both are turned with the photo. Only where the lens has the shape of the upright photo alone do they describe that.
    """
    problem = lens_problem(lens)
    if problem:
        return problem
    described = lens.width, lens.height
    if not same_shape(described, info.stored_size) and not same_shape(described, info.size):
        (w, h), (lens_w, lens_h) = info.stored_size, described
        return f"their shape is not their camera's ({w}x{h} where it says {lens_w}x{lens_h})"
    if (
        not 1 / _MAX_SCALE
        <= info.size[0] / (lens.width if same_shape(described, info.size) else lens.height)
        <= _MAX_SCALE
    ):
        (w, h), (lens_w, lens_h) = info.stored_size, described
        return f"their size is not their camera's ({w}x{h} where it says {lens_w}x{lens_h})"
    if info.orientation != 1 and same_shape(described, info.stored_size):
        turned = rotated(lens, info.orientation)
        if isinstance(turned, str):
            return turned
        lens, cam_from_rotated = turned
        world_from_cam = world_from_cam @ cam_from_rotated
    try:
        camera = pinhole_for(lens)
    except (RuntimeError, ValueError):
        return f"a {lens.model} camera has no pinhole equivalent; cut the photos into perspective views"
    if not all(map(math.isfinite, (camera.fx, camera.fy, camera.cx, camera.cy))) or min(camera.fx, camera.fy) <= 0:
        return "their lens cannot be removed"
    width, height = info.size
    if (width, height) == (lens.width, lens.height):
        return camera, world_from_cam
    # Undistortion may change the size by a few pixels: keep that ratio.
    w, h = round(camera.width * width / lens.width), round(camera.height * height / lens.height)
    return camera.resized(max(1, w), max(1, h)), world_from_cam


def same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether one size is the other scaled: to 2 %, or as nearly as whole pixels allow."""
    if abs(math.log(a[0] / a[1]) - math.log(b[0] / b[1])) < 0.02:
        return True
    large, small = (a, b) if max(a) > max(b) else (b, a)
    low = max((s - 1) / big for s, big in zip(small, large))
    return low < min((s + 1) / big for s, big in zip(small, large))


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


def without_poses(capture: Capture) -> Capture:
    """The photos alone, with cameras from EXIF data or the guess, without poses and points."""

    def bare(view: View) -> View:
        info = read_info(view.image_path)
        if isinstance(info, str):
            raise SplatError(f"{view.image_path} cannot be read: {info}.")
        camera, focal_from = camera_of_photo(info)
        return replace(
            view,
            as_stored=False,
            camera=camera,
            focal_from=focal_from,
            camera_group=group_of_photo(info),
            world_from_cam=None,
        )

    return Capture(tuple(bare(v) for v in capture.views), kind=capture.kind, source=capture.source)
