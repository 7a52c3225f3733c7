"""PlayCanvas' compressed `.ply`: 16 bytes per Gaussian, quantized within the bounds of its chunk of 256 Gaussians.

Layout (PlayCanvas engine and splat-transform, MIT): element `chunk` with 18 floats of bounds (position, log scale,
colour), element `vertex` with four uint32 (position and scale 11-10-11 bits, rotation 2-10-10-10 smallest three, colour
8-8-8-8 with opacity), and optionally element `sh` with f_rest as uchar over -4..4, channel-major.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.ply import read_ply, read_ply_header, write_ply
from splat.core.reading import reading
from splat.core.slots import Reporter, SplatFile
from splat.export.header import NO_OFFSET, added, comment_lines, header_of
from splat.export.packing import (
    arrays,
    bundle,
    colour_from_dc,
    dc_from_colour,
    from_smallest_three,
    smallest_three,
)
from splat.export.ply_rows import gaussians_from_vertices
from splat.export.repair import repaired
from splat.geometry.morton import morton_order

CHUNK = 256
_BITS = np.array([11, 10, 11])
_GROUPS = (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
_BOUNDS = [f"{end}_{name}" for group in _GROUPS for end in ("min", "max") for name in group]


class CompressedPlyCodec:
    """About 1/15 of the size of the `.ply` at SH degree 3, 1/4 at degree 0. Gaussians are sorted in Morton order."""

    name = "compressed-ply"
    suffixes: tuple[str, ...] = (".compressed.ply",)
    about = "PlayCanvas' compressed PLY: 1/15 of the size of .ply at SH degree 3"

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        means, quats, log_scales, opacities, sh = arrays(gaussians)
        order = morton_order(torch.from_numpy(means)).numpy()
        means, quats, log_scales, opacities, sh = (a[order] for a in (means, quats, log_scales, opacities, sh))
        colour = colour_from_dc(sh[:, 0])
        log_scales = np.clip(log_scales, -20, 20)
        ranges = [_ranges(v) for v in (means, log_scales, colour)]
        bounds = np.empty(-(-len(means) // CHUNK), [(name, "<f4") for name in _BOUNDS])
        for (low, high), group in zip(ranges, _GROUPS):
            for i, name in enumerate(group):
                bounds[f"min_{name}"], bounds[f"max_{name}"] = low[:, i], high[:, i]
        rows = np.empty(len(means), [(f"packed_{n}", "<u4") for n in ("position", "rotation", "scale", "color")])
        rows["packed_position"] = _pack_11_10_11(_within(means, *ranges[0]))
        rows["packed_scale"] = _pack_11_10_11(_within(log_scales, *ranges[1]))
        rows["packed_rotation"] = _pack_rotation(quats)
        rgba = np.concatenate([_within(colour, *ranges[2]), opacities[:, None]], 1)
        bytes_ = np.rint(np.clip(rgba, 0, 1) * 255).astype(np.uint32)
        rows["packed_color"] = bytes_[:, 0] << 24 | bytes_[:, 1] << 16 | bytes_[:, 2] << 8 | bytes_[:, 3]
        elements = {"chunk": bounds, "vertex": rows}
        if sh.shape[1] > 1:
            rest = sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)  # channel-major
            levels = np.clip(np.floor((rest / 8 + 0.5) * 256), 0, 255).astype(np.uint8)
            packed = np.empty(len(sh), [(f"f_rest_{i}", "u1") for i in range(rest.shape[1])])
            for i in range(rest.shape[1]):
                packed[f"f_rest_{i}"] = levels[:, i]
            elements["sh"] = packed
        write_ply(path, elements, comments=comment_lines(header))

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        return load_ply(path, report)  # also an uncompressed PLY under this name


def load_ply(path: Path, report: Reporter | None = None) -> SplatFile:
    """A splat `.ply`, compressed or not, whatever its name. Raises SplatError for a file that is damaged or is no
    splat."""
    elements = read_ply(path, {"chunk", "vertex", "sh"})
    with reading(path, "splat .ply"):
        names = elements["vertex"].dtype.names or () if "vertex" in elements else ()
        if "chunk" in elements and ("packed_position" in names or "x" not in names):
            gaussians, offset = gaussians_from_elements(elements, path), NO_OFFSET
        else:
            gaussians, offset = gaussians_from_vertices(elements, path, report)
        header = header_of(read_ply_header(path).comments)
        return SplatFile(repaired(gaussians, path, report), added(header, offset))


def gaussians_from_elements(elements: dict[str, np.ndarray], path: Path) -> Gaussians:
    """Gaussians from the elements of a file. Raises SplatError for missing elements and inconsistent counts."""
    try:
        chunk, rows = elements["chunk"], elements["vertex"]
        n = len(rows)
        if len(chunk) * CHUNK < n:
            raise SplatError(f"{path} has {len(chunk)} chunks for {n} Gaussians, too few: export it again.")
        owner = np.arange(n) // CHUNK
        names = chunk.dtype.names or ()
        bounds: list[tuple[np.ndarray, np.ndarray]] = []
        for group in _GROUPS:
            if f"min_{group[0]}" not in names:  # older files have no bounds of colours
                bounds.append((np.zeros((n, 3)), np.ones((n, 3))))
                continue
            low, high = (np.stack([chunk[f"{e}_{name}"] for name in group], 1)[owner] for e in ("min", "max"))
            bounds.append((low, high))
        means = _lerp(_unpack_11_10_11(rows["packed_position"]), *bounds[0])
        log_scales = _lerp(_unpack_11_10_11(rows["packed_scale"]), *bounds[1])
        packed = rows["packed_color"].astype(np.uint32)
        rgba = np.stack([(packed >> s & 255) / 255 for s in (24, 16, 8, 0)], 1)
        dc = dc_from_colour(_lerp(rgba[:, :3], *bounds[2]))
        quats = _unpack_rotation(rows["packed_rotation"])
        sh = np.concatenate([dc[:, None], _rest(elements.get("sh"), n, path)], 1)
    except (KeyError, ValueError) as e:
        raise SplatError(f"{path} lacks a part of a compressed splat ({e}): export it again.") from None
    return bundle(means, quats, log_scales, rgba[:, 3], sh)


def _rest(packed: np.ndarray | None, n: int, path: Path) -> np.ndarray:
    """SH coefficients above degree 0, [n k-1 3], of the optional element `sh`."""
    if packed is None or not packed.dtype.names:
        return np.zeros((n, 0, 3), np.float32)
    count = len(packed.dtype.names)
    if len(packed) != n or count not in (9, 24, 45):
        raise SplatError(f"{path} has {len(packed)} x {count} harmonics for {n} Gaussians: export it again.")
    levels = np.stack([packed[f"f_rest_{i}"] for i in range(count)], 1).astype(np.float32)
    # a level is the centre of its interval, except the first and the last: the ends of the range
    values = np.where(levels == 0, 0, np.where(levels == 255, 1, (levels + 0.5) / 256))
    return ((values - 0.5) * 8).reshape(n, 3, count // 3).transpose(0, 2, 1)


def _ranges(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of each column per chunk."""
    starts = np.arange(0, len(values), CHUNK)
    if len(starts) == 0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
    return np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def _within(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Values as fractions of the bounds of their chunk, in [0, 1]."""
    owner = np.arange(len(values)) // CHUNK
    span = (high - low)[owner]
    return np.where(span > 1e-20, (values - low[owner]) / np.maximum(span, 1e-20), 0)


def _lerp(t: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low + t * (high.astype(np.float64) - low)


def _pack_11_10_11(unit: np.ndarray) -> np.ndarray:
    levels = np.rint(np.clip(unit, 0, 1) * ((1 << _BITS) - 1)).astype(np.uint32)
    return levels[:, 0] << 21 | levels[:, 1] << 11 | levels[:, 2]


def _unpack_11_10_11(packed: np.ndarray) -> np.ndarray:
    p = packed.astype(np.uint32)
    return np.stack([p >> 21, p >> 11 & 1023, p & 2047], 1) / ((1 << _BITS) - 1)


def _pack_rotation(quats_wxyz: np.ndarray) -> np.ndarray:
    largest, others = smallest_three(quats_wxyz)
    levels = np.rint(np.clip(others / np.sqrt(2) + 0.5, 0, 1) * 1023).astype(np.uint32)
    return largest.astype(np.uint32) << 30 | levels[:, 0] << 20 | levels[:, 1] << 10 | levels[:, 2]


def _unpack_rotation(packed: np.ndarray) -> np.ndarray:
    p = packed.astype(np.uint32)
    others = (np.stack([p >> 20 & 1023, p >> 10 & 1023, p & 1023], 1) / 1023 - 0.5) * np.sqrt(2)
    return from_smallest_three((p >> 30).astype(np.int64), others)
