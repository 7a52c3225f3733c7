"""Python's side of `kernels.h`: one entry of `SIGNATURES` per function, called through `call`.

A tensor argument is passed as its address after a check of device, layout and type; None is a null pointer; short
tables in host memory may be ctypes arrays (`int64s`, `doubles`), which cost a tenth of a tensor. Calls release the
GIL. The last argument of a kernel, the stream, is added here.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from splat.native import build

# The letters of a signature: what each argument is.
#   i int32   l int64   f float   d double        by value
#   F D I L H B  float32, float64, int32, int64, int16, uint8 tensor (or None)
_BY_VALUE = {"i": ctypes.c_int32, "l": ctypes.c_int64, "f": ctypes.c_float, "d": ctypes.c_double}
_TENSORS = {
    "F": torch.float32,
    "D": torch.float64,
    "I": torch.int32,
    "L": torch.int64,
    "H": torch.int16,
    "B": torch.uint8,
}

# name -> letters of its arguments, in the order of kernels.h (without the trailing stream).
_CAMERA = "F" + "ffff" + "ii"  # cam_from_world, fx fy cx cy, width height
KERNELS: dict[str, str] = {
    "splat_visible": "l" + "FFF" + _CAMERA + "f" + "BLL",
    "splat_project_forward": "lii" + "FFFFF" + _CAMERA + "fi" + "FFI",
    "splat_project_backward": "liii" + "FFFFF" + _CAMERA + "i" + "IFF" + "FFFFFD" + "B",
    "splat_bin_count": "lFii" + "IIIL" + "B",
    "splat_bin_fill": "lFii" + "III" + "lI" + "B",
    "splat_blend_forward": "Fii" + "IIFf" + "FFFHL",
    "splat_blend_backward": "lFii" + "IIIHf" + "FFF" + "FFF" + "FFDFF" + "B",
    "splat_count_pairs": "Fii" + "lIFf" + "FFL",
    "splat_measure_clock": "D",
    "splat_photometric": "iiiFBFBffFDFDBl",
    "splat_adam": "ilLLDlddd",
    "splat_adam_harmonics": "lLiFFFiFFFddlddd",
    "splat_gather": "ilLL",
    "splat_density_statistics": "lLFIiiFFF",
    "splat_knn": "lFiFIBl",
}

# Functions that return an int64 (workspace sizes and other figures) and take neither tensors nor a stream.
QUERIES: dict[str, str] = {
    "splat_project_backward_workspace": "l",
    "splat_bin_workspace": "lii",
    "splat_blend_backward_workspace": "ii",
    "splat_photometric_workspace": "iii",
    "splat_knn_workspace": "l",
}

# Columns of a projected row (SPLAT_X ...), floats of a record, pixels of a tile's side: the enums of kernels.h.
FIELDS, HALF_WIDTH, DEPTH = 12, 6, 8
RECORD = 12
TILE = 16


_HOST = {torch.int64: ctypes.c_int64, torch.float64: ctypes.c_double}


def int64s(values: Iterable[int]) -> ctypes.Array[ctypes.c_int64]:
    """A table for a kernel, in host memory."""
    table = tuple(values)
    return (ctypes.c_int64 * len(table))(*table)


def doubles(values: Iterable[float]) -> ctypes.Array[ctypes.c_double]:
    """Likewise."""
    table = tuple(values)
    return (ctypes.c_double * len(table))(*table)


class KernelError(RuntimeError):
    """A kernel refused its arguments."""


def _last_error() -> str:
    f = build.load().splat_last_error
    f.restype = ctypes.c_char_p
    return (f() or b"").decode(errors="replace")


@functools.cache
def _function(name: str) -> tuple[Callable[..., int], tuple[torch.dtype | None, ...]]:
    letters = KERNELS[name]
    function = getattr(build.load(), name)
    function.restype = ctypes.c_int
    function.argtypes = [*(_BY_VALUE.get(c, ctypes.c_void_p) for c in letters), ctypes.c_void_p]
    return function, tuple(_TENSORS.get(c) for c in letters)


def call(name: str, *arguments: Any) -> None:
    """Run kernel `name`. Tensors must be contiguous CPU tensors of the signature's type, or None.

    Raises KernelError with the kernel's sentence, TypeError on an argument that does not fit the signature.
    """
    function, dtypes = _function(name)
    if len(arguments) != len(dtypes):
        raise TypeError(f"{name} takes {len(dtypes)} arguments, not {len(arguments)}.")
    passed: list[Any] = []
    for value, dtype in zip(arguments, dtypes, strict=True):
        if dtype is None or value is None:
            passed.append(value)
        elif isinstance(value, Tensor) and value.dtype == dtype and value.is_contiguous() and not value.is_cuda:
            passed.append(value.data_ptr())
        elif isinstance(value, ctypes.Array) and _HOST.get(dtype) is value._type_:
            passed.append(value)
        else:
            what = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value)
            raise TypeError(f"{name} argument {len(passed)} must be a contiguous CPU tensor of {dtype}, not {what}.")
    if function(*passed, None):
        raise KernelError(f"{name}: {_last_error()}")


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Wall seconds spent in each kernel inside the block, by name; for measurements."""
    global call
    untimed, seconds = call, defaultdict[str, float](float)

    def timing(name: str, *arguments: Any) -> None:
        started = time.perf_counter()
        try:
            untimed(name, *arguments)
        finally:
            seconds[name] += time.perf_counter() - started

    call = timing
    try:
        yield seconds
    finally:
        call = untimed


@functools.cache
def _query(name: str) -> Callable[..., int]:
    function = getattr(build.load(), name)
    function.restype = ctypes.c_int64
    function.argtypes = [_BY_VALUE[c] for c in QUERIES[name]]
    return function


def query(name: str, *arguments: int | float) -> int:
    """Ask `name`, one of `QUERIES`."""
    return _query(name)(*arguments)


def set_threads(threads: int) -> None:
    """How many threads kernels use from now on."""
    if build.load().splat_set_threads(ctypes.c_int(threads)):
        raise KernelError(_last_error())


def get_threads() -> int:
    return int(build.load().splat_get_threads())
