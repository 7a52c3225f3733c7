"""Checkpoints: one file, written atomically, with a checksum, and loaded without executing code from it.

Saving is not done by an observer: a checkpoint has the state of all parts of training, observers included, which is
more than a snapshot has, and several processes must save at the same step.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.files import atomic_path
from splat.core.foreign import regular_file, shown
from splat.core.slots import Reporter

FILE_NAME = "training.pt"
VERSION = 3


def save(folder: Path, state: dict[str, Any], key: str) -> None:
    """Write `state` (tensors and plain values) to `folder`. `key` identifies the settings that it belongs to."""
    for leftover in folder.glob(f".{FILE_NAME}.*.part*"):  # of a run that was killed while it wrote
        leftover.unlink(missing_ok=True)
    saved = {"version": VERSION, "key": key, "state": state, "checksum": checksum((key, state))}
    with atomic_path(folder / FILE_NAME) as path:
        torch.save(saved, path)


def load(folder: Path, key: str, report: Reporter) -> dict[str, Any] | None:
    """The state in `folder`; None if there is none, or, after a warning, if the file is damaged: what it was for starts
    again.

    Raises SplatError when it is of another version or its key differs from `key`.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        size = regular_file(path)  # a pipe would be waited for
        with zipfile.ZipFile(path) as archive:  # written without compression: what unpacks to more is not ours
            if sum(member.file_size for member in archive.infolist()) > size:
                raise ValueError
        # weights_only: a checkpoint is data; one from a stranger cannot run code.
        saved = torch.load(path, map_location="cpu", weights_only=True)
        version = saved["version"]
        intact = version != VERSION or saved["checksum"] == checksum((saved["key"], saved["state"]))
    except Exception:  # torch.load raises many kinds for a damaged file
        intact = False
    if not intact:
        report.warn(f"{shown(path)} is damaged: training starts again")
        return None
    if version != VERSION:
        raise SplatError(f"{shown(path)} was written by another version of splat: delete it to start this stage again.")
    if saved["key"] != key:
        raise SplatError(f"{shown(path)} belongs to other settings: choose another --out folder, or delete it.")
    return saved["state"]


def checksum(value: Any) -> str:
    """A hash of nested dictionaries and sequences of tensors and plain values, by contents, types and shapes. (The
    file's own checksums of 32 bits are not looked at by `torch.load`.)"""
    digest = hashlib.sha256()

    def add(v: Any) -> None:
        if isinstance(v, Tensor):
            digest.update(f"{v.dtype}{tuple(v.shape)}".encode())
            data = v.detach().cpu().contiguous().reshape(-1)
            digest.update(data.view(torch.uint8).numpy().data if len(data) else b"")
        elif isinstance(v, dict):
            digest.update(f"dict{len(v)}".encode())
            for k, item in v.items():
                add(k)
                add(item)
        elif isinstance(v, list | tuple):
            digest.update(f"list{len(v)}".encode())
            for item in v:
                add(item)
        else:
            digest.update(f"{type(v).__name__}{v!r};".encode(errors="surrogateescape"))

    add(value)
    return digest.hexdigest()
