"""Checkpoints: one file, written atomically, and loaded without executing code from it.

Saving is not done by an observer: a checkpoint has the state of all parts of training, observers included, which is
more than a snapshot has, and several processes must save at the same step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from splat.core.errors import SplatError
from splat.core.files import atomic_path

FILE_NAME = "training.pt"
VERSION = 2


def save(folder: Path, state: dict[str, Any], key: str) -> None:
    """Write `state` (tensors and plain values) to `folder`. `key` identifies the settings that it belongs to."""
    for leftover in folder.glob(f".{FILE_NAME}.*.part*"):  # of a run that was killed while it wrote
        leftover.unlink(missing_ok=True)
    with atomic_path(folder / FILE_NAME) as path:
        torch.save({"version": VERSION, "key": key, "state": state}, path)


def load(folder: Path, key: str) -> dict[str, Any] | None:
    """The state in `folder`; None if there is none.

    Raises SplatError when the file cannot be read or its key differs from `key`.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        # weights_only: a checkpoint is data; one from a stranger cannot run code.
        saved = torch.load(path, map_location="cpu", weights_only=True)
        version, state = saved["version"], saved["state"]
    except Exception as e:  # torch.load raises many kinds for a damaged file
        raise SplatError(f"{path} cannot be read ({type(e).__name__}): delete it to start this stage again.") from None
    if version != VERSION:
        raise SplatError(f"{path} was written by another version of splat: delete it to start this stage again.")
    if saved["key"] != key:
        raise SplatError(f"{path} belongs to other settings: choose another --out folder, or delete it.")
    return state
