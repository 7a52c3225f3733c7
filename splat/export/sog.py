"""`.sog` version 2 (PlayCanvas): attributes as lossless WebP images and a `meta.json`, in a zip or a folder.

Positions have 16 bits per axis after sign(x) log(1 + |x|). Rotations are 8-bit smallest three, with the index of the
largest component in alpha. Scales and colours index codebooks of 256 entries, opacities have 8 bits, and SH above
degree 0 indexes a palette of at most 65,536 rows. Coordinates are those of the `.ply`, as splat-transform writes them.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.gaussians import Gaussians
from splat.core.order import morton_order
from splat.core.slots import Reporter
from splat.export.packing import arrays, bundle, codebook, from_smallest_three, palette, smallest_three
from splat.export.repair import repaired

_COEFFICIENTS = (0, 3, 8, 15)
_PALETTE = 65536
_PER_ROW = 64
"""Palette entries side by side in the image of centroids."""


class SogCodec:
    """About a fifteenth of the size of the `.ply` at SH degree 3."""

    name = "sog"
    suffixes: tuple[str, ...] = (".sog",)

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str]) -> None:
        """Write one zip. Encoding a million Gaussians with harmonics takes a minute or two."""
        meta, images = encode(gaussians)
        if header.get("SplatRenderMode") == "mip":
            meta["antialias"] = True
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as z:
            for name, data in [("meta.json", json.dumps(meta).encode()), *images.items()]:
                z.writestr(zipfile.ZipInfo(name), data)  # with a fixed date: the same scene gives the same file
        write_atomic(path, packed.getvalue())

    def load(self, path: Path, report: Reporter | None = None) -> Gaussians:
        """Read a zip, or an unpacked folder (or its meta.json)."""
        try:
            if path.is_dir() or path.name == "meta.json":
                folder = path if path.is_dir() else path.parent
                return repaired(decode(lambda name: _read_file(folder, name)), path, report)
            with zipfile.ZipFile(path) as z:
                return repaired(decode(z.read), path, report)
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, IndexError, TypeError, UnidentifiedImageError) as e:
            raise SplatError(f"{path} is no .sog or is damaged ({e}): copy or export it again.") from None


def encode(gaussians: Gaussians) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The metadata, and the encoded images by file name."""
    means, quats, log_scales, opacities, sh = arrays(gaussians)
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


def decode(read: Callable[[str], bytes]) -> Gaussians:
    """The Gaussians of a file whose parts `read(name)` returns. Raises ValueError, KeyError or OSError when damaged."""
    meta = json.loads(read("meta.json"))
    if meta.get("version") != 2:
        raise ValueError(f"version {meta.get('version', 1)}; only version 2 is read")
    n = int(meta["count"])

    def pixels(part: str, i: int) -> np.ndarray:
        flat = _image(read(meta[part]["files"][i])).reshape(-1, 4)
        if len(flat) < n:
            raise ValueError(f"{part} has {len(flat)} of {n} Gaussians")
        return flat[:n]

    levels = pixels("means", 0)[:, :3].astype(np.uint16) | pixels("means", 1)[:, :3].astype(np.uint16) << 8
    low, high = (np.array(meta["means"][k], np.float64) for k in ("mins", "maxs"))
    folded = low + (high - low) * (levels / 65535)
    means = np.sign(folded) * np.expm1(np.abs(folded))
    log_scales = np.array(meta["scales"]["codebook"], np.float64)[pixels("scales", 0)[:, :3]]
    packed = pixels("quats", 0)
    if packed[:, 3].min(initial=255) < 252:
        raise ValueError("quats names no component")
    quats = from_smallest_three(packed[:, 3].astype(np.int64) - 252, (packed[:, :3] / 255 - 0.5) * math.sqrt(2))
    colours = pixels("sh0", 0)
    sh = np.array(meta["sh0"]["codebook"], np.float64)[colours[:, None, :3]]
    if "shN" in meta:
        sh = np.concatenate([sh, _harmonics(meta["shN"], read, pixels("shN", 1))], 1)
    return bundle(means, quats, log_scales, colours[:, 3] / 255, sh)


def _harmonics(part: dict[str, Any], read: Callable[[str], bytes], labels: np.ndarray) -> np.ndarray:
    """SH coefficients above degree 0, [n k-1 3]."""
    k = _COEFFICIENTS[int(part["bands"])]
    image = _image(read(part["files"][0]))[..., :3]
    if image.shape[1] != _PER_ROW * k:
        raise ValueError(f"shN has {image.shape[1]} columns for {k} coefficients")
    ids = labels[:, 0].astype(np.int64) | labels[:, 1].astype(np.int64) << 8
    centroids = np.array(part["codebook"], np.float64)[image.reshape(-1, k, 3)]
    return centroids[ids]


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


def _image(data: bytes) -> np.ndarray:
    """uint8 [h w 4]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def _read_file(folder: Path, name: str) -> bytes:
    """The bytes of a file directly in `folder`. Raises ValueError for names with a path."""
    if Path(name).name != name:
        raise ValueError(f"'{name}' is not a plain file name")
    return (folder / name).read_bytes()
