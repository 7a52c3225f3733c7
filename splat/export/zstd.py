"""Zstandard, for `.spz` version 4."""

from __future__ import annotations

_WINDOW = 1 << 27


def compress(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=12).compress(data)


def decompress(data: bytes, size: int) -> bytes:
    """Data of a known size. Raises ValueError where they are damaged, or would have another size."""
    import zstandard

    try:
        said = zstandard.frame_content_size(data)  # what it says is allocated
        if said not in (-1, size):
            raise ValueError(f"a stream of {said} bytes where {size} are expected")
        return zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompress(data, max_output_size=size)
    except zstandard.ZstdError as e:
        raise ValueError(str(e)) from None
