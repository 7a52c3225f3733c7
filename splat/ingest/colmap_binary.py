"""COLMAP's binary files (colmap/src/colmap/scene/reconstruction_io_binary.cc), little-endian, read with bounds.

Every count is compared with the length of the file before anything is made of that size, and every file must end
where its last record ends. So a file that was cut, or whose counts are wrong, is one sentence.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from splat.core.camera import Lens
from splat.core.errors import SplatError
from splat.core.foreign import read_bytes, shown
from splat.ingest.colmap_model import ColmapModel, ModelImage, ModelPoints, camera_models, sorted_points

_MAX_BYTES = 2**36
"""Of one file; the largest known models have a hundredth of it."""
_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])
_TRACK_ELEMENT = 8
_CAMERA_HEAD, _IMAGE_HEAD, _COUNT = struct.Struct("<IiQQ"), struct.Struct("<I7dI"), struct.Struct("<Q")


def read_binary(folder: Path) -> ColmapModel:
    """`cameras.bin` and `images.bin`; the points when asked for. Raises SplatError naming the damaged file."""
    points = folder / "points3D.bin"
    return ColmapModel(
        folder,
        _cameras(folder / "cameras.bin"),
        _images(folder / "images.bin"),
        read_points=lambda: read_points(points) if points.is_file() else None,
    )


def _damaged(path: Path) -> SplatError:
    return SplatError(
        f"{shown(path)} is not a readable COLMAP file (it was cut, or its counts are wrong): export the model again, "
        "or use --ignore-poses."
    )


def _opened(path: Path, record_bytes: int) -> tuple[bytes, int]:
    """The file and the number of its records, each of which takes at least `record_bytes`."""
    data = read_bytes(path, _MAX_BYTES)
    if len(data) < _COUNT.size:
        raise _damaged(path)
    (count,) = _COUNT.unpack_from(data)
    if count > (len(data) - _COUNT.size) // record_bytes:
        raise _damaged(path)
    return data, count


def _cameras(path: Path) -> dict[int, Lens | str]:
    data, count = _opened(path, _CAMERA_HEAD.size)
    models, at = camera_models(), _COUNT.size
    cameras = dict[int, Lens | str]()
    for _ in range(count):
        if at + _CAMERA_HEAD.size > len(data):
            raise _damaged(path)
        camera_id, model_id, width, height = _CAMERA_HEAD.unpack_from(data, at)
        at += _CAMERA_HEAD.size
        if model_id not in models:
            raise SplatError(
                f"{shown(path)} has a camera of the unknown model {model_id}: export it as text, or use --ignore-poses."
            )
        name, params = models[model_id]
        if at + 8 * params > len(data):
            raise _damaged(path)
        cameras[camera_id] = Lens(name, struct.unpack_from(f"<{params}d", data, at), width, height)
        at += 8 * params
    if at != len(data):
        raise _damaged(path)
    return cameras


def _images(path: Path) -> tuple[ModelImage, ...]:
    data, count = _opened(path, _IMAGE_HEAD.size + 1 + _COUNT.size)
    at = _COUNT.size
    images = []
    for _ in range(count):
        end = data.find(b"\0", at + _IMAGE_HEAD.size)
        if end < 0 or end + 1 + _COUNT.size > len(data):
            raise _damaged(path)
        _, *pose, camera_id = _IMAGE_HEAD.unpack_from(data, at)
        name = data[at + _IMAGE_HEAD.size : end].decode("utf-8", "surrogateescape")
        (keypoints,) = _COUNT.unpack_from(data, end + 1)
        at = end + 1 + _COUNT.size
        if keypoints > (len(data) - at) // _KEYPOINT.itemsize:
            raise _damaged(path)
        found = np.frombuffer(data, _KEYPOINT, keypoints, at)
        at += keypoints * _KEYPOINT.itemsize
        images.append(ModelImage(name, camera_id, tuple(pose[:4]), tuple(pose[4:]), found["xy"], found["point"]))
    if at != len(data):
        raise _damaged(path)
    return tuple(images)


def read_points(path: Path) -> ModelPoints | None:
    """`points3D.bin`, without the tracks, which `images.bin` repeats; None where it has no point."""
    data, count = _opened(path, _POINT.itemsize)
    starts = np.empty(count, np.int64)
    at, end, track = _COUNT.size, len(data), _POINT.itemsize - 8
    length = _COUNT.unpack_from
    for i in range(count):
        if at + _POINT.itemsize > end:
            raise _damaged(path)
        starts[i] = at
        at += _POINT.itemsize + _TRACK_ELEMENT * length(data, at + track)[0]
    if at != end:
        raise _damaged(path)
    if not count:
        return None
    everywhere = np.ndarray((end - track + 1,), np.dtype(_POINT.descr[:-1]), data, strides=(1,))
    rows = everywhere[starts]
    return sorted_points(rows["id"], rows["xyz"], rows["rgb"])
