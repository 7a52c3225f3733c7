"""Whether a file is the one it was, without reading all of it.

Workers of a cluster begin with this: it must not load torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """A hash of (name, file) pairs by name, size and the files' first and last 64 KiB: enough to notice an edited or
    replaced photo. A file that may not be read counts by its name."""
    digest = hashlib.sha256()
    for name, path in sorted(files, key=lambda f: os.fsencode(f[0])):
        digest.update(os.fsencode(name) + b":" + file_fingerprint(path).encode() + b"\n")
    return digest.hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """A hash of one file's size, first and last 64 KiB; "unreadable" where it may not be read."""
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        digest.update(f"{size}:".encode())
        with path.open("rb") as f:
            digest.update(f.read(65536))
            if size > 131072:
                f.seek(-65536, os.SEEK_END)
            digest.update(f.read(65536))
    except OSError:
        return "unreadable"
    return digest.hexdigest()[:16]
