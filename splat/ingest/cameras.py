"""`View.camera` at the photo's own size, from EXIF data or from the camera model of a dataset."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.lens import lens_problem, pinhole_for, rotated
from splat.ingest.exif import PhotoInfo, read_info

GUESSED_FOCAL = 1.2
"""Focal length without EXIF data, in multiples of the long side (0.75 to 1.2 for a phone's main camera)."""

_MAX_SCALE = 32.0
"""Between the size that a dataset states and the photo's; `images_8` has 8."""

MAX_COORDINATE = 1e15
"""Of sparse points: float32 can hold its square. What is farther is left out, like what is not finite."""


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
