"""`.spz` (Niantic, MIT): 24-bit positions, 8-bit everything else, gzip (versions 1 to 3) or zstd (version 4).

Streams by attribute: positions, opacities, colours, log scales, rotations, harmonics. Coordinates are stored
right-up-back; ours are right-down-front, rotated by 180 degrees about x. Version 3 is written: every reader knows it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity
from splat.core.slots import Reporter
from splat.export.packing import arrays, bundle, from_smallest_three, smallest_three, to_bytes
from splat.export.repair import repaired, warn
from splat.geometry.morton import morton_order

_MAGIC = b"NGSP"
_COLOUR_SCALE = 0.15
_ANTIALIASED = 1
_HALF_TURN = Similarity(1.0, torch.diag(torch.tensor([1.0, -1.0, -1.0])).double(), torch.zeros(3).double())
_MAX_FRACTION_BITS = 12
_COEFFICIENTS = (0, 3, 8, 15, 24)


class SpzCodec:
    """About a tenth of the size of the `.ply`."""

    name = "spz"
    suffixes: tuple[str, ...] = (".spz",)

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str]) -> None:
        means, quats, log_scales, opacities, sh = arrays(_rotated(gaussians))
        order = morton_order(torch.from_numpy(means)).numpy()
        means, quats, log_scales, opacities, sh = (a[order] for a in (means, quats, log_scales, opacities, sh))
        reach = float(np.abs(means).max()) if len(means) else 1.0
        # 23 bits and a sign: large scenes get fewer fraction bits
        bits = min(_MAX_FRACTION_BITS, 23 - math.ceil(math.log2(max(reach * 1.0001, 1e-6))))
        if bits < 0:
            raise SplatError(
                f"{path}: .spz stores coordinates up to 8 million, this scene reaches {reach:.3g}; use .ply."
            )
        fixed = np.rint(means.astype(np.float64) * (1 << bits)).astype("<i4")
        degree = round(sh.shape[1] ** 0.5) - 1
        antialiased = header.get("SplatRenderMode") == "mip"
        head = struct.pack("<4sIIBBBB", _MAGIC, 3, len(means), degree, bits, _ANTIALIASED if antialiased else 0, 0)
        streams = [
            fixed.view(np.uint8).reshape(-1, 4)[:, :3],
            to_bytes(opacities * 255),
            to_bytes((sh[:, 0] * _COLOUR_SCALE + 0.5) * 255),
            to_bytes((log_scales + 10) * 16),
            _pack_rotation(quats),
            _pack_harmonics(sh[:, 1:]),
        ]
        data = b"".join([head, *(np.ascontiguousarray(s).tobytes() for s in streams)])
        write_atomic(path, gzip.compress(data, 6, mtime=0))

    def load(self, path: Path, report: Reporter | None = None) -> Gaussians:
        try:
            data = path.read_bytes()
        except OSError as e:
            raise SplatError(f"{path} cannot be read ({e.strerror or e}): check the path.") from None
        try:
            header, streams = _open_v4(data, path) if data[:4] == _MAGIC else _open_gzip(data)
            version, n, degree, bits = header
            if degree >= len(_COEFFICIENTS) or version > 4:
                raise ValueError(f"version {version}, degree {degree}")
            g = _unpack(streams, version, n, degree, bits)
        except (ValueError, EOFError, OSError, zlib.error, struct.error) as e:
            raise SplatError(f"{path} is no .spz or is damaged ({e}): copy or export it again.") from None
        if degree > 3:
            warn(report, f"{path} has harmonics of degree {degree}; only degrees up to 3 are used.")
        return repaired(_rotated(g), path, report)


def _rotated(g: Gaussians) -> Gaussians:
    """Gaussians in the other axis convention; its own inverse.

    Rotations R become F R F for the half turn F, as in other programs: F R is the same shape with another quaternion.
    """
    flip = g.quats_wxyz.new_tensor([1.0, 1.0, -1.0, -1.0])
    return replace(g.transformed(_HALF_TURN), quats_wxyz=g.quats_wxyz * flip)


_Header = tuple[int, int, int, int]
"""version, number of Gaussians, degree, fraction bits."""
_Streams = list[np.ndarray]
"""positions, opacities, colours, scales, rotations, harmonics as bytes."""


def _widths(version: int, degree: int) -> tuple[int, ...]:
    """Bytes per Gaussian in each stream."""
    return (6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3, 3 * _COEFFICIENTS[degree])


def _open_gzip(data: bytes) -> tuple[_Header, _Streams]:
    plain = gzip.decompress(data)
    magic, version, n, degree, bits, _, _ = struct.unpack_from("<4sIIBBBB", plain)
    if magic != _MAGIC or degree >= len(_COEFFICIENTS):
        raise ValueError("its header is wrong")
    streams, at = [], 16
    for width in _widths(version, degree):
        if at + n * width > len(plain):
            raise ValueError("it is cut short")
        streams.append(np.frombuffer(plain, np.uint8, n * width, at))
        at += n * width
    return (version, n, degree, bits), streams


def _open_v4(data: bytes, path: Path) -> tuple[_Header, _Streams]:
    """Plain header of 32 bytes, then (compressed, plain) sizes of each stream, then the streams."""
    _, version, n, degree, bits, _, count, table = struct.unpack_from("<4sIIBBBBI", data)
    if degree >= len(_COEFFICIENTS):
        raise ValueError(f"degree {degree}")
    decompress = _zstd(path)
    widths = [w for w in _widths(version, degree) if w > 0]
    if count < len(widths):
        raise ValueError(f"{count} streams")
    at, streams = table + 16 * count, []
    for i, width in enumerate(widths):
        packed, plain = struct.unpack_from("<QQ", data, table + 16 * i)
        if plain != n * width or at + packed > len(data):
            raise ValueError("it is cut short")
        streams.append(np.frombuffer(decompress(data[at : at + packed], plain), np.uint8))
        if len(streams[-1]) != plain:
            raise ValueError("a stream is cut short")
        at += packed
    return (version, n, degree, bits), [*streams, np.zeros(0, np.uint8)][:6]


def _zstd(path: Path) -> Callable[[bytes, int], bytes]:
    """`decompress(data, size)` from the optional package `zstandard`. Raises SplatError without it."""
    try:
        import zstandard
    except ImportError:
        raise SplatError(
            f"{path} is .spz version 4, whose zstd streams need `pip install splat3d[spz]`; or export it as version 3."
        ) from None

    def decompress(data: bytes, size: int) -> bytes:
        try:
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        except zstandard.ZstdError as e:
            raise ValueError(str(e)) from None

    return decompress


def _unpack(streams: _Streams, version: int, n: int, degree: int, bits: int) -> Gaussians:
    positions, opacities, colours, scales, rotations, harmonics = streams
    if version == 1:
        means = positions.view("<f2").reshape(n, 3).astype(np.float64)
    else:
        wide = np.zeros((n * 3, 4), np.uint8)
        wide[:, 1:] = positions.reshape(-1, 3)  # in the upper bytes, so that the right shift extends the sign
        means = (wide.view("<i4").reshape(n, 3) >> 8) / float(1 << bits)
    dc = (colours.reshape(n, 1, 3) / 255 - 0.5) / _COLOUR_SCALE
    rest = (harmonics.reshape(n, _COEFFICIENTS[degree], 3)[:, :15].astype(np.float64) - 128) / 128
    log_scales = scales.reshape(n, 3) / 16 - 10
    quats = _unpack_rotation(rotations.reshape(n, -1))
    return bundle(means, quats, log_scales, opacities / 255, np.concatenate([dc, rest], 1))


def _pack_rotation(quats_wxyz: np.ndarray) -> np.ndarray:
    """Bits from the top: index of the largest of xyzw (2 bits), then the others in order, each a sign and 9 bits."""
    largest, others = smallest_three(quats_wxyz[:, [1, 2, 3, 0]])
    levels = np.clip(np.rint(np.abs(others) * math.sqrt(2) * 511), 0, 511).astype(np.uint32)
    levels |= (others < 0).astype(np.uint32) << 9
    packed = largest.astype(np.uint32) << 30 | levels[:, 0] << 20 | levels[:, 1] << 10 | levels[:, 2]
    return packed.astype("<u4").view(np.uint8)


def _unpack_rotation(rows: np.ndarray) -> np.ndarray:
    """Unit quaternions wxyz."""
    if rows.shape[1] == 3:  # versions 1 and 2: x, y, z of the quaternion whose w is positive
        xyz = rows / 127.5 - 1
        xyzw = from_smallest_three(np.full(len(rows), 3), xyz)
    else:
        packed = np.ascontiguousarray(rows).view("<u4")[:, 0].astype(np.uint32)
        fields = np.stack([packed >> 20 & 1023, packed >> 10 & 1023, packed & 1023], 1)
        others = (fields & 511) / 511 / math.sqrt(2) * np.where(fields >> 9, -1, 1)
        xyzw = from_smallest_three((packed >> 30).astype(np.int64), others)
    return xyzw[:, [3, 0, 1, 2]]


def _pack_harmonics(rest: np.ndarray) -> np.ndarray:
    """uint8 [n k 3], quantized to 5 bits for degree 1 and 4 bits above, as by the reference writer: zero low bits
    compress well."""
    bucket = np.where(np.arange(rest.shape[1]) < 3, 8, 16)[None, :, None]
    return np.clip(np.rint((rest * 128 + 128) / bucket) * bucket, 0, 255).astype(np.uint8)
