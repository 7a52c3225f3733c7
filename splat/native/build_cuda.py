"""Compiles the CUDA kernels on first use, for the GPU of this machine, and loads them with ctypes. `build` does so for
the CPU and defines the cache.

Does nothing where torch finds no CUDA device, even if nvcc is on PATH.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from splat.native.build import HERE, NativeUnavailable, cached_library

FLAGS = ("-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra", "-Werror", "all-warnings")
"""The CUDA runtime is linked statically (the default of nvcc), so the library needs only a driver."""


RELEASED = ("arch=compute_80,code=sm_80", "arch=compute_90,code=[sm_90,compute_90]")
"""Architectures for CI and tests, which compile without a GPU."""


def source_folder() -> Path:
    """The folder `cuda/`: of a checkout, or its copy in a wheel."""
    packaged = HERE / "cuda"
    return packaged if (packaged / "library.cuh").exists() else HERE.parents[1] / "cuda"


def nvcc() -> str | None:
    """The CUDA compiler: `$CUDACXX`, nvcc on PATH, or that of `$CUDA_HOME` or /usr/local/cuda."""
    named = os.environ.get("CUDACXX")
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    for candidate in [named, "nvcc", *(str(Path(home) / "bin" / "nvcc") for home in homes if home)]:
        if candidate and (path := shutil.which(candidate)):
            return path
    return None


def build(architectures: Sequence[str], extra_flags: Sequence[str] = ()) -> Path:
    """The path of the library compiled for `architectures` (values of -gencode of nvcc). Needs no GPU.

    Raises NativeUnavailable if there is no nvcc or it fails.
    """
    compiler = nvcc()
    if compiler is None:
        raise NativeUnavailable("no nvcc was found: install the CUDA toolkit, or name the compiler in CUDACXX.")
    folder = source_folder()
    sources = sorted(folder.glob("*.cu"))
    headers = sorted([*folder.glob("*.cuh"), *HERE.glob("*.h"), *(HERE / "shared").glob("*.h")])
    generate = [flag for a in architectures for flag in ("-gencode", a)]
    command = [compiler, *FLAGS, *generate, *extra_flags, "-I", str(HERE)]
    return cached_library("cuda", command, sources, headers, "")


@functools.cache
def _load() -> ctypes.CDLL | str:
    """The loaded library, or why there is none. Cached."""
    if not torch.backends.cuda.is_built():
        return "this torch is built without CUDA."
    if not torch.cuda.is_available():
        return "torch finds no CUDA device."
    major, minor = torch.cuda.get_device_capability()
    number = f"{major}{minor}"
    try:
        path = build([f"arch=compute_{number},code=sm_{number}"])
        return ctypes.CDLL(str(path))
    except NativeUnavailable as e:
        return str(e)
    except OSError as e:
        return f"the compiled CUDA kernels do not load ({e})."


def load() -> ctypes.CDLL:
    """The kernels. Raises NativeUnavailable."""
    loaded = _load()
    if isinstance(loaded, str):
        raise NativeUnavailable(loaded)
    return loaded


def unavailable() -> str | None:
    """Why there are no CUDA kernels; None if there are."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else None
