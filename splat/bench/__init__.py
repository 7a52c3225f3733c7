"""Measuring: dataset protocols, a resumable table runner, tables and plots. Runs the program, knows no slot.

Importing this package loads nothing: a worker of a cluster imports it on the way to `engines`, and must not wait for
torch before it starts a task.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splat.bench.cells import Cell, Record, Records
    from splat.bench.engines import Local
    from splat.bench.protocols import PROTOCOLS
    from splat.bench.runner import Table

_PUBLIC = {
    "PROTOCOLS": "splat.bench.protocols",
    "Cell": "splat.bench.cells",
    "Local": "splat.bench.engines",
    "Record": "splat.bench.cells",
    "Records": "splat.bench.cells",
    "Table": "splat.bench.runner",
}
__all__ = ["PROTOCOLS", "Cell", "Local", "Record", "Records", "Table"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'splat.bench' has no attribute {name!r}")
