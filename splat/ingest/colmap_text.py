"""COLMAP's text files (colmap.github.io/format.html), as COLMAP and the programs that imitate it write them.

A photo's name is the rest of its line and may hold spaces. Some programs leave out the second line of an image, which
lists its keypoints: where the lines do not alternate, each is taken for what it looks like.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from splat.core.camera import Lens
from splat.core.errors import SplatError
from splat.core.foreign import read_bytes, shown
from splat.ingest.colmap_model import ColmapModel, ModelImage, ModelPoints, camera_models, sorted_points

_MAX_BYTES = 2**35
"""Of one file; the largest known models have a hundredth of it."""
_NO_POINTS = np.zeros((0, 2)), np.zeros(0, np.int64)


def read_text_model(folder: Path) -> ColmapModel:
    """`cameras.txt` and `images.txt`; the points when asked for. Raises SplatError naming the file where it has no
    camera or image."""
    warnings: list[str] = []
    cameras = _cameras(folder / "cameras.txt", warnings)
    images = _images(folder / "images.txt", warnings)
    if not cameras:
        raise SplatError(f"{shown(folder / 'cameras.txt')} has no camera: export the model again, or --ignore-poses.")
    points = folder / "points3D.txt"
    return ColmapModel(
        folder,
        cameras,
        images,
        tuple(warnings),
        read_points=lambda: read_points(points) if points.is_file() else None,
    )


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends; comments and a byte order mark are removed, empty lines stay."""
    data = read_bytes(path, _MAX_BYTES)
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    del data
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = line.strip(" \t")
        if not line.startswith("#"):
            yield line


def _number(text: str) -> float | None:
    """The number that a field writes, which may be NaN or infinite; None where it writes none."""
    try:
        return None if "_" in text else float(text)  # "1_0" is a number for Python alone
    except ValueError:
        return None


def _whole(text: str) -> int | None:
    """An id, also where it is written as 7.0."""
    value = _number(text)
    return int(value) if value is not None and math.isfinite(value) and value == int(value) else None


def _cameras(path: Path, warnings: list[str]) -> dict[int, Lens | str]:
    counts = dict(camera_models().values())
    cameras = dict[int, Lens | str]()
    for line in filter(None, _lines(path)):
        fields = line.split()
        key = _whole(fields[0])
        if key is None:
            warnings.append(f"A line of {shown(path)} is no camera and is passed over: {shown(line)[:60]}")
            continue
        name = fields[1].upper() if len(fields) > 1 else ""
        if name not in counts:
            cameras[key] = f"cameras of type {shown(name)[:60]!r} are not read"
            continue
        numbers = [_number(f) for f in fields[2 : 4 + counts[name]]]
        known = [n for n in numbers if n is not None and math.isfinite(n)]
        if len(known) < 2 + counts[name]:
            cameras[key] = f"the line of their camera {key} in {path.name} is cut, or has a value that is not a number"
            continue
        if len(fields) > 4 + counts[name]:
            first = shown(fields[4 + counts[name]])[:60]
            warnings.append(
                f"Camera {key} of {shown(path)} has more values than a {name} camera: they are ignored from {first} on."
            )
        width, height = (int(min(max(n, -1.0), 1e12)) for n in known[:2])
        cameras[key] = Lens(name, tuple(known[2:]), width, height)
    return cameras


def _images(path: Path, warnings: list[str]) -> tuple[ModelImage, ...]:
    lines = list(_lines(path))
    images, passed_over = _alternating(lines), 0
    if images is None:
        images, passed_over = _by_looks(lines)
    if passed_over:
        warnings.append(
            f"{passed_over} lines of {shown(path)} are neither an image nor its keypoints: they are passed over."
        )
    return tuple(images)


def _alternating(lines: list[str]) -> list[ModelImage] | None:
    """Images of a file in which each image's line is followed by one of keypoints, which may be empty; else None."""
    images: list[ModelImage] = []
    rest = iter(lines)
    for line in rest:
        if not line:
            continue
        image = _image(line, next(rest, ""))
        if image is None:
            return None
        images.append(image)
    return images


def _by_looks(lines: list[str]) -> tuple[list[ModelImage], int]:
    """Images of a file where lines are missing, and the number of lines that are nothing."""
    images: list[ModelImage] = []
    passed_over, previous = 0, ""
    for line in filter(None, lines):
        if previous and _keypoints(line) is not None:
            images[-1] = _image(previous, line) or images[-1]
            previous = ""
            continue
        image = _image(line, "")
        previous = line if image is not None else ""
        if image is not None:
            images.append(image)
        else:
            passed_over += 1
    return images, passed_over


def _image(line: str, keypoints: str) -> ModelImage | None:
    """The image of its two lines; None where they are not those of an image."""
    fields = line.split(None, 9)
    if len(fields) < 10 or _whole(fields[0]) is None:
        return None
    pose = [v for f in fields[1:8] if (v := _number(f)) is not None]
    camera_id, found = _whole(fields[8]), _keypoints(keypoints)
    if len(pose) < 7 or camera_id is None or found is None:
        return None
    return ModelImage(fields[9], camera_id, tuple(pose[:4]), tuple(pose[4:]), *found)


def _keypoints(line: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Pixels [m 2] and point ids [m] of a line of keypoints; None for another line."""
    if not line:
        return _NO_POINTS
    fields = line.split()
    if len(fields) % 3:
        return None
    try:
        pixels = np.array([fields[0::3], fields[1::3]], dtype=np.float64).T
        ids = np.array([int(f) if len(f) < 20 else -1 for f in fields[2::3]], dtype=np.int64)
    except (ValueError, OverflowError):
        return None
    return np.ascontiguousarray(pixels), ids


def read_points(path: Path) -> ModelPoints | None:
    """`points3D.txt`, without the tracks, which `images.txt` repeats; None where it has no point. Raises SplatError
    where most lines are no points."""
    ids, values, damaged = [], [], 0
    for line in _lines(path):
        fields = line.split(None, 7)
        if not fields:
            continue
        try:
            row = tuple(map(float, fields[1:7]))
            point_id = int(fields[0])
        except ValueError:
            damaged += 1
            continue
        if len(row) < 6 or not 0 <= point_id < 2**63:
            damaged += 1
            continue
        ids.append(point_id)
        values.append(row)
    if damaged > len(ids):
        raise SplatError(f"{shown(path)} has no points in most lines: export the model again, or use --ignore-poses.")
    if not ids:
        return None
    table = np.array(values, dtype=np.float64)
    rgb = np.nan_to_num(table[:, 3:]).clip(0, 255).astype(np.uint8)
    return sorted_points(np.array(ids, np.int64), table[:, :3], rgb)
