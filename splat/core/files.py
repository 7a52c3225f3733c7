"""Atomic writing of files."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from splat.core.errors import SplatError

_FOLDER_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}
_UNWRITABLE = {errno.EACCES, errno.EROFS, errno.EPERM, *_FOLDER_IN_THE_WAY}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`. It replaces `path` when the block ends, and is removed if the block raises.

    Raises SplatError, with the name of the file, if the disk is full or the folder is read-only.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # a link planted there would be written through
        yield temporary
        os.replace(temporary, path)
    except OSError as e:
        with suppress(OSError):
            temporary.unlink()
        if e.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise SplatError(f"{path} was not written: the disk is full; free some space and run again.") from None
        if e.errno in _UNWRITABLE:
            raise SplatError(f"{path} cannot be written ({e.strerror}): choose another --out folder.") from None
        raise
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_atomic(path: Path, data: bytes | str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1) + "\n")


RUN_FOLDERS = frozenset({"ingest", "poses", "init", "priors", "train", "evaluate", "export", "renders", "capture"})
"""Folders inside a run folder; `capture` is of version 0.1.0."""
_ASIDE = re.compile(r"(\w+)\.(old|cut-off)-\d+")


def is_run_folder(folder: Path) -> bool:
    """Whether `folder` is one that `splat reconstruct` writes to: no photos of a scene are looked for there."""
    return (folder / ".lock").is_file() and any((folder / s / "stage.json").is_file() for s in ("ingest", "capture"))


def own_folders(names: list[str]) -> set[str]:
    """Those of the folders in a run folder that runs write, by their names: photos may lie beside them."""
    plain = {n: m[1] if (m := _ASIDE.fullmatch(n)) else n for n in names}
    return {n for n, stage in plain.items() if stage in RUN_FOLDERS}
