"""Depth and disparity maps in files: 16-bit PNG, TIFF, PFM, `.npy` and `.npz`, read with bounded memory."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from splat.core.errors import SplatError
from splat.core.foreign import read_bytes, shown
from splat.core.image import BROKEN_EXIF, deep_tiff
from splat.core.numpy_files import parse_npy
from splat.core.pixels import cv2_values, is_deep, loses_bits

DEPTH_SUFFIXES = (".npy", ".npz", ".pfm", ".tif", ".tiff", ".exr", ".png")
"""Of several files of one photo the first counts: the exact ones before pictures of them."""
_MAX_BYTES = 256 * 2**20
_MAX_PIXELS = 64_000_000
_FARTHEST = 1e30
"""Values from here on stand for infinity."""
_NAMES = ("depth", "disparity", "disp", "pred", "prediction", "predicted_depth", "data", "arr_0")
"""Of the array in a `.npz` file that has several."""
_EXR = b"\x76\x2f\x31\x01"


def read_depth(path: Path) -> np.ndarray:
    """The values of a map, float32 [h w] as stored; NaN where they are unknown: stored as 0, below 0, NaN or infinite.

    Raises SplatError naming the file where it cannot be read, is no map of numbers, or would take more memory than a
    map of 64 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decoders, about what the sentence below says
            values = _values(path)
        if values.ndim != 2:
            values = values.squeeze()
        if values.ndim == 3 and values.shape[2] in (3, 4):
            values = _grey(values)
        if values.ndim != 2:
            raise ValueError(f"its shape is {'x'.join(map(str, values.shape)) or 'a single number'}")
        if min(values.shape) < 2 or values.size > _MAX_PIXELS:
            raise ValueError(f"its size is {values.shape[1]}x{values.shape[0]}")
    except _BROKEN as e:
        reason = shown(e)[:120] or type(e).__name__
        raise SplatError(
            f"{shown(path)} cannot be read as a depth map ({reason}): give 16-bit PNG, TIFF or PFM with floats, .npy "
            "or .npz, with one value a pixel."
        ) from None
    with np.errstate(over="ignore", invalid="ignore"):
        out = values.astype(np.float32)
        out[~((out > 0) & (out < _FARTHEST))] = np.nan
    return out


_BROKEN = (
    *BROKEN_EXIF,
    *(ValueError, OSError, EOFError, RuntimeError, MemoryError, zlib.error, struct.error),
    *(zipfile.BadZipFile, UnidentifiedImageError, Image.DecompressionBombError, NotImplementedError),
)


def _values(path: Path) -> np.ndarray:
    """Raises one of `_BROKEN`, or SplatError."""
    data = read_bytes(path, _MAX_BYTES)
    if data[:6] == b"\x93NUMPY":
        return parse_npy(data)
    if data[:4] == b"PK\x03\x04":
        return _of_npz(data)
    if data[:4] == _EXR:
        raise SplatError(f"{shown(path)} is OpenEXR, which is not read: convert it to a TIFF with floats, or to .npy.")
    try:
        image = Image.open(BytesIO(data))
    except UnidentifiedImageError:  # TIFF with 64 bits
        values = deep_tiff(path)
        if values is None:
            raise ValueError("no known format") from None
        return values
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError(f"its size is {image.width}x{image.height}")
    if not is_deep(image) and loses_bits(image):
        values = cv2_values(path)
        if values is None:
            raise ValueError("it is damaged")
        return values
    if image.mode in {"P", "PA"}:
        raise ValueError("it is a coloured picture of one")
    if not is_deep(image) and image.mode not in {"L", "RGB", "RGBA"}:
        raise ValueError(f"it is a picture of mode {image.mode}")
    return np.asarray(image)


def _grey(values: np.ndarray) -> np.ndarray:
    """The one value of pixels whose three channels are alike."""
    if not (values[..., 0] == values[..., 1]).all() or not (values[..., 0] == values[..., 2]).all():
        raise ValueError("it is a coloured picture of one")
    return values[..., 0]


def _of_npz(data: bytes) -> np.ndarray:
    with zipfile.ZipFile(BytesIO(data)) as z:
        members = {m.filename.removesuffix(".npy"): m for m in z.infolist()[:1000]}
        name = next((n for n in _NAMES if n in members), next(iter(members), ""))
        if not members or (len(members) > 1 and name not in _NAMES):
            raise ValueError(f"it holds {', '.join(members) or 'nothing'}; name the map depth")
        member = members[name]
        if member.file_size > _MAX_BYTES:
            raise ValueError(f"it unpacks to {member.file_size / 1e6:.0f} MB")
        with z.open(member) as f:
            unpacked = f.read(member.file_size + 1)
        if len(unpacked) > member.file_size:
            raise ValueError("its sizes are wrong")
    return parse_npy(unpacked)


def resampled_depth(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values at the positions (x, y), px with pixel centres at whole numbers; NaN outside and where unknown.

    Bilinear inside a surface; at an edge, where the four values around a position differ by more than 2 % of the map's
    range, and beside unknown ones, that of the nearest pixel: values between two surfaces are of neither.
    """
    h, w = values.shape
    inside = (x > -0.5) & (x < w - 0.5) & (y > -0.5) & (y < h - 0.5)
    left, top = np.floor(x).clip(0, w - 2).astype(np.int32), np.floor(y).clip(0, h - 2).astype(np.int32)
    u, v = (x - left).clip(0, 1).astype(np.float32), (y - top).clip(0, 1).astype(np.float32)
    corners = [values[top + j, left + i] for j in (0, 1) for i in (0, 1)]
    nearest = values[np.rint(y).clip(0, h - 1).astype(np.int32), np.rint(x).clip(0, w - 1).astype(np.int32)]
    some = values[:: max(1, h // 500), :: max(1, w // 500)]
    some = some[np.isfinite(some)]
    limit = 0.02 * float(np.subtract(*np.percentile(some, (98, 2)))) if some.size else 0.0
    spread = np.maximum.reduce(corners) - np.minimum.reduce(corners)  # NaN beside unknown ones
    across = [corners[k] * (1 - u) + corners[k + 1] * u for k in (0, 2)]
    smooth = across[0] * (1 - v) + across[1] * v
    out = np.where(spread <= limit, smooth, nearest)
    return np.where(inside, out, np.float32(np.nan)).astype(np.float32)
