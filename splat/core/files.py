"""Atomic writing of files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from splat.core.errors import SplatError
from splat.core.foreign import shown

_FOLDER_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}
_UNWRITABLE = {errno.EACCES, errno.EROFS, errno.EPERM, *_FOLDER_IN_THE_WAY}
_MAX_NAME_BYTES = 255


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns what goes wrong while `path` is written into a SplatError that names it: a full disk, a limit on the
    size of files, a folder that is read-only or in the way of the file, a name that is too long. Other errors pass."""
    try:
        yield
    except OSError as e:
        name = shown(path)
        if e.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise SplatError(f"{name} was not written: the disk is full; free some space and run again.") from None
        if e.errno == errno.EFBIG:
            raise SplatError(
                f"{name} was not written: a file may not be so large there (`ulimit -f`, or the file system of the "
                "disk); raise the limit or choose another place."
            ) from None
        if _is_folder(path):
            raise SplatError(f"{name} is a folder where a file is to be written: move it away and run again.") from None
        if e.errno in _UNWRITABLE:
            raise SplatError(f"{name} cannot be written ({e.strerror}): choose another --out folder.") from None
        if e.errno == errno.ENAMETOOLONG:
            raise SplatError(f"{name[:80]}... cannot be written: the name is too long; shorten it.") from None
        raise


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`. It replaces `path` when the block ends, and is removed if the block raises.

    Raises SplatError as `write_errors` does.
    """
    path = Path(path)
    temporary = _temporary(path)
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)  # a link planted there would be written through
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _temporary(path: Path) -> Path:
    """`.NAME.PID.part.SUFFIX` beside `path`: writers may go by the suffix. A name too long for that is hashed."""
    tail = f".{os.getpid()}.part{path.suffix}"
    if len(os.fsencode(f".{path.name}{tail}")) <= _MAX_NAME_BYTES:
        return path.with_name(f".{path.name}{tail}")
    if len(os.fsencode(tail)) > 64:
        tail = f".{os.getpid()}.part"
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{tail}")


def write_atomic(path: Path, data: bytes | str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """`path` for libraries that take UTF-8 names alone, and crash on others: a link to it where its name is none. It
    need not exist yet."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="splat-") as folder:
            link = Path(folder) / f"link{path.suffix if path.suffix.isascii() else ''}"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


RUN_FOLDERS = frozenset(
    {"ingest", "poses", "init", "priors", "train", "evaluate", "export", "renders", "capture", "edits"}
)
"""Folders inside a run folder; `capture` is of version 0.1.0, `edits` of the viewer."""
_ASIDE = re.compile(r"(\w+)\.(old|cut-off|damaged)-\d+")


def is_run_folder(folder: Path) -> bool:
    """Whether `folder` is one that `splat reconstruct` writes to: no photos of a scene are looked for there."""
    marks = any((folder / name).is_file() for name in (".lock", "log.jsonl", "config.json"))
    return marks and any((folder / stage / "stage.json").is_file() for stage in ("ingest", "capture"))


def own_folders(names: list[str]) -> set[str]:
    """Those of the folders in a run folder that runs write, by their names: photos may lie beside them."""
    plain = {n: m[1] if (m := _ASIDE.fullmatch(n)) else n for n in names}
    return {n for n, stage in plain.items() if stage in RUN_FOLDERS or stage == "blocks"}
