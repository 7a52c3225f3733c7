"""`.spz` (Niantic, MIT): 24-bit positions, 8-bit everything else, gzip (versions 1 to 3) or zstd (version 4).

Streams by attribute: positions, opacities, colours, log scales, rotations, harmonics. Coordinates are stored
right-up-back; ours are right-down-front, rotated by 180 degrees about x. Version 3 is written by default: every reader
knows it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from splat.core.files import write_atomic
from splat.core.foreign import read_bytes
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity
from splat.core.reading import check_expansion, reading
from splat.core.slots import Reporter, SplatFile
from splat.export.header import MIP, MODE, OFFSET, UP, comment_line, header_of, is_antialiased, read_notes, write_notes
from splat.export.packing import arrays, bundle, decoded_bytes, from_smallest_three, smallest_three, to_bytes
from splat.export.repair import repaired, warn
from splat.export.spz_limits import check_scales, fitted
from splat.export.zstd import compressor, decompressor
from splat.geometry.morton import morton_order

_MAGIC = b"NGSP"
_COLOUR_SCALE = 0.15
_ANTIALIASED = 1
_HALF_TURN = Similarity(1.0, torch.diag(torch.tensor([1.0, -1.0, -1.0])).double(), torch.zeros(3).double())
_COEFFICIENTS = (0, 3, 8, 15, 24)
_GZIP_EXTRA, _GZIP_NAME, _GZIP_COMMENT = 4, 8, 16
_BLOCK = 1 << 20
_MAX_FILE = 64 * 2**30
_V4_HEADER = 32


@dataclass(frozen=True)
class SpzCodec:
    """About a tenth of the size of the `.ply`."""

    version: int = 3
    """That is written: 3, or 4, whose local origin stands in a JSON beside the file."""
    name = "spz"
    suffixes = (".spz",)
    about = "Niantic's packed format: 1/10 of the size of .ply at SH degree 3"

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        compress = compressor(path) if self.version == 4 else None
        check_scales(path, gaussians, report)
        gaussians, header, bits = fitted(path, gaussians, header, report)
        means, quats, log_scales, opacities, sh = arrays(_rotated(gaussians))
        order = morton_order(torch.from_numpy(means)).numpy()
        means, quats, log_scales, opacities, sh = (a[order] for a in (means, quats, log_scales, opacities, sh))
        fixed = np.rint(means.astype(np.float64) * (1 << bits)).astype("<i4")
        degree = round(sh.shape[1] ** 0.5) - 1
        flags = _ANTIALIASED if is_antialiased(header) else 0
        streams = [
            fixed.view(np.uint8).reshape(-1, 4)[:, :3],
            to_bytes(opacities * 255),
            to_bytes((sh[:, 0] * _COLOUR_SCALE + 0.5) * 255),
            to_bytes((log_scales + 10) * 16),
            _pack_rotation(quats),
            _pack_harmonics(sh[:, 1:]),
        ]
        plain = [np.ascontiguousarray(s).tobytes() for s in streams]
        about = len(means), degree, bits, flags
        if compress is not None:
            plain = [p for p in plain if p]
            packed = [compress(p) for p in plain]
            head = struct.pack("<4sIIBBBBI", _MAGIC, 4, *about, len(plain), _V4_HEADER).ljust(_V4_HEADER, b"\0")
            table = b"".join(struct.pack("<QQ", len(c), len(p)) for c, p in zip(packed, plain))
            write_atomic(path, b"".join([head, table, *packed]))
        else:
            head = struct.pack("<4sIIBBBB", _MAGIC, 3, *about, 0)
            comment = "\n".join(comment_line(k, header[k]) for k in (OFFSET, UP) if k in header)
            write_atomic(path, compressed(b"".join([head, *plain]), comment))
        # a gzip header has room for the origin and what is up
        said = {k: v for k, v in header.items() if k in (OFFSET, UP)} if compress is not None else {}
        if (notes := write_notes(path, said)) is not None:
            what = "where its origin is" if OFFSET in said else "which way is up"
            warn(report, f"{path} cannot say {what}: {notes.name} does, which other programs do not read.")

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        with reading(path, ".spz"):
            data = read_bytes(path, _MAX_FILE)
            head, streams, comment = _open_v4(data, path) if data[:4] == _MAGIC else _open_gzip(data, path)
            g = _unpack(streams, head)
            if head.degree > 3:
                warn(report, f"{path} has harmonics of degree {head.degree}; only degrees up to 3 are used.")
            header = header_of(comment.splitlines()) if data[:4] != _MAGIC else dict(read_notes(path) or {})
            if head.flags & _ANTIALIASED:
                header[MODE] = MIP
            return SplatFile(repaired(_rotated(g), path, report), header)


def _rotated(g: Gaussians) -> Gaussians:
    """Gaussians in the other axis convention; its own inverse.

    Rotations R become F R F for the half turn F, as in other programs: F R is the same shape with another quaternion.
    """
    flip = g.quats_wxyz.new_tensor([1.0, 1.0, -1.0, -1.0])
    return replace(g.transformed(_HALF_TURN), quats_wxyz=g.quats_wxyz * flip)


@dataclass(frozen=True)
class _Head:
    version: int
    n: int
    degree: int
    bits: int
    """Fraction bits."""
    flags: int

    def __post_init__(self) -> None:
        if self.degree >= len(_COEFFICIENTS) or not 1 <= self.version <= 4 or self.bits > 31:
            raise ValueError(f"version {self.version}, degree {self.degree}, {self.bits} fraction bits")

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes per Gaussian in each stream."""
        rotation = 4 if self.version >= 3 else 3
        return (6 if self.version == 1 else 9, 1, 3, 3, rotation, 3 * _COEFFICIENTS[self.degree])


_Streams = list[np.ndarray]
"""positions, opacities, colours, scales, rotations, harmonics as bytes."""


def compressed(data: bytes, comment: str = "") -> bytes:
    """A gzip file, the same for the same data, with the comment that its header can hold (RFC 1952)."""
    if not comment:
        return gzip.compress(data, 6, mtime=0)
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = raw.compress(data) + raw.flush()
    head = b"\x1f\x8b\x08" + bytes([_GZIP_COMMENT]) + b"\0\0\0\0\0\xff" + comment.encode("latin-1") + b"\0"
    return head + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _comment(data: bytes) -> str:
    """The comment of a gzip header; "" where there is none."""
    if len(data) < 10 or not data[3] & _GZIP_COMMENT:
        return ""
    at = 10
    if data[3] & _GZIP_EXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    if data[3] & _GZIP_NAME:
        at = data.index(b"\0", at) + 1
    return data[at : data.index(b"\0", at)][:200].decode("latin-1")


class _Gzip:
    """Decompresses as much as is asked for, whatever the data would expand to."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0
        self._unpack = zlib.decompressobj(31)
        self._input: bytes | memoryview = b""

    def read(self, size: int) -> bytearray:
        """The next `size` bytes. Raises ValueError where there are fewer."""
        out = bytearray()
        while len(out) < size:
            out += self._part(min(size - len(out), _BLOCK))
        return out

    def finish(self, limit: int) -> None:
        """Read up to the checksum, past at most `limit` bytes (what later versions append)."""
        while not self._unpack.eof:
            limit -= len(self._part(_BLOCK))
            if limit < 0:
                raise ValueError("it is longer than its header says")

    def _part(self, size: int) -> bytes:
        if len(self._input) == 0:
            self._input = self._data[self._at : self._at + _BLOCK]
            self._at += len(self._input)
        if self._unpack.eof or len(self._input) == 0:
            part = b"" if self._unpack.eof else self._unpack.decompress(b"", size)
            if not part:
                raise ValueError("it is cut short")
            return part
        part = self._unpack.decompress(self._input, size)
        self._input = self._unpack.unconsumed_tail
        return part


def _open_gzip(data: bytes, path: Path) -> tuple[_Head, _Streams, str]:
    stream = _Gzip(data)
    head_bytes = stream.read(16)
    magic, version, n, degree, bits, flags, _ = struct.unpack("<4sIIBBBB", head_bytes)
    if magic != _MAGIC:
        raise ValueError("its header is wrong")
    head = _Head(version, n, degree, bits, flags)
    check_expansion(path, decoded_bytes(n, min(_COEFFICIENTS[degree], 15) + 1), len(data))
    plain = stream.read(n * sum(head.widths))
    stream.finish(len(plain) + _BLOCK)
    streams, at = [], 0
    for width in head.widths:
        streams.append(np.frombuffer(plain, np.uint8, n * width, at))
        at += n * width
    return head, streams, _comment(data)


def _open_v4(data: bytes, path: Path) -> tuple[_Head, _Streams, str]:
    """Plain header of 32 bytes, then (compressed, plain) sizes of each stream, then the streams."""
    _, version, n, degree, bits, flags, count, table = struct.unpack_from("<4sIIBBBBI", data)
    head = _Head(version, n, degree, bits, flags)
    check_expansion(path, decoded_bytes(n, min(_COEFFICIENTS[degree], 15) + 1), len(data))
    decompress = decompressor(path)
    widths = [w for w in head.widths if w > 0]
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
    return head, [*streams, np.zeros(0, np.uint8)][:6], ""


def _unpack(streams: _Streams, head: _Head) -> Gaussians:
    positions, opacities, colours, scales, rotations, harmonics = streams
    n, k = head.n, _COEFFICIENTS[head.degree]
    if head.version == 1:
        means = positions.view("<f2").reshape(n, 3).astype(np.float32)
    else:
        wide = np.zeros((n * 3, 4), np.uint8)
        wide[:, 1:] = positions.reshape(-1, 3)  # in the upper bytes, so that the right shift extends the sign
        # 24 bits and a power of two: exact in float32
        means = (wide.view("<i4").reshape(n, 3) >> 8).astype(np.float32) / np.float32(1 << head.bits)
    sh = np.empty((n, 1 + min(k, 15), 3), np.float32)
    sh[:, 0] = (colours.reshape(n, 3) / 255 - 0.5) / _COLOUR_SCALE
    if k > 0:
        np.subtract(harmonics.reshape(n, k, 3)[:, :15], np.float32(128), out=sh[:, 1:])
        sh[:, 1:] /= 128
    log_scales = scales.reshape(n, 3).astype(np.float32) / 16 - 10
    quats = _unpack_rotation(rotations.reshape(n, -1) if n else rotations.reshape(0, 4))
    return bundle(means, quats, log_scales, opacities / 255, sh)


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
