"""What a figure depends on besides settings and photos: the machine and the versions of libraries. Nothing here names
the machine: no host, user or path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from splat.core.machine import available_cores

_LIBRARIES = ("torch", "numpy", "pycolmap", "opencv-python-headless", "gsplat")


def machine() -> dict[str, Any]:
    """Cores that this process may use, names of CPU and GPU (None: no CUDA), memory in GB, and system."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "cores": available_cores(),
        "cpu": _cpu_name(),
        "gpu": gpu,
        "ram_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python, this package and the libraries that are installed."""
    from splat import __version__

    found = {"splat": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None
