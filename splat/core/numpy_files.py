"""The format of `.npy` files, read without NumPy's own loader: numbers only, never pickled objects."""

from __future__ import annotations

import ast
import struct

import numpy as np


def parse_npy(data: bytes) -> np.ndarray:
    """The array of real numbers in the contents of a `.npy` file, of the type it was written with; a read-only view of
    `data`, which explains its size. Raises ValueError with the reason where it is damaged or holds something else."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        raise ValueError("it is not a NumPy file")
    wide = data[6] >= 2
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    start = 12 if wide else 10
    if length > min(len(data) - start, 10_000):
        raise ValueError("its header is cut")
    try:
        header = ast.literal_eval(data[start : start + length].decode("latin-1").strip())
        dtype, fortran, shape = np.dtype(header["descr"]), bool(header["fortran_order"]), tuple(header["shape"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise ValueError("its header is damaged") from None
    if dtype.kind not in "fiu" or dtype.shape:
        raise ValueError("it does not hold numbers")
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape) or len(shape) > 4:
        raise ValueError("its header is damaged")
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize != len(data) - start - length:
        raise ValueError("its size is not the one in its header")
    return np.frombuffer(data, dtype, count, start + length).reshape(shape, order="F" if fortran else "C")
