"""Photos in, a scene you can walk through out.

    import splat
    metrics = splat.Reconstruct(photos="photos", out="runs/first")()

Importing this package is cheap; torch comes with the first command that is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Reconstruct": "splat.commands.reconstruct",
    "Demo": "splat.commands.demo",
    "RenderPath": "splat.commands.render",
    "Export": "splat.commands.export",
    "Convert": "splat.commands.convert",
    "Evaluate": "splat.commands.evaluate",
    "Doctor": "splat.commands.doctor",
    "SplatError": "splat.core.errors",
    "Gaussians": "splat.core.gaussians",
    "Camera": "splat.core.camera",
    "Capture": "splat.core.capture",
    "load_splat": "splat.export",
    "read_splat": "splat.export",
    "save_splat": "splat.export",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'splat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
