"""NumPy's files as other programs leave them: numbers only, never pickled objects, and never more of them than the
file holds."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from splat.core.errors import SplatError
from splat.core.foreign import read_bytes, shown
from splat.core.numpy_files import parse_npy

_MAX_BYTES = 256 * 2**20
_MAX_MEMBERS = 100_000


def read_npy(path: Path) -> np.ndarray:
    """A `.npy` file of real numbers, as float64. Raises SplatError naming the file."""
    try:
        return _parse(read_bytes(path, _MAX_BYTES))
    except ValueError as e:
        raise SplatError(f"{shown(path)} cannot be read ({e}): copy it again, or use --ignore-poses.") from None


def npz_names(path: Path) -> list[str]:
    """Names of the arrays in a `.npz` file; none where it is damaged."""
    try:
        with zipfile.ZipFile(path) as z:
            return [n.removesuffix(".npy") for n in z.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, struct.error):
        return []


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of real numbers in a `.npz` file, as float64; others are empty. Raises SplatError where it is
    damaged, or holds more than a file of cameras can."""
    arrays = dict[str, np.ndarray]()
    try:
        with zipfile.ZipFile(BytesIO(read_bytes(path, _MAX_BYTES))) as z:
            members = z.infolist()
            if len(members) > _MAX_MEMBERS or sum(m.file_size for m in members) > _MAX_BYTES:
                raise ValueError("it holds more than cameras")
            for member in members:
                with z.open(member) as f:
                    data = f.read(member.file_size + 1)
                if len(data) > member.file_size:
                    raise ValueError("its sizes are wrong")
                name = member.filename.removesuffix(".npy")
                try:
                    arrays[name] = _parse(data)
                except ValueError:
                    arrays[name] = np.empty(0)
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error) as e:
        raise SplatError(
            f"{shown(path)} cannot be read ({shown(e)[:80]}): copy it again, or use --ignore-poses."
        ) from None
    return arrays


def _parse(data: bytes) -> np.ndarray:
    return parse_npy(data).astype(np.float64)
