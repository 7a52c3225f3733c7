"""`.sog` version 2 (PlayCanvas): attributes as lossless WebP images and a `meta.json`, in a zip or a folder.

Positions have 16 bits per axis after sign(x) log(1 + |x|). Rotations are 8-bit smallest three, with the index of the
largest component in alpha. Scales and colours index codebooks of 256 entries, opacities have 8 bits, and SH above
degree 0 indexes a palette of at most 65,536 rows. Coordinates are those of the `.ply`, as splat-transform writes them.
"""

from __future__ import annotations

import io
import json
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.foreign import parse_json, path_inside, read_bytes, regular_file
from splat.core.gaussians import Gaussians
from splat.core.reading import check_expansion, reading
from splat.core.slots import Reporter, SplatFile
from splat.export.header import (
    MIP,
    MODE,
    NO_OFFSET,
    OFFSET,
    UP,
    added,
    is_antialiased,
    localized,
    offset_of,
    up_said,
    valid_offset,
    with_offset,
)
from splat.export.packing import arrays, bundle, codebook, decoded_bytes, from_smallest_three, palette, smallest_three
from splat.export.repair import repaired
from splat.geometry.morton import morton_order

_COEFFICIENTS = (0, 3, 8, 15)
_PALETTE = 65536
_PER_ROW = 64
"""Palette entries side by side in the image of centroids."""
_MAX_PART = 2**30
_SMALL_PART = 1 << 20
"""Bytes of a part that need no explanation: a meta.json."""
_SMALL_IMAGE = 1 << 16
"""Pixels beyond those of the Gaussians: sides are rounded up."""


class SogCodec:
    """About a fifteenth of the size of the `.ply` at SH degree 3."""

    name = "sog"
    suffixes: tuple[str, ...] = (".sog",)
    about = "PlayCanvas' format for the web: 1/15 to 1/20 of the size of .ply"

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        """Write one zip. Encoding a million Gaussians with harmonics takes a minute or two."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as z:
            for name, data in _parts(gaussians, header).items():
                z.writestr(zipfile.ZipInfo(name), data)  # with a fixed date: the same scene gives the same file
        write_atomic(path, packed.getvalue())

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        """Read a zip, or an unpacked folder (or its meta.json)."""
        with reading(path, ".sog"):
            if path.is_dir() or path.name == "meta.json":
                gaussians, header = read_parts(path if path.is_dir() else path.parent, path)
            else:
                size = regular_file(path)
                with zipfile.ZipFile(path) as z:
                    gaussians, header = decode(_Zip(z, size), path)
            return SplatFile(repaired(gaussians, path, report), header)


def read_parts(folder: Path, path: Path) -> tuple[Gaussians, dict[str, str]]:
    """An unpacked file, as it is stored, and its header; `path` for messages. Raises as `decode`."""
    return decode(_Folder(folder), path)


def write_parts(folder: Path, gaussians: Gaussians, header: dict[str, str], ordered: bool = False) -> None:
    """Write an unpacked file, its meta.json last. `ordered`: keep the order of the Gaussians."""
    parts = _parts(gaussians, header, ordered)
    for name in reversed(parts):
        write_atomic(folder / name, parts[name])


def _parts(gaussians: Gaussians, header: dict[str, str], ordered: bool = False) -> dict[str, bytes]:
    """All files by name, meta.json first."""
    meta, images = encode(gaussians, ordered)
    if is_antialiased(header):
        meta |= {"antialias": True, "model": "antialiased"}
    if OFFSET in header:
        meta[OFFSET] = list(offset_of(header))
    if UP in header:
        meta[UP] = header[UP]
    return {"meta.json": json.dumps(meta).encode(), **images}


def encode(gaussians: Gaussians, ordered: bool = False) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The metadata, and the encoded images by file name. `ordered`: the Gaussians are in a good order already."""
    means, quats, log_scales, opacities, sh = arrays(gaussians)
    if not ordered:
        order = morton_order(torch.from_numpy(means)).numpy()
        means, quats, log_scales, opacities, sh = (a[order] for a in (means, quats, log_scales, opacities, sh))
    n = len(means)
    if n == 0:
        raise SplatError(".sog needs at least one Gaussian, this scene has none: check its training.")
    folded = np.sign(means) * np.log1p(np.abs(means.astype(np.float64)))
    low, high = folded.min(0), folded.max(0)
    levels = np.rint((folded - low) / np.maximum(high - low, 1e-30) * 65535).astype(np.uint16)
    largest, others = smallest_three(quats)
    rotations = np.rint(np.clip(others / math.sqrt(2) + 0.5, 0, 1) * 255)
    scale_book, scale_ids = codebook(log_scales)
    dc_book, dc_ids = codebook(sh[:, 0])
    images = {
        "means_l.webp": _webp(levels & 255, n),
        "means_u.webp": _webp(levels >> 8, n),
        "scales.webp": _webp(scale_ids, n),
        "quats.webp": _webp(np.concatenate([rotations, 252 + largest[:, None]], 1), n),
        "sh0.webp": _webp(np.concatenate([dc_ids, np.rint(opacities * 255)[:, None]], 1), n),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "splat"},
        "count": n,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_book.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": dc_book.tolist(), "files": ["sh0.webp"]},
    }
    bands = round(sh.shape[1] ** 0.5) - 1
    if bands > 0:
        centroids, labels = palette(sh[:, 1:].reshape(n, -1), _PALETTE)
        book, ids = codebook(centroids)
        meta["shN"] = {
            "count": len(centroids),
            "bands": bands,
            "codebook": book.tolist(),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
        rows = -(-len(centroids) // _PER_ROW)
        grid = np.zeros((rows * _PER_ROW, _COEFFICIENTS[bands], 3), np.uint8)
        grid[: len(ids)] = ids.reshape(len(ids), -1, 3)
        images["shN_centroids.webp"] = _encoded(grid.reshape(rows, -1, 3))
        low_high = np.stack([labels & 255, labels >> 8, np.zeros_like(labels)], 1)
        images["shN_labels.webp"] = _webp(low_high, n)
    return meta, images


class _Folder:
    """The parts of an unpacked file, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())

    def __call__(self, name: str) -> bytes:
        """Raises ValueError for names with a path, and SplatError for links out of the folder, pipes and folders."""
        if Path(name).name != name:
            raise ValueError(f"'{name}' is not a plain file name")
        return read_bytes(path_inside(self._folder, name), _MAX_PART)


class _Zip:
    """The parts of a zip, by name, none larger than the whole explains: images do not shrink further in it."""

    def __init__(self, z: zipfile.ZipFile, size: int) -> None:
        self._z, self.size = z, size

    def __call__(self, name: str) -> bytes:
        limit = min(_MAX_PART, 16 * self.size + _SMALL_PART)
        if name not in self._z.NameToInfo:
            raise ValueError(f"it lacks '{name[:80]}'")
        part = self._z.getinfo(name)
        if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"'{name}' is compressed by method {part.compress_type}")
        with self._z.open(part) as f:
            data = f.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"'{name}' is larger than the file explains")
        return data


def decode(read: _Folder | _Zip, path: Path) -> tuple[Gaussians, dict[str, str]]:
    """The Gaussians and the header of a file whose parts `read(name)` returns.

    Raises ValueError, KeyError, TypeError or OSError where it is damaged, SplatError where it is a bomb.
    """
    meta = parse_json(read("meta.json").decode("utf-8-sig"), f"the meta.json of {path}")
    if meta.get("version") != 2:
        raise ValueError(f"version {meta.get('version', 1)!r}; only version 2 is read")
    n = _whole(meta["count"], 0, 1 << 31)
    bands = _whole(_part(meta, "shN")["bands"], 1, 3) if "shN" in meta else 0
    check_expansion(path, decoded_bytes(n, 1 + _COEFFICIENTS[bands]), read.size)

    def pixels(part: str, i: int) -> np.ndarray:
        flat = _image(read(_file(meta, part, i)), 4 * n + _SMALL_IMAGE).reshape(-1, 4)
        if len(flat) < n:
            raise ValueError(f"{part} has {len(flat)} of {n} Gaussians")
        return flat[:n]

    levels = pixels("means", 0)[:, :3].astype(np.uint16)
    levels |= pixels("means", 1)[:, :3].astype(np.uint16) << 8
    low, high = (_floats(_part(meta, "means")[k], 3) for k in ("mins", "maxs"))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite: removed by `repaired`
        folded = low + (high - low) * (levels / 65535)
        means = np.sign(folded) * np.expm1(np.abs(folded))
    means, origin = localized(means)
    log_scales = _floats(_part(meta, "scales")["codebook"], 256)[pixels("scales", 0)[:, :3]]
    packed = pixels("quats", 0)
    if packed[:, 3].min(initial=255) < 252:
        raise ValueError("quats names no component")
    quats = from_smallest_three(packed[:, 3].astype(np.int64) - 252, (packed[:, :3] / 255 - 0.5) * math.sqrt(2))
    colours = pixels("sh0", 0)
    sh = np.empty((n, 1 + _COEFFICIENTS[bands], 3), np.float32)
    with np.errstate(over="ignore"):
        sh[:, 0] = _floats(_part(meta, "sh0")["codebook"], 256)[colours[:, :3]]
    if bands > 0:
        _harmonics(meta, bands, read, pixels("shN", 1), sh[:, 1:])
    header = added(with_offset({}, valid_offset(meta.get(OFFSET)) or NO_OFFSET), origin)
    if meta.get("antialias") is True or meta.get("model") == "antialiased":
        header[MODE] = MIP
    header |= up_said(meta.get(UP))
    return bundle(means, quats, log_scales, colours[:, 3] / 255, sh), header


def _harmonics(meta: dict[str, Any], bands: int, read: _Folder | _Zip, labels: np.ndarray, out: np.ndarray) -> None:
    """Write SH coefficients above degree 0 into `out` [n k-1 3]."""
    k = _COEFFICIENTS[bands]
    image = _image(read(_file(meta, "shN", 0)), (_PALETTE + _PER_ROW) * k)[..., :3]
    if image.shape[1] != _PER_ROW * k:
        raise ValueError(f"shN has {image.shape[1]} columns for {k} coefficients")
    ids = labels[:, 0].astype(np.int32) | labels[:, 1].astype(np.int32) << 8
    with np.errstate(over="ignore"):
        book = _floats(_part(meta, "shN")["codebook"], 256).astype(np.float32)
    centroids = book[image.reshape(-1, k, 3)]
    if len(ids) and int(ids.max()) >= len(centroids):
        raise ValueError(f"shN has {len(centroids)} entries, and Gaussians of more")
    out[:] = centroids[ids]


def _part(meta: dict[str, Any], name: str) -> dict[str, Any]:
    part = meta[name]
    if not isinstance(part, dict):
        raise ValueError(f"{name} is no object")
    return part


def _file(meta: dict[str, Any], part: str, i: int) -> str:
    name = _part(meta, part)["files"][i]
    if not isinstance(name, str):
        raise ValueError(f"a file of {part} is no name")
    return name


def _whole(value: Any, low: int, high: int) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or value != int(value):
        raise ValueError(f"{str(value)[:20]} where a number of {low} to {high} is expected")
    return int(value)


def _floats(values: Any, count: int) -> np.ndarray:
    """float64 [count] of a JSON array of at least `count` numbers."""
    if not isinstance(values, list) or len(values) < count:
        raise ValueError(f"no array of {count} numbers")
    if not all(isinstance(v, int | float) for v in values):
        raise ValueError("an array of other things than numbers")
    return np.array(values[: max(count, 256)], np.float64)


def _webp(rows: np.ndarray, n: int) -> bytes:
    """Rows [n 3|4] as a nearly square image whose sides are multiples of four."""
    width = max(4, math.ceil(math.sqrt(n) / 4) * 4)
    height = max(4, math.ceil(n / width / 4) * 4)
    image = np.zeros((width * height, rows.shape[1]), np.uint8)
    image[:n] = rows
    return _encoded(image.reshape(height, width, -1))


def _encoded(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    # exact: keep colours where alpha is 0
    Image.fromarray(image).save(out, "WEBP", lossless=True, exact=True, quality=75, method=4)
    return out.getvalue()


def _image(data: bytes, max_pixels: int) -> np.ndarray:
    """uint8 [h w 4]. Raises ValueError for images of more than `max_pixels`, before they are decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about large images: `max_pixels` decides
        try:
            image = Image.open(io.BytesIO(data), formats=("WEBP", "PNG"))
            if image.width * image.height > max_pixels:
                raise ValueError(f"an image of {image.width} x {image.height} px, more than its Gaussians need")
            return np.asarray(image.convert("RGBA"))
        except (Image.DecompressionBombError, UnidentifiedImageError):
            raise ValueError("an image that cannot be opened") from None
