"""The files that a stage wrote, by size and hash, so that damage to them is noticed; and what killed processes left."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from splat.core.foreign import shown

Outputs = dict[str, tuple[int, str]]
"""Path below the stage's folder -> size in bytes, `content_hash`."""

_WHOLE = 2**20  # bytes; of larger files 16 blocks are hashed, so that a run of gigabytes is judged in a moment
_BLOCKS, _BLOCK = 16, 65536
_NOT_RESULTS = frozenset({"stage.json", "work", "checkpoint"})
"""A checkpoint carries a checksum of its own; `work` is what a stage needs while it is made."""
_PARTIAL = re.compile(r"\..*\.(\d+)\.part")


@dataclass(frozen=True)
class Damage:
    """What is wrong with the files of a stage."""

    what: str
    """For messages: "trained.json is cut"."""
    edited: bool = False
    """Some file has other contents than the stage wrote: perhaps somebody's work, which is not to be deleted."""


def content_hash(path: Path) -> str:
    """A hash of a file: of all of it up to 1 MiB; beyond, of the first 64 KiB, the last, and 14 blocks between them."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        if size <= _WHOLE:
            digest.update(f.read())
        else:
            for i in range(_BLOCKS):
                f.seek(i * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(f.read(_BLOCK))
    return digest.hexdigest()[:16]


Listing = dict[str, tuple[int, int, int]]
"""Path below a folder -> inode, time of change in ns, size: another triple is another file."""


def listing(folder: Path) -> Listing:
    """The files below a folder that may be results, hidden ones left out."""
    found = {}
    for name in _walk(folder, ""):
        s = (folder / name).stat()
        found[name] = (s.st_ino, s.st_mtime_ns, s.st_size)
    return found


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or (not prefix and entry.name in _NOT_RESULTS):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield prefix + entry.name


def written_since(folder: Path, before: Listing) -> Outputs:
    """What was written below `folder` since `listing(folder)` gave `before`: files of others beside it do not count."""
    changed = [name for name, mark in listing(folder).items() if before.get(name) != mark]
    return {name: ((folder / name).stat().st_size, content_hash(folder / name)) for name in changed}


def damage_to(folder: Path, outputs: Outputs) -> Damage | None:
    """How the files differ from what was written; None: not at all."""
    found = [(name, _fault(folder / name, *mark)) for name, mark in outputs.items()]
    faults = [(name, fault) for name, fault in found if fault]
    if not faults:
        return None
    name, fault = faults[0]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Damage(f"{shown(name)} {fault}{more}", any(f in (_CHANGED, _NO_FILE) for _, f in faults))


_CHANGED, _NO_FILE = "has changed", "is not a file"


def _fault(path: Path, size: int, expected: str) -> str:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return _NO_FILE
        if found.st_size < size:
            return "is cut" if found.st_size else "is empty"
        return "" if found.st_size == size and content_hash(path) == expected else _CHANGED
    except FileNotFoundError:
        return "is missing"
    except OSError as e:
        return f"cannot be read ({e.strerror})"


def remove_partial_files(root: Path, files: Iterable[str], stages: Iterable[str]) -> None:
    """Delete temporary files of `core.files.atomic_path` for `files` in `root` and below its folders `stages` where the
    process that wrote them is gone. The caller holds the lock of `root`."""
    starts = tuple(f".{name}." for name in files)
    places = [(root, [p.name for p in root.iterdir() if p.name.startswith(starts)])]
    for stage in stages:
        places += [(Path(here), names) for here, _, names in os.walk(root / stage)]
    for folder, names in places:
        for name in names:
            match = _PARTIAL.match(name)
            if match and not _runs(int(match[1])):
                with suppress(OSError):
                    (folder / name).unlink()


def _runs(pid: int) -> bool:
    """Whether another process of this number runs here."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True
