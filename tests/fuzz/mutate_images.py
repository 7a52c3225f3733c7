"""Mutations of photos: PNG, JPEG, TIFF and its EXIF relatives."""

from __future__ import annotations

import functools
import struct
import zlib
from random import Random

from fuzz.mutate_bytes import INTEGERS, blind

# ------------------------------------------------------------------------------------------------------------------ PNG

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@functools.cache
def large_png(side: int) -> bytes:
    """A black square of one bit a pixel: valid, and a fraction of a thousandth of the memory that its pixels take."""
    row = b"\0" * (1 + -(-side // 8))
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return _PNG_SIGNATURE + b"".join(_png_chunk(k, d) for k, d in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b"")))


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PNG_CHUNKS = (
    *((b"tRNS", b""), (b"tRNS", b"\0" * 300), (b"PLTE", b"\1" * 5), (b"iCCP", b"x\0\0garbage"), (b"acTL", b"\xff" * 8)),
    *((b"eXIf", b"MM\0*"), (b"gAMA", b"\0" * 4), (b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 10**7)), (b"IDAT", b"")),
    *((b"acTL", b"\0\0\0\2\0\0\0\0"), (b"fcTL", b"\0" * 26), (b"fdAT", b"\0" * 9), (b"tEXt", b"a" * 70_000)),
    *((b"sPLT", b"x\0\x08"), (b"abcd", b"y"), (b"IHDR", b""), (b"iTXt", b"k\0\1\0\0\0"), (b"cHRM", b"\xff" * 32)),
)


def _recompressed(content: bytes, rng: Random) -> bytes:
    try:
        return zlib.compress(blind(zlib.decompress(content), rng))
    except zlib.error:  # changed before
        return blind(content, rng)


def png(data: bytes, rng: Random) -> bytes:
    """Chunks changed and their checksums made right again, so that what lies behind them is reached."""
    kind = rng.random()
    if kind < 0.2 or not data.startswith(_PNG_SIGNATURE):
        return blind(data, rng)
    if kind < 0.202:
        return large_png(rng.choice((12_000, 23_000)))
    chunks, at = list[tuple[bytes, bytes]](), 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        chunks.append((name, data[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(rng.choice((1, 1, 2)) if chunks else 0):
        i, edit = rng.randrange(len(chunks)), rng.randrange(10)
        name, content = chunks[i]
        if edit < 3 and chunks[0][1]:
            head, field = bytearray(chunks[0][1]), rng.randrange(7)
            if field < 2:
                head[4 * field : 4 * field + 4] = (rng.choice(INTEGERS) & 0xFFFFFFFF).to_bytes(4, "big")
            elif 6 + field < len(head):
                head[6 + field] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            chunks[0] = chunks[0][0], bytes(head)
        elif edit < 5:
            chunks[i] = name, blind(content, rng)
        elif edit == 5 and name == b"IDAT":
            chunks[i] = name, _recompressed(content, rng)
        elif edit == 6:
            del chunks[i]
        elif edit == 7:
            chunks.insert(rng.randrange(len(chunks)), chunks[i])
        else:
            chunks.insert(rng.randrange(len(chunks)), rng.choice(_PNG_CHUNKS))
        if not chunks:
            break
    return _PNG_SIGNATURE + b"".join(_png_chunk(n, c) for n, c in chunks)


# ----------------------------------------------------------------------------------------------------------- EXIF, JPEG

_TAGS = (
    *(0x0112, 0x010F, 0x0110, 0x0131, 0x8769, 0x8825, 0xA005, 0x0100, 0x0101, 0x0111, 0x0117, 0x011A, 0x0132, 0xEA1C),
    *(0x920A, 0xA405, 0xA002, 0xA003, 0xA20E, 0xA210, 0x9286, 0x927C, 0x9003, 0xA302),
    *(1, 2, 3, 4, 5, 6, 7, 0x1D),
)
"""Of the image, the photo and the position: those that are read, and some that are not."""
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WORDS = (b"Canon\0", b"NIKON CORPORATION\0", b"\x1b[2J\0", b"\xff\xfe\0", b"", b"\0\0\0", b"N\0", b"S\0", b"a" * 3000)


def _value(rng: Random, kind: int, count: int, order: str) -> bytes:
    width = _WIDTHS.get(kind, 1)
    if kind in (2, 7) and rng.random() < 0.7:
        return rng.choice(_WORDS)
    if kind in (5, 10):
        pairs = [
            (rng.choice((0, 1, 28, 35, 51, 2**32 - 1)), rng.choice((0, 0, 1, 1, 10, 2**32 - 1))) for _ in range(count)
        ]
        return b"".join(struct.pack(order + "II", *p) for p in pairs)
    values = [rng.choice((*INTEGERS, 1, 2, 3, 6, 8, 9, 28, 35)) & ((1 << 8 * width) - 1) for _ in range(count)]
    return b"".join(v.to_bytes(width, "little" if order == "<" else "big") for v in values)


def exif_block(rng: Random) -> bytes:
    """An EXIF block (TIFF structure) of tags that photos have, with types, counts and values that they do not have."""
    order = rng.choice("<>")
    block = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8))

    def directory(tags: list[int], depth: int) -> None:
        start = len(block)
        block.extend(struct.pack(order + "H", len(tags)) + b"\0" * (12 * len(tags) + 4))
        for i, tag in enumerate(tags):
            at = start + 2 + 12 * i
            kind = rng.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 9, 10, 11, 12, 13, 0, 14, 255))
            count = rng.choice((1, 1, 1, 1, 2, 3, 3, 4, 0, 8))
            if tag in (0x8769, 0x8825, 0xA005) and depth < 3 and rng.random() < 0.85:
                struct.pack_into(
                    order + "HHII", block, at, tag, 4, 1, rng.choice((len(block),) * 8 + (8, start, 2**31))
                )
                inside = [t for t in _TAGS if (t < 0x20) == (tag == 0x8825)]
                directory(sorted(rng.sample(inside, rng.randrange(1, 7))), depth + 1)
                continue
            value = _value(rng, kind, count, order)
            claimed = count if rng.random() < 0.9 else rng.choice(INTEGERS) & 0xFFFFFFFF
            if kind in (2, 7):
                claimed = len(value) if rng.random() < 0.9 else claimed
            struct.pack_into(order + "HHI", block, at, tag, kind, claimed)
            if len(value) <= 4:
                block[at + 8 : at + 8 + len(value)] = value
            else:
                struct.pack_into(
                    order + "I", block, at + 8, len(block) if rng.random() < 0.95 else rng.choice((0, 8, 2**31))
                )
                block.extend(value)

    directory(sorted(rng.sample(_TAGS[:14], rng.randrange(1, 8))), 0)
    return bytes(block)


def _with_exif(jpeg_data: bytes, block: bytes) -> bytes:
    segment = b"Exif\0\0" + block[:60_000]
    return jpeg_data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg_data[2:]


def exif_tags(data: bytes, rng: Random) -> bytes:
    """A JPEG with an EXIF block of wrong types and values."""
    block = exif_block(rng)
    return _with_exif(data, blind(block, rng) if rng.random() < 0.15 else block)


def jpeg(data: bytes, rng: Random) -> bytes:
    """Segments changed, repeated, left out; sizes in the frame header; less often bytes anywhere."""
    if rng.random() < 0.4 or data[:2] != b"\xff\xd8":
        return blind(data, rng)
    segments, at = list[bytes](), 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda" and at + 4 <= len(data):
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append(data[at : at + size])
        at += size
    if any(len(s) < 10 for s in segments) or not segments:  # changed before
        return blind(data, rng)
    i, edit = rng.randrange(len(segments)), rng.randrange(7)
    if edit == 0:
        del segments[i]
    elif edit == 1:
        segments.insert(i, rng.choice(segments))
    elif edit == 2:
        segments[i] = segments[i][:4] + blind(segments[i][4:], rng)
    elif edit == 3:
        frame = next((k for k, s in enumerate(segments) if 0xC0 <= s[1] <= 0xC2), i)
        values = [(rng.choice(INTEGERS) & 0xFFFF).to_bytes(2, "big") for _ in range(2)]
        segments[frame] = (
            segments[frame][:5] + values[0] + rng.choice((values[1], segments[frame][7:9])) + segments[frame][9:]
        )
    elif edit == 4:
        return exif_tags(data, rng)
    elif edit == 5:
        odd = rng.choice(
            (b"ICC_PROFILE\0\1\2x", b"MPF\0MM\0*", b"http://ns.adobe.com/xap/1.0/\0<x", b"Adobe\0d", b"JFIF\0")
        )
        marker = bytes([0xFF, rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE))])
        segments.insert(i, marker + struct.pack(">H", len(odd) + 2) + odd)
    else:
        return b"".join([data[:2], *segments, blind(data[at:], rng)])
    return b"".join([data[:2], *segments, data[at:]])


def tiff(data: bytes, rng: Random) -> bytes:
    """Entries of the first directory with other types, counts and values; less often bytes anywhere."""
    order = "<" if data[:2] == b"II" else ">"
    if rng.random() < 0.35:
        return blind(data, rng)
    out = bytearray(data)
    start = struct.unpack_from(order + "I", data + b"\0" * 8, 4)[0]
    count = struct.unpack_from(order + "H", data, start)[0] if start + 2 <= len(data) else 0
    if not count or start + 2 + 12 * count > len(data):  # changed before
        return blind(data, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, edit = start + 2 + 12 * rng.randrange(count), rng.randrange(5)
        if edit == 0:
            struct.pack_into(order + "H", out, at, rng.choice((*_TAGS, 0x0102, 0x0103, 0x0106, 0x0115, 0x0153, 0x0142)))
        elif edit == 1:
            struct.pack_into(order + "H", out, at + 2, rng.choice((*_WIDTHS, 0, 14, 65535)))
        elif edit == 2:
            struct.pack_into(order + "I", out, at + 4, rng.choice(INTEGERS) & 0xFFFFFFFF)
        else:
            small = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 5, 7, 8, 32773, 32946, 34712, 50000))
            struct.pack_into(order + "I", out, at + 8, rng.choice((small, small, rng.choice(INTEGERS) & 0xFFFFFFFF)))
    return bytes(out)
