"""Reading files of other programs: one sentence for every kind of damage, and no more memory than a file explains."""

from __future__ import annotations

import binascii
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from splat.core.errors import SplatError
from splat.core.foreign import shown

MAX_EXPANSION = 50
"""Bytes in memory per byte of a file. Real files of splats, the densest formats included, stay below 20."""
SMALL = 64 * 2**20
"""Bytes in memory that no file has to explain."""

PEAK = 4
"""Memory that reading takes, in multiples of what remains."""
_FREE: ContextVar[float | None] = ContextVar("free memory in GB", default=None)

_DAMAGE = (
    OSError,
    EOFError,
    ValueError,  # UnicodeError too
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    NotImplementedError,  # compression methods that zipfile does not know
    RuntimeError,  # encrypted zip files; torch's shapes
    SyntaxError,  # a PNG or WebP that Pillow takes for another
    struct.error,
    zlib.error,
    lzma.LZMAError,
    binascii.Error,
    zipfile.BadZipFile,
)


@contextmanager
def reading(path: object, kind: str) -> Iterator[None]:
    """Whatever damage raises inside the block becomes one SplatError, which names `path` and the `kind` of file that it
    should be (".spz"). A SplatError passes through."""
    try:
        yield
    except SplatError:
        raise
    except MemoryError:
        raise SplatError(f"{shown(path)} needs more memory than there is: close other programs or split it.") from None
    except _DAMAGE as e:
        reason = str(getattr(e, "strerror", None) or e) or type(e).__name__
        if isinstance(e, KeyError):
            reason = f"{reason} is missing"
        reason = shown(" ".join(reason.split()))[:160]
        raise SplatError(f"{shown(path)} is no {kind} or is damaged ({reason}): copy or export it again.") from None


@contextmanager
def free_memory(gigabytes: float | None) -> Iterator[None]:
    """Inside the block `check_expansion` also knows how much memory this process may take; None: it is not known."""
    token = _FREE.set(gigabytes)
    try:
        yield
    finally:
        _FREE.reset(token)


def check_expansion(path: object, decoded: int, stored: int) -> None:
    """Raise SplatError where a file of `stored` bytes claims contents that take `decoded` bytes in memory, so many that
    its header is wrong or it is a decompression bomb, or that they do not fit into `free_memory`."""
    free = _FREE.get()
    if free is not None and decoded > SMALL and PEAK * decoded > free * 1e9:
        raise SplatError(
            f"{shown(path)} takes {PEAK * decoded / 1e9:.1f} GB to read, and {free:.1f} GB are free: "
            "close other programs or use a machine with more memory."
        )
    if decoded > max(SMALL, MAX_EXPANSION * stored):
        raise SplatError(
            f"{shown(path)} claims contents of {decoded / 1e6:,.0f} MB in a file of {stored / 1e6:.2f} MB, "
            "which cannot be: copy or export it again."
        )
