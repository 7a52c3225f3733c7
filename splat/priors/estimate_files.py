"""Geometry estimates in `.npz` files: what another program writes for `--prior.command`.

Arrays, for photo i from 0 on: `depth_i` [h w], and where there are any `confidence_i` [h w] in [0, 1], `valid_i` and
`sky_i` [h w] (not 0: yes), `normals_i` and `points_i` [h w 3], `intrinsics_i` [3 3] in pixels of the image that was
given, `cam_from_world_i` [4 4]. `about`: the bytes (uint8) of a JSON object with `name`, `version`, `licence`, `sha256`
(of the weights) and `scale` (metric, similarity or affine, the default).
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.estimates import GeometryEstimate, ViewEstimate
from splat.core.foreign import parse_json, regular_file, shown
from splat.core.licences import Provenance
from splat.core.numpy_files import parse_npy

_MAX_BYTES = 4 * 2**30
_BROKEN = (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
SCALES = ("metric", "similarity", "affine")


def read_estimate(path: Path, capture: Capture, name: str, seconds: float = 0.0) -> GeometryEstimate:
    """The estimate in a file, unchecked (`estimates.check_estimate`). Cameras that it does not give are the capture's.
    Raises SplatError naming the file where it is missing, damaged or too large."""
    try:
        regular_file(path)
        with zipfile.ZipFile(path) as file:
            if sum(i.file_size for i in file.infolist()) > _MAX_BYTES:
                raise ValueError("it holds more than 4 GB")
            arrays = {i.filename.removesuffix(".npy"): _array(file, i) for i in file.infolist()}
        about = _about(arrays.pop("about", None), path)
        views = tuple(_view(arrays, i, capture) for i in range(len(capture.views)))
    except _BROKEN as e:
        reason = shown(e.args[0] if isinstance(e, KeyError) and e.args else e)[:160] or type(e).__name__
        raise SplatError(
            f"{shown(path.name)} of {shown(name)[:80]} cannot be read as an estimate ({reason}): write it by "
            "numpy.savez as the README says."
        ) from None
    scale = about.get("scale", "affine")
    if scale not in SCALES:
        raise SplatError(f"{shown(path.name)}: scale is {shown(scale)[:40]}: give one of {', '.join(SCALES)}.")
    fields = {k: str(about.get(k, ""))[:200] for k in ("licence", "sha256", "version")}
    provenance = Provenance(str(about.get("name", name))[:200], seconds=round(seconds, 2), **fields)
    return GeometryEstimate(views, scale, provenance)


def _array(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with file.open(info) as f:
        data = f.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{shown(info.filename)[:60]} is not as large as it says")
    return parse_npy(data)


def _about(found: np.ndarray | None, path: Path) -> dict[str, Any]:
    if found is None:
        return {}
    if found.dtype != np.uint8 or found.size > 2**16:
        raise ValueError("`about` does not hold the bytes of a JSON object")
    return parse_json(found.tobytes().decode("utf-8"), path.name)


def _view(arrays: dict[str, np.ndarray], i: int, capture: Capture) -> ViewEstimate:
    view = capture.views[i]
    size = (view.camera.width, view.camera.height)
    if f"depth_{i}" not in arrays:
        raise ValueError(f"depth_{i} is missing")
    depth = _tensor(arrays[f"depth_{i}"], "depth", i, None)
    h, w = depth.shape
    stretch = (w / h) / (size[0] / size[1])
    if not 0.97 < stretch < 1.03:
        raise ValueError(f"depth_{i} is {w}x{h} where its image is {size[0]}x{size[1]}")

    def optional(name: str, shape: tuple[int, ...]) -> Tensor | None:
        found = arrays.get(f"{name}_{i}")
        return None if found is None else _tensor(found, name, i, shape)

    valid, sky, confidence = optional("valid", (h, w)), optional("sky", (h, w)), optional("confidence", (h, w))
    known = depth.isfinite() & (depth > 0) if valid is None else valid != 0
    if sky is not None:
        known = known & (sky == 0)
    own = torch.eye(4) if view.world_from_cam is None else view.world_from_cam.inverse().matrix().float()
    intrinsics, pose = optional("intrinsics", (3, 3)), optional("cam_from_world", (4, 4))
    return ViewEstimate(
        depth,
        torch.ones(h, w) if confidence is None else confidence,
        known,
        view.camera.matrix().float() if intrinsics is None else intrinsics,
        own if pose is None else pose,
        size,
        None if sky is None else sky != 0,
        optional("normals", (h, w, 3)),
        optional("points", (h, w, 3)),
    )


def _tensor(values: np.ndarray, name: str, i: int, shape: tuple[int, ...] | None) -> Tensor:
    if (values.ndim != 2 or min(values.shape) < 2) if shape is None else values.shape != shape:
        raise ValueError(f"{name}_{i} has the shape {'x'.join(map(str, values.shape))}")
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(np.array(values, np.float32))
