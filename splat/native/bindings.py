"""Bindings of `kernels.h`: `KERNELS` has the signature of each function, and `call` calls one.

A tensor is passed as its address, after checks of device, layout and dtype; None is a null pointer. A kernel runs on
the device of its tensors, CPU or CUDA (there on the current stream of torch, which is passed as the last argument). The
GIL is released.
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

from splat.native import build, build_cuda

# The letters of a signature: what each argument is.
#   i int32   l int64   f float   d double        by value
#   F D I L H B  float32, float64, int32, int64, int16, uint8 tensor (or None)
#   T R  int64, float64 table in host memory: `int64s`, `doubles`, or a CPU tensor (or None)
_BY_VALUE = {"i": ctypes.c_int32, "l": ctypes.c_int64, "f": ctypes.c_float, "d": ctypes.c_double}
_TENSORS = {
    "F": torch.float32,
    "D": torch.float64,
    "I": torch.int32,
    "L": torch.int64,
    "H": torch.int16,
    "B": torch.uint8,
}
_TABLES = {"T": (torch.int64, ctypes.c_int64), "R": (torch.float64, ctypes.c_double)}

# name -> letters of its arguments, in the order of kernels.h (without the trailing stream).
_CAMERA = "FF" + "ii"  # cam_from_world, intrinsics, width height
KERNELS: dict[str, str] = {
    "splat_visible": "l" + "FFF" + _CAMERA + "f" + "LT" + "B",
    "splat_project_forward": "lii" + "FFFFF" + _CAMERA + "fi" + "FFI",
    "splat_project_backward": "liii" + "FFFFF" + _CAMERA + "i" + "IFF" + "FFFFFD" + "B",
    "splat_bin_count": "lFii" + "IIT" + "B",
    "splat_bin_fill": "lFii" + "II" + "lIII" + "BB",
    "splat_blend_forward": "Fii" + "IIFf" + "FFFHL",
    "splat_blend_backward": "lFii" + "IIIHf" + "FFF" + "FFF" + "FFDFFl" + "B",
    "splat_blend_channels_forward": "Fii" + "IIFf" + "iF" + "FFFFH" + "B",
    "splat_blend_channels_backward": "lFii" + "IIIHf" + "iF" + "FFFF" + "FFFF" + "FFDFF" + "FFl" + "B",
    "splat_count_pairs": "Fii" + "lIFf" + "FFL",
    "splat_measure_clock": "R",
    "splat_photometric": "iiiFBFBffFDFDBl",
    "splat_adam": "ilLITFddd",
    "splat_adam_harmonics": "lLIiFFFiFFFFddd",
    "splat_gather": "ilLT",
    "splat_density_statistics": "lLFIiiFFF",
    "splat_knn": "lFiFIBl",
    "splat_stereo_search": "iiF" + "ffff" + "iTR" + "i" + "ffff" + "Fi" + "FF",
    "splat_agreement": "iiF" + "ffff" + "iiF" + "R" + "fff" + "FIB",
    "splat_count_support": "lF" + "iiF" + "R" + "ff" + "II",
    "splat_smooth_normals": "ii" + "FF" + "if" + "F",
}

# Functions that return an int64 (workspace sizes and other figures) and take neither tensors nor a stream.
QUERIES: dict[str, str] = {
    "splat_project_backward_workspace": "l",
    "splat_visible_workspace": "l",
    "splat_bin_workspace": "lii",
    "splat_bin_fill_workspace": "liil",
    "splat_blend_backward_workspace": "ii",
    "splat_blend_channels_workspace": "iii",
    "splat_photometric_workspace": "iii",
    "splat_knn_workspace": "l",
}

# Columns of a projected row (SPLAT_X ...), floats of a record, pixels of a tile's side: the enums of kernels.h.
FIELDS, HALF_WIDTH, DEPTH = 12, 6, 8
RECORD = 12
TILE = 16


def int64s(values: Iterable[int]) -> ctypes.Array[ctypes.c_int64]:
    """A table in host memory for a kernel."""
    table = tuple(values)
    return (ctypes.c_int64 * len(table))(*table)


def doubles(values: Iterable[float]) -> ctypes.Array[ctypes.c_double]:
    """The same of doubles."""
    table = tuple(values)
    return (ctypes.c_double * len(table))(*table)


class KernelError(RuntimeError):
    """A kernel rejected its arguments."""


def _library(cuda: bool) -> ctypes.CDLL:
    return build_cuda.load() if cuda else build.load()


def _last_error(cuda: bool = False) -> str:
    f = _library(cuda).splat_last_error
    f.restype = ctypes.c_char_p
    return (f() or b"").decode(errors="replace")


@functools.cache
def _letters(name: str) -> tuple[tuple[torch.dtype | None, Any], ...]:
    """Per argument: the dtype of its tensor (None: passed by value), and the element type of a host table (None: not a
    table)."""
    return tuple(_TABLES.get(c, (_TENSORS.get(c), None)) for c in KERNELS[name])


@functools.cache
def _function(name: str, cuda: bool) -> Callable[..., int]:
    function: Callable[..., int] = getattr(_library(cuda), name)
    function.restype = ctypes.c_int  # type: ignore[attr-defined]
    letters = [_BY_VALUE.get(c, ctypes.c_void_p) for c in KERNELS[name]]
    function.argtypes = [*letters, ctypes.c_void_p]  # type: ignore[attr-defined]
    return function


def call(name: str, *arguments: Any, device: torch.device | None = None) -> None:
    """Run kernel `name` on the device of its tensors (on `device` if there may be none). Tensors must be contiguous and
    of the dtype of the signature, or None.

    Raises KernelError with the message of the kernel, TypeError for an argument that does not fit the signature.
    """
    letters = _letters(name)
    if len(arguments) != len(letters):
        raise TypeError(f"{name} takes {len(letters)} arguments, not {len(arguments)}.")
    passed: list[Any] = []
    on_cpu, on_gpu = False, device if device is not None and device.type == "cuda" else None
    for value, (dtype, table) in zip(arguments, letters, strict=True):
        if dtype is None or value is None:
            passed.append(value)
        elif isinstance(value, Tensor) and value.dtype == dtype and value.is_contiguous():
            if value.is_cpu:
                on_cpu |= table is None
            elif table is None and value.is_cuda and on_gpu in (None, value.device):
                on_gpu = value.device
            else:
                raise TypeError(f"{name} argument {len(passed)} is on {value.device}, where it cannot be used.")
            passed.append(value.data_ptr())
        elif table is not None and getattr(value, "_type_", None) is table:
            passed.append(value)
        else:
            what = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value)
            raise TypeError(f"{name} argument {len(passed)} must be a contiguous tensor of {dtype}, not {what}.")
    if on_gpu is None:
        if _function(name, False)(*passed, None):
            raise KernelError(f"{name}: {_last_error()}")
        return
    if on_cpu:
        raise TypeError(f"{name} got tensors both on the CPU and on {on_gpu}.")
    with torch.cuda.device(on_gpu):
        if _function(name, True)(*passed, torch.cuda.current_stream(on_gpu).cuda_stream):
            raise KernelError(f"{name}: {_last_error(True)}")


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds spent in each kernel inside the block, by name, for measurements. Wall time on the CPU. GPU time is
    measured by events and available after the block."""
    global call
    untimed, seconds = call, defaultdict[str, float](float)
    events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
    has_gpu = torch.cuda.is_available()

    def timing(name: str, *arguments: Any, device: torch.device | None = None) -> None:
        on_gpu = device is not None and device.type == "cuda"
        if has_gpu and (on_gpu or any(isinstance(a, Tensor) and a.is_cuda for a in arguments)):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            untimed(name, *arguments, device=device)
            end.record()
            events.append((name, begin, end))
            return
        started = time.perf_counter()
        try:
            untimed(name, *arguments, device=device)
        finally:
            seconds[name] += time.perf_counter() - started

    call = timing
    try:
        yield seconds
    finally:
        call = untimed
        if events:
            torch.cuda.synchronize()
        for name, begin, end in events:
            seconds[name] += 1e-3 * begin.elapsed_time(end)


@functools.cache
def _query(name: str, cuda: bool) -> Callable[..., int]:
    function: Callable[..., int] = getattr(_library(cuda), name)
    function.restype = ctypes.c_int64  # type: ignore[attr-defined]
    function.argtypes = [_BY_VALUE[c] for c in QUERIES[name]]  # type: ignore[attr-defined]
    return function


def query(name: str, *arguments: int | float, device: torch.device | str = "cpu") -> int:
    """The result of `name`, one of `QUERIES`, of the kernels for a device."""
    return _query(name, torch.device(device).type == "cuda")(*arguments)


def workspace(name: str, *arguments: int | float, device: torch.device | str = "cpu") -> Tensor:
    """Scratch memory of the size that the query `name` returns."""
    return torch.empty(query(name, *arguments, device=device), dtype=torch.uint8, device=device)


def set_threads(threads: int) -> None:
    """Set the number of CPU threads of kernels."""
    if build.load().splat_set_threads(ctypes.c_int(threads)):
        raise KernelError(_last_error())


def get_threads() -> int:
    return int(build.load().splat_get_threads())
