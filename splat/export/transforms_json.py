"""`transforms.json`: photos and their cameras as nerfstudio reads them (docs.nerf.studio, "Data conventions").

`transform_matrix` is `world_from_cam` with OpenGL camera axes (+x right, +y up, +z back), in the source frame; `cx` and
`cy` count from the corner of the top-left pixel, as COLMAP's do, which is how nerfstudio takes them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splat.core.camera import Lens
from splat.core.capture import Capture, PointCloud
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import shown
from splat.core.lens import PARAMETERS
from splat.core.slots import Reporter
from splat.export.pointcloud import write_point_cloud
from splat.export.posed_photos import PosedPhoto, posed_photos, source_points

_MODELS = {
    "SIMPLE_PINHOLE": "PINHOLE",
    "PINHOLE": "PINHOLE",
    "SIMPLE_RADIAL": "OPENCV",
    "RADIAL": "OPENCV",
    "OPENCV": "OPENCV",
    "SIMPLE_RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "OPENCV_FISHEYE": "OPENCV_FISHEYE",
    "FULL_OPENCV": "FULL_OPENCV",
    "THIN_PRISM_FISHEYE": "THIN_PRISM_FISHEYE",
}
"""COLMAP's camera model -> the `camera_model` that stands for it, whose parameters it has or lacks as zeros."""
_OF_NERFSTUDIO = {"PINHOLE", "OPENCV", "OPENCV_FISHEYE"}


def write_transforms(path: Path, capture: Capture, report: Reporter) -> int:
    """Write the posed photos, and their sparse points as `NAME_points.ply` beside it; returns the number of photos.

    Photos and masks are named relative to the folder of `path`. Raises SplatError where no view has a pose, or a lens
    has no name in this format.
    """
    photos = posed_photos(capture, report)
    folder = path.absolute().parent
    frames = [_frame(p, folder) for p in photos]
    _warn(photos, path, report)
    shared = {k: v for k, v in frames[0].items() if k not in ("file_path", "transform_matrix", "mask_path")}
    shared = {k: v for k, v in shared.items() if all(f.get(k) == v for f in frames)}
    if len({tuple(sorted(f)) for f in frames}) > 1 and "camera_model" not in shared:
        shared = {}  # lenses of several models: what one lacks must not come from another
    value: dict[str, Any] = {
        **shared,
        "frames": [{k: v for k, v in f.items() if k not in shared} for f in frames],
    }
    if any(p.role == "test" for p in photos):
        names = {r: [f["file_path"] for f, p in zip(frames, photos) if p.role == r] for r in ("train", "test")}
        value |= {"train_filenames": names["train"], "val_filenames": names["test"], "test_filenames": names["test"]}
    points = source_points(capture)
    if points is not None and len(points[0]):
        ply = path.with_name(f"{path.stem}_points.ply")
        write_point_cloud(ply, PointCloud(*points), "own")
        value["ply_file_path"] = ply.name
    write_json(path, value)
    return len(photos)


def _frame(photo: PosedPhoto, folder: Path) -> dict[str, Any]:
    opengl = photo.world_from_cam.matrix().numpy() @ np.diag([1.0, -1.0, -1.0, 1.0])
    view = photo.view
    out = {"file_path": _relative(view.image_path, folder), **_intrinsics(photo.lens)}
    if view.mask_path is not None and not view.invert_mask:
        out["mask_path"] = _relative(view.mask_path, folder)
    return out | {"transform_matrix": opengl.tolist()}


def _intrinsics(lens: Lens) -> dict[str, Any]:
    model = _MODELS.get(lens.model)
    if model is None:
        raise SplatError(
            f"transforms.json has no name for a {lens.model} lens: a COLMAP model has, so name an output `colmap`."
        )
    p = dict(zip(PARAMETERS[lens.model].split(), lens.params))
    f = p.pop("f", 0.0)
    out: dict[str, Any] = {"camera_model": model, "w": lens.width, "h": lens.height}
    out |= {"fl_x": p.pop("fx", f), "fl_y": p.pop("fy", f), "cx": p.pop("cx"), "cy": p.pop("cy")}
    if model == "OPENCV":
        p = {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0} | p
    if model == "OPENCV_FISHEYE":
        p = {"k1": 0.0, "k2": 0.0, "k3": 0.0, "k4": 0.0} | p
    return out | p


def _warn(photos: Sequence[PosedPhoto], path: Path, report: Reporter) -> None:
    foreign = sorted({_MODELS[p.lens.model] for p in photos} - _OF_NERFSTUDIO)
    if foreign:
        report.warn(f"{shown(path)}: nerfstudio itself does not read {' and '.join(foreign)} lenses.")
    inverted = [p.view.name for p in photos if p.view.mask_path is not None and p.view.invert_mask]
    if inverted:
        report.warn(
            f"{shown(path)}: the masks of {len(inverted)} photos are black where the photo is used, which the format "
            f"cannot say: they are left out ({', '.join(inverted[:3])})."
        )


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file.absolute(), folder)).as_posix()
