"""`.ksplat` (mkkellogg's GaussianSplats3D, MIT), versions 0.1 and later, levels 0 to 2: read only.

A header of 4,096 bytes, headers of 1,024 bytes for up to `max_sections` sections, then the sections. A section has the
sizes of its partly filled buckets (uint32), the centres of its buckets (3 float32), and a row per Gaussian: position,
linear scale, quaternion wxyz, red green blue opacity (uint8), SH. At level 0 numbers are float32. At levels 1 and 2
they are float16, positions are uint16 in steps about the centre of the bucket, and the SH of level 2 are uint8 between
the bounds that the header gives. SH are grouped by degree, and within it by channel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splat.core.foreign import read_bytes
from splat.core.gaussians import Gaussians
from splat.core.reading import check_expansion, reading
from splat.core.slots import Reporter, SplatFile
from splat.export.packing import bundle, dc_from_colour, decoded_bytes
from splat.export.repair import repaired

_HEADER, _SECTION_HEADER = 4096, 1024
_COEFFICIENTS = (0, 3, 8, 15)
_CENTRE = 12
"""Bytes of the centre of a bucket."""
_MAX_FILE = 64 * 2**30
_MAX_SECTIONS = 1 << 16
_RANGE = (1, 32767, 32767)
"""Steps on either side of the centre of a bucket, where a section does not say, by level."""


class KsplatReader:
    """Reads `.ksplat`."""

    name = "ksplat"
    suffixes: tuple[str, ...] = (".ksplat",)

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        with reading(path, ".ksplat"):
            data = read_bytes(path, _MAX_FILE)
            return SplatFile(repaired(_decoded(data, path), path, report))


@dataclass(frozen=True)
class _Section:
    count: int
    capacity: int
    """Rows that there is room for."""
    bucket_size: int
    buckets: int
    block: float
    """Side of a bucket, in units."""
    bucket_bytes: int
    steps: int
    full: int
    """Buckets that are full; they come first."""
    partial: int
    degree: int

    @staticmethod
    def at(data: bytes, offset: int, level: int) -> _Section:
        count, capacity, size, buckets, block, stored, steps = struct.unpack_from("<IIIIfH2xI", data, offset)
        full, partial, degree = struct.unpack_from("<IIH", data, offset + 32)
        if degree >= len(_COEFFICIENTS) or count > capacity:
            raise ValueError(f"a section of {count} of {capacity} Gaussians and degree {degree}")
        if level > 0 and (full + partial > buckets or stored < _CENTRE):
            raise ValueError(f"{full} + {partial} of {buckets} buckets of {stored} bytes")
        return _Section(count, capacity, size, buckets, block, stored, steps or _RANGE[level], full, partial, degree)

    def row(self, level: int) -> np.dtype:
        """The layout of a Gaussian."""
        number = "<f4" if level == 0 else "<f2"
        rest = ("<f4", "<f2", "u1")[level]
        fields: list[tuple[str, str, int]] = [("means", "<f4" if level == 0 else "<u2", 3)]
        fields += [("scales", number, 3), ("quats", number, 4), ("rgba", "u1", 4)]
        k = _COEFFICIENTS[self.degree]
        return np.dtype([*fields, ("sh", rest, 3 * k)] if k else fields)  # type: ignore[arg-type]

    def centres(self, data: bytes, at: int) -> np.ndarray:
        """float64 [count 3]: the centre of the bucket of each Gaussian."""
        sizes = np.frombuffer(data, "<u4", self.partial, at).astype(np.int64)
        raw = np.frombuffer(data, np.uint8, self.bucket_bytes * self.buckets, at + 4 * self.partial)
        centres = raw.reshape(self.buckets, self.bucket_bytes)[:, :_CENTRE].copy().view("<f4").astype(np.float64)
        lengths = np.concatenate([np.full(self.full, self.bucket_size, np.int64), sizes])
        ends = np.minimum(lengths, self.count).cumsum()
        owner = np.searchsorted(ends, np.arange(self.count), side="right")
        if self.count and int(owner[-1]) >= len(lengths):
            raise ValueError(f"{self.count} Gaussians in buckets of {int(ends[-1]) if len(ends) else 0}")
        return centres[owner]


def _decoded(data: bytes, path: Path) -> Gaussians:
    major, minor = data[0], data[1]
    if major != 0 or minor < 1:
        raise ValueError(f"version {major}.{minor}")
    max_sections, _, _, total, level = struct.unpack_from("<IIIIH", data, 4)
    low, high = struct.unpack_from("<ff", data, 36)
    low, high = low or -1.5, high or 1.5
    if level > 2 or max_sections > _MAX_SECTIONS:
        raise ValueError(f"level {level}, {max_sections} sections")
    sections = [_Section.at(data, _HEADER + i * _SECTION_HEADER, level) for i in range(max_sections)]
    sections = [s for s in sections if s.capacity]
    if sum(s.count for s in sections) != total:
        raise ValueError(f"its sections have other than its {total} Gaussians")
    degree = max((s.degree for s in sections if s.count), default=0)
    check_expansion(path, decoded_bytes(total, 1 + _COEFFICIENTS[degree]), len(data))
    sh = np.zeros((total, 1 + _COEFFICIENTS[degree], 3), np.float32)
    parts: list[tuple[np.ndarray, ...]] = []
    at, done = _HEADER + max_sections * _SECTION_HEADER, 0
    for s in sections:
        row, start = s.row(level), at + 4 * s.partial + s.bucket_bytes * s.buckets
        if start + row.itemsize * s.capacity > len(data) and start + row.itemsize * s.count > len(data):
            raise ValueError("it is cut short")
        rows = np.frombuffer(data, row, s.count, start)
        means = rows["means"].astype(np.float64)
        if level > 0:
            means = (means - s.steps) * (s.block / 2 / s.steps) + s.centres(data, at)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_scales = np.log(rows["scales"].astype(np.float64))
        parts.append((means, rows["quats"].astype(np.float32), log_scales, rows["rgba"]))
        out = sh[done : done + s.count]
        out[:, 0] = dc_from_colour(rows["rgba"][:, :3] / 255)
        if s.degree:
            values = rows["sh"].astype(np.float32)
            _spread(values if level < 2 else low + values / 255 * (high - low), s.degree, out[:, 1:])
        at, done = start + row.itemsize * s.capacity, done + s.count
    if not parts:
        raise ValueError("it has no section")
    means, quats, log_scales, rgba = (np.concatenate(column) for column in zip(*parts))
    return bundle(means, quats, log_scales, rgba[:, 3] / 255, sh)


def _spread(values: np.ndarray, degree: int, out: np.ndarray) -> None:
    """SH of a row, grouped by degree and then by channel, into [n k-1 3]."""
    n, at = len(values), 0
    for band in range(1, degree + 1):
        size = 2 * band + 1
        block = values[:, 3 * at : 3 * (at + size)].reshape(n, 3, size)
        out[:, at : at + size] = block.transpose(0, 2, 1)
        at += size
