"""The kernels of `cuda/` for the CPU's own tests: on the GPU where there is one, each call's tensors going there and
back; else compiled by the C++ compiler for a GPU that is played by fibers (native/emulator)."""

import contextlib
import ctypes
import functools
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splat.native import bindings, build, build_cuda
from splat.raster.native import Native

EMULATOR = Path(__file__).resolve().parent / "native" / "emulator"
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")


@functools.cache
def library() -> ctypes.CDLL:
    cxx = build.compiler()
    assert cxx is not None
    folder = build_cuda.source_folder()
    sources = sorted(folder.glob("*.cu"))
    headers = [*folder.glob("*.cuh"), *EMULATOR.rglob("*.*h"), *build.HERE.glob("*.h"), *build.HERE.glob("shared/*.h")]
    command = [*shlex.split(cxx), *FLAGS, *WARNINGS, "-I", str(EMULATOR), "-I", str(build.HERE)]
    return ctypes.CDLL(
        str(build.cached_library("emulated", command, sources, sorted(headers), "", compile_only=("-x", "c++")))
    )


def _clear_caches() -> None:
    bindings._function.cache_clear()
    bindings._query.cache_clear()


@contextlib.contextmanager
def kernels() -> Iterator[None]:
    """Inside the block, what is asked of the CPU's kernels is computed by `cuda/`."""
    if torch.cuda.is_available() and build_cuda.unavailable() is None:
        with _round_trip_to_gpu():
            yield
        return
    loaded, before = library(), build._load
    build._load = lambda: loaded  # type: ignore[assignment]
    _clear_caches()
    try:
        yield
    finally:
        build._load = before
        _clear_caches()


@pytest.fixture(autouse=True, scope="module")
def gpu() -> Iterator[None]:
    """For modules whose tests are all to be computed by `cuda/`: import it."""
    with kernels():
        yield


_ADDRESSES = {"splat_adam", "splat_gather", "splat_stereo_search"}
"""Their tables hold addresses, which cannot be taken along: they stay on the CPU (test_cuda.py has them on the GPU)."""


@contextlib.contextmanager
def _round_trip_to_gpu() -> Iterator[None]:
    call, query = bindings.call, bindings.query

    def gpu_call(name: str, *arguments: Any, device: torch.device | None = None) -> None:
        if name in _ADDRESSES:
            return call(name, *arguments, device=device)
        tables = [table is not None for _, table in bindings._letters(name)]
        tensors = [isinstance(a, Tensor) and not table for a, table in zip(arguments, tables, strict=True)]
        there = [a.cuda() if moved else a for a, moved in zip(arguments, tensors, strict=True)]
        call(name, *there)
        for a, b, moved in zip(arguments, there, tensors, strict=True):
            if moved:
                a.copy_(b)

    def gpu_query(name: str, *arguments: int | float, device: torch.device | str = "cpu") -> int:
        return query(name, *arguments, device="cuda")

    bindings.call, bindings.query = gpu_call, gpu_query
    try:
        yield
    finally:
        bindings.call, bindings.query = call, query


class OnGpu(Native):
    """As on a GPU, training gives it all rows."""

    def culls(self, device: torch.device) -> bool:
        return True
