"""Point clouds by Open3D (optional): the only module that imports it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from splat.core.capture import PointCloud
from splat.core.errors import SplatError

SUFFIXES = (".ply", ".pcd", ".xyzrgb", ".pts")
"""Formats that Open3D writes with colours."""


def unavailable() -> str | None:
    """Why Open3D cannot be used, with the fix; None where it can. Imports it, which takes a second or two."""
    if importlib.util.find_spec("open3d") is None:
        return "Open3D is not installed: `pip install splat3d[open3d]`."
    try:
        _open3d()
    except SplatError as e:
        return str(e)
    return None


def write(path: Path, cloud: PointCloud) -> None:
    """Write positions and colours to `path`; not atomic. Raises SplatError on failure."""
    o3d = _open3d()
    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.positions.double().cpu().numpy()))
    points.colors = o3d.utility.Vector3dVector(cloud.rgb.clamp(0, 1).double().cpu().numpy())
    if not o3d.io.write_point_cloud(str(path), points):
        raise SplatError(f"{path} was not written by Open3D: is the folder writable and the disk not full?")


def _open3d() -> ModuleType:
    try:
        import open3d
    except ImportError as e:
        raise SplatError(_reason(str(e))) from None
    except OSError as e:  # a missing shared library
        raise SplatError(_reason(str(e))) from None
    return open3d


def _reason(message: str) -> str:
    if "libusb" in message:
        return "Open3D needs the system's libusb-1.0: `apt-get install libusb-1.0-0` (or your system's like)."
    if "libGL" in message or "libX11" in message or "libgomp" in message:
        return f"Open3D cannot be loaded ({message}): `apt-get install libgl1 libx11-6 libgomp1`."
    return f"Open3D cannot be loaded ({message}): `pip install splat3d[open3d]`."
