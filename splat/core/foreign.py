"""What other programs made: names that become paths here, and files whose contents are not believed unseen.

Readers go through these functions, so that a wrong file is one sentence everywhere: never a stack trace, a hang, or
more memory than the size of the file explains.
"""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from splat.core.errors import SplatError

MAX_TEXT_BYTES = 512 * 2**20
"""Of a JSON or text file. The largest of real captures (10,000 frames) have a tenth of it."""
_MAX_NAME_BYTES = 255


def shown(text: object) -> str:
    """`text` for one line of a terminal: control characters (escape sequences, line breaks) and bytes that are not
    UTF-8 as escapes such as \\x1b."""

    def safe(c: str) -> str:
        # Cc: control, Cf: invisible marks (those that turn the direction of a line), Cs: bytes that are not UTF-8
        if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            return c
        code = ord(c) - 0xDC00 if 0xDC80 <= ord(c) <= 0xDCFF else ord(c)  # `surrogateescape`: the byte itself
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return "".join(map(safe, str(text)))


def some_of(names: Sequence[str], limit: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(shown(n)[:120] for n in names[:limit]) + (", ..." if len(names) > limit else "")


def path_inside(folder: Path, name: str, of: object = None) -> Path:
    """`folder` / `name` for a name that a file gives, which may be anything: the one way from such a name to a path
    that is written.

    `of`: the file that gives the name, for the message. Raises SplatError where the name is empty, absolute (also of
    another system: `C:\\a.jpg`), leads out of the folder (`../a.jpg`, also through a link inside it), or cannot be a
    file name.
    """
    where = f" of {shown(of)}" if of is not None else ""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    problem = None
    if not parts or parts == (".",):
        problem = "is empty"
    elif PurePosixPath(plain).is_absolute() or PureWindowsPath(name).drive:
        problem = "is an absolute path"
    elif ".." in parts:
        problem = "leads out of its folder"
    elif "\0" in name or any(len(os.fsencode(p)) > _MAX_NAME_BYTES for p in parts):
        problem = "cannot be the name of a file"
    else:
        path = folder.joinpath(*parts)
        if not path.resolve().is_relative_to(folder.resolve()):
            problem = "leads out of its folder through a link"
    if problem:
        raise SplatError(f"the name {shown(name)[:120]!r}{where} {problem}: give the photo a relative name.")
    return path


def regular_file(path: Path) -> int:
    """The size of a file in bytes. Raises SplatError where `path` does not exist or is something that a reader would
    wait for, or read, for ever: a folder, a pipe, a device."""
    try:
        found = path.stat()
    except (OSError, ValueError) as e:
        reason = "does not exist" if isinstance(e, FileNotFoundError) else f"cannot be read ({_reason(e)})"
        raise SplatError(f"{shown(path)} {reason}: check the path.") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise SplatError(f"{shown(path)} is {kind} where a file is expected: give a file.")
    return found.st_size


def read_bytes(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """A whole file of at most `max_bytes`. Raises SplatError naming the file."""
    size = regular_file(path)
    if size > max_bytes:
        raise SplatError(
            f"{shown(path)} has {size / 1e6:.0f} MB where at most {max_bytes / 1e6:.0f} are read: check what it is."
        )
    try:
        with path.open("rb") as f:
            return f.read(size)  # reading "at most" would take that much memory first
    except OSError as e:
        raise SplatError(f"{shown(path)} cannot be read ({_reason(e)}): check its permissions.") from None
    except MemoryError:
        raise SplatError(f"{shown(path)} has {size / 1e6:.0f} MB, more than the memory: check what it is.") from None


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """A UTF-8 file, with or without a byte order mark. Raises SplatError naming the file."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SplatError(f"{shown(path)} is not a UTF-8 text file: write it again.") from None


def read_json(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """A JSON object, as `parse_json` reads it."""
    return parse_json(read_text(path, max_bytes), path)


def parse_json(text: str, path: object) -> dict[str, Any]:
    """The JSON object that `text`, the contents of `path`, describes. NaN and infinite numbers are read as such: what a
    number may be is its reader's to judge. Raises SplatError naming the file, and the line where it is malformed."""
    name = shown(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as e:
        raise SplatError(f"{name} is not valid JSON (line {e.lineno}: {e.msg}): correct that line.") from None
    except (ValueError, RecursionError) as e:  # numbers of thousands of digits, thousands of brackets
        reason = "its values are nested too deep" if isinstance(e, RecursionError) else str(e).split(";")[0]
        raise SplatError(f"{name} is not valid JSON ({reason}): write it again.") from None
    if not isinstance(data, dict):
        raise SplatError(f"{name} contains a JSON {type(data).__name__} where an object is expected: write it again.")
    return data


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
