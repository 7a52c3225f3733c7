"""Zstandard, for `.spz` version 4: by the optional package `zstandard`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from splat.core.errors import SplatError

_WINDOW = 1 << 27


def compressor(path: Path) -> Callable[[bytes], bytes]:
    """Raises SplatError without the optional package `zstandard`."""
    try:
        import zstandard
    except ImportError:
        raise SplatError(
            f"{path}: .spz version 4 needs `pip install splat3d[spz]`; or write version 3 (--spz-version 3)."
        ) from None
    return zstandard.ZstdCompressor(level=12).compress


def decompressor(path: Path) -> Callable[[bytes, int], bytes]:
    """`decompress(data, size)` from the optional package `zstandard`. Raises SplatError without it."""
    try:
        import zstandard
    except ImportError:
        raise SplatError(
            f"{path} is .spz version 4, whose zstd streams need `pip install splat3d[spz]`; or export it as version 3."
        ) from None

    def decompress(data: bytes, size: int) -> bytes:
        try:
            said = zstandard.frame_content_size(data)  # what it says is allocated
            if said not in (-1, size):
                raise ValueError(f"a stream of {said} bytes where {size} are expected")
            return zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompress(data, max_output_size=size)
        except zstandard.ZstdError as e:
            raise ValueError(str(e)) from None

    return decompress
