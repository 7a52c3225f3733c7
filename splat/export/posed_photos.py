"""Photos and the cameras that took them, for programs that open the photo files: with the lens, and of the pixels as
stored, since other programs ignore the EXIF orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.image import stored_orientation
from splat.core.lens import PARAMETERS, rotated
from splat.core.slots import Reporter

_BACK = {1: 1, 3: 3, 6: 8, 8: 6}
"""EXIF orientation -> the one that undoes it, of those that do not mirror."""


@dataclass(frozen=True, eq=False)
class PosedPhoto:
    view: View
    lens: Lens
    """In pixels of the file; "PINHOLE" where the photo has no distortion."""
    world_from_cam: Rigid
    """In the source frame, float64."""
    stored_from_view: np.ndarray
    """The rotation from the axes of the upright photo's camera to those of this one."""

    @property
    def role(self) -> Literal["train", "test"]:
        return self.view.role


def posed_photos(capture: Capture, report: Reporter) -> list[PosedPhoto]:
    """Of every view that has a pose, in order. Raises SplatError where none has."""
    source_from_world = capture.world_from_source.inverse()
    photos, mirrored = [], []
    for view in capture.views:
        if view.world_from_cam is None:
            continue
        lens, pose = lens_of(view), source_from_world.apply_pose(view.world_from_cam)
        turn = np.eye(3)
        orientation = 1 if view.as_stored else stored_orientation(view.image_path)
        if orientation in (3, 6, 8) and lens.model in PARAMETERS:
            turned = rotated(lens, _BACK[orientation])
            assert not isinstance(turned, str)
            lens, pose, turn = turned[0], pose @ turned[1], turned[1].rotation.numpy().T
        elif orientation != 1:
            mirrored.append(view.name)
        photos.append(PosedPhoto(view, lens, pose, turn))
    if not photos:
        raise SplatError("No photo has a pose, so that there are no cameras to write: run the poses stage first.")
    if mirrored:
        report.warn(
            f"{len(mirrored)} photos are stored mirrored, which no camera is ({', '.join(mirrored[:3])}): theirs are "
            "those of the upright photos."
        )
    return photos


def lens_of(view: View) -> Lens:
    """The lens of the upright photo at the size of its file."""
    width, height = view.photo_size
    lens = view.camera.lens
    if lens is None:
        c: Camera = (
            view.camera
            if (view.camera.width, view.camera.height) == view.photo_size
            else view.camera.resized(width, height)
        )
        return Lens("PINHOLE", (c.fx, c.fy, c.cx, c.cy), width, height)
    if (lens.width, lens.height) == (width, height) or lens.model not in PARAMETERS:
        return lens
    sx, sy = width / lens.width, height / lens.height
    factors = {"f": (sx * sy) ** 0.5, "fx": sx, "fy": sy, "cx": sx, "cy": sy}
    params = tuple(v * factors.get(n, 1.0) for n, v in zip(PARAMETERS[lens.model].split(), lens.params))
    return Lens(lens.model, params, width, height)


def source_points(capture: Capture) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]] | None:
    """Sparse points in the source frame, float64, and their colours in [0, 1]; None where there are none."""
    if capture.points is None:
        return None
    positions = capture.world_from_source.inverse().apply(capture.points.positions.double())
    return positions, capture.points.rgb.to(torch.float64).clamp(0, 1)
