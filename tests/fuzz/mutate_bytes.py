"""Mutations of one file's bytes that know little or nothing of its format: bytes, text, JSON, PLY."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

INTEGERS = (
    *(0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 10**6, 3 * 10**8, 2**31 - 1, 2**31, 2**32 - 1),
    *(10**12, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63)),
)
FLOATS = (
    float("nan"),
    float("inf"),
    -float("inf"),
    1e308,
    -1e308,
    1e38,
    1e30,
    1e12,
    1e9,
    1e-310,
    1e-45,
    0.0,
    -0.0,
    -1.0,
)
NUMBER_WORDS = (
    *("1e309", "-1e309", "nan", "NaN", "inf", "-inf", "-0", "0", "1", "-1", "2", "3.5", "1e12", "1e9", "1e-320", ""),
    *("9" * 5000, "0." + "1" * 5000, "1e999999999", "0x10", "1_000", "1,5", "--1", "true", "None", "\u0663", "1.0"),
    *("64000000", "1000000000", "2147483648", "4294967296", "9223372036854775808", "18446744073709551616", "1e5"),
)
NAMES = (
    *("/", "//", "", ".", "..", " ", "../../x.png", "/etc/passwd", "/dev/zero", "/dev/stdin", "~/x.png", "C:\\x.png"),
    *("a" * 300, "a" * 300 + ".png", "a/" * 2500 + "b.png", "a\0b.png", "images/", "images/../../..", "images"),
    *("\x1b[2J\x1b]0;title\x07.png", "two\nlines.png", "\u202egnp.exe", "cafe\u0301.png", "caf\udce9.png"),
    *("\ud800.png", "\U0001f980.png", "-rf", "*.png", "a.png.", "CON.png", "0.PNG", "./0.png", "images\\0.png"),
)
"""Names of files that other programs, other systems, or an enemy may write."""


def encoded(text: str) -> bytes:
    """UTF-8; what stands for a raw byte becomes that byte, and lone surrogates their three bytes."""
    return b"".join(
        bytes([ord(c) - 0xDC00]) if 0xDC80 <= ord(c) <= 0xDCFF else c.encode("utf-8", "surrogatepass") for c in text
    )


def repeatedly(rng: Random, edits: tuple[Callable[[bytearray, Random], bytearray], ...], data: bytes) -> bytes:
    """`data` after one edit, less often two or more."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 6))):
        out = rng.choice(edits)(out, rng)
    return bytes(out)


# ---------------------------------------------------------------------------------------------------------------- bytes


def _at(data: bytearray, rng: Random) -> int:
    """An offset; half of them near the beginning, where formats have their headers."""
    size = max(1, len(data))
    return rng.randrange(min(size, 64)) if rng.random() < 0.5 else rng.randrange(size)


def _span(data: bytearray, rng: Random) -> slice:
    start = _at(data, rng)
    return slice(start, start + rng.choice((1, 2, 4, 8, 16, 64, 200)))


def _flip(data: bytearray, rng: Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[_at(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _run(data: bytearray, rng: Random) -> bytearray:
    span = _span(data, rng)
    length = len(data[span])
    data[span] = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    return data


def _cut(data: bytearray, rng: Random) -> bytearray:
    return data[: rng.randrange(len(data) + 1)]


def _delete(data: bytearray, rng: Random) -> bytearray:
    del data[_span(data, rng)]
    return data


def _double(data: bytearray, rng: Random) -> bytearray:
    span = _span(data, rng)
    data[span] = data[span] * rng.choice((2, 2, 3, 50))
    return data


def _swap(data: bytearray, rng: Random) -> bytearray:
    length = rng.choice((1, 4, 8, 32))
    a, b = _at(data, rng), _at(data, rng)
    one, other = data[a : a + length], data[b : b + length]
    if len(one) == len(other):
        data[a : a + length], data[b : b + length] = other, one
    return data


def _insert(data: bytearray, rng: Random) -> bytearray:
    at = _at(data, rng)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16, 100)))
    return data


def _append(data: bytearray, rng: Random) -> bytearray:
    return data + rng.choice((b"\0", rng.randbytes(7), b"\0" * 5000, bytes(data)))


def _number(data: bytearray, rng: Random) -> bytearray:
    """An integer or float field becomes an extreme value."""
    order = rng.choice("<>")
    if rng.random() < 0.25:
        kind = rng.choice("fd")
        value = rng.choice(FLOATS)
        if kind == "f" and 3e38 < abs(value) < float("inf"):
            value = 3e38
        packed = struct.pack(order + kind, value)
    else:
        kind = rng.choice("BHIIQQ")
        size = struct.calcsize(kind)
        packed = (rng.choice(INTEGERS) & ((1 << 8 * size) - 1)).to_bytes(size, "little" if order == "<" else "big")
    at = _at(data, rng)
    if rng.random() < 0.5:
        at -= at % len(packed)
    data[at : at + len(packed)] = packed
    return data


def _nothing_left(_: bytearray, rng: Random) -> bytearray:
    return bytearray(rng.choice((b"", b"\0", b"\n", b"version https://git-lfs.github.com/spec/v1\n", b"<html>404")))


_BLIND = (_flip, _flip, _run, _cut, _delete, _double, _swap, _insert, _append, _number, _number, _number)


def blind(data: bytes, rng: Random) -> bytes:
    """Bits, bytes, runs and number fields changed anywhere, most often in the first 64 bytes."""
    if rng.random() < 0.01:
        return bytes(_nothing_left(bytearray(), rng))
    return repeatedly(rng, _BLIND, data)


# ----------------------------------------------------------------------------------------------------------------- text

_NUMBER = re.compile(rb"(?<![\w.])[-+]?\d[\d.eE+-]*")
_WORD = re.compile(rb"\S+")


def _text_edit(data: bytes, rng: Random) -> bytes:
    kind = rng.randrange(16)
    if kind < 6:
        found = list(_NUMBER.finditer(data))
        if found:
            m = rng.choice(found)
            return data[: m.start()] + rng.choice(NUMBER_WORDS).encode() + data[m.end() :]
    if kind < 8:
        found = list(_WORD.finditer(data))
        if found:
            m = rng.choice(found)
            word = rng.choice((encoded(rng.choice(NAMES)), b"", m[0] + b" " + m[0], b"#", b"x" * 100_000))
            return data[: m.start()] + word + data[m.end() :]
    lines = data.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    if kind == 8:
        del lines[i]
    elif kind == 9:
        lines.insert(i, lines[j])
    elif kind == 10:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 11:
        lines[i] = lines[i][: rng.randrange(len(lines[i]) + 1)]
    elif kind == 12:
        lines.insert(i, rng.choice((b"", b"#", b"\0", b"\x1b[2J", b"\xe9\xff", b"1 2 3", b" " * 1000, b"1 " * 10_000)))
    elif kind == 13:
        whole = rng.choice((b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data.replace(b"\n", b"\r")))
        return rng.choice((whole, data.decode("latin-1").encode("utf-16"), data.replace(b" ", b"\t"), data * 2))
    elif kind == 14:
        lines = lines[: i + 1]
    else:
        return blind(data, rng)
    return b"\n".join(lines)


def text(data: bytes, rng: Random) -> bytes:
    """Numbers, words and lines replaced, removed, repeated; line ends and encodings changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _text_edit(data, rng)
    return data


# ----------------------------------------------------------------------------------------------------------------- JSON

_LITERALS = (
    *("1e400", "-1e400", "NaN", "Infinity", "9" * 5000, "1" + "0" * 400, "-0", "1e-400", "1e12", "64000000", "-1", "0"),
    *("[" * 5000 + "]" * 5000, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 100_000, "null", "true", "[]", "{}", '""'),
    *("[null]", "[[]]", "[[[[1]]]]", '"x"', '"1"', '"nan"', '{"a": 1}', "[1, 2, 3]", '"\\ud800"', '"\\u0000"'),
    *("2147483648", "18446744073709551616", "0.5", "1e30", "1e-30", '"\\u001b[2J"', "[" + "0," * 20_000 + "0]"),
)


def _places(tree: Any, at: tuple = ()) -> list[tuple]:
    """Paths to all values of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [p for k, v in items for p in ((*at, k), *_places(v, (*at, k)))]


def _json_edit(tree: Any, rng: Random, raw: list[str]) -> Any:
    """One value, key or element of the tree is changed. What JSON libraries do not write goes to `raw`, with a marker
    in the tree."""

    def literal(value: str) -> str:
        raw.append(value)
        return f"@raw{len(raw) - 1}@"

    places = _places(tree)
    if not places or rng.random() < 0.02:
        return literal(rng.choice(_LITERALS))
    # deep places are many (numbers of matrices): half of the time a place near the top
    shallow = [p for p in places if len(p) <= 2]
    *path, key = rng.choice(shallow if shallow and rng.random() < 0.5 else places)
    parent = tree
    for k in path:
        parent = parent[k]
    value, kind = parent[key], rng.randrange(14)
    if kind < 6:
        parent[key] = literal(rng.choice(_LITERALS))
    elif kind < 8 and isinstance(value, str):
        name = rng.choice(NAMES)
        parent[key] = rng.choice((name, name, value + name, name + value, value.upper(), value[:-1]))
    elif kind < 8 and isinstance(value, int | float) and abs(value) < 1e300:
        parent[key] = rng.choice((value * 1e9, -value, value * 1e-9, value + 0.5, str(value), [value], {"v": value}))
    elif kind == 8:
        del parent[key]
    elif kind == 9 and isinstance(parent, dict):
        parent[rng.choice((str(key).upper(), str(key) + "_", "", "__proto__"))] = parent.pop(key)
    elif kind == 10 and isinstance(parent, dict):  # the key twice, with another value
        parent[literal(f'{json.dumps(key)}: {rng.choice(_LITERALS)}, "pad"')] = value
    elif kind == 11 and isinstance(value, list):
        parent[key] = rng.choice((value[:-1], value * 2, value[::-1], value[:1], [value], value * 200))
    elif kind == 12 and isinstance(parent, list):
        parent.insert(key, rng.choice((value, None, [], {}, "x")))
    else:
        other = tree
        for k in rng.choice(places):
            other = other[k]
        parent[key] = json.loads(json.dumps(other))  # a value of another place
    return tree


def json_text(data: bytes, rng: Random) -> bytes:
    """A JSON file with values of the wrong type or size, keys missing or twice; less often damaged as text."""
    if rng.random() < 0.15:
        return text(data, rng)
    try:
        tree, raw = json.loads(data), list[str]()
    except (ValueError, RecursionError):  # changed before
        return text(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _json_edit(tree, rng, raw)
    out = json.dumps(tree)
    for i, value in enumerate(raw):
        out = out.replace(f'"@raw{i}@"', value)
    return out.encode()


# ------------------------------------------------------------------------------------------------------------------ PLY

_PLY_LINES = (
    *(b"property float x", b"property list uchar int vertex_indices", b"property list double int v", b"property"),
    *(b"property list int double big", b"property float", b"property quad x", b"element vertex 300000000", b"element"),
    *(
        b"element face 0",
        b"element nothing 300000000",
        b"element vertex 20",
        b"comment \x1b[2J",
        b"comment " + b"c" * 5000,
    ),
    *(b"element vertex -1", b"element vertex 1e3", b"element vertex " + b"9" * 5000, b"format ascii 1.0"),
    *(b"format binary_big_endian 1.0", b"format binary_little_endian 1.0", b"end_header", b"\xff\xfe", b""),
    *(b"property float \0count", b"property float x\0count", b"property float f_rest_99", b"property uchar opacity"),
)
_PLY_TYPES = (
    b"char",
    b"uchar",
    b"short",
    b"ushort",
    b"int",
    b"uint",
    b"float",
    b"double",
    b"list uchar float",
    b"int64",
)


def ply(data: bytes, rng: Random) -> bytes:
    """Header lines repeated, exchanged, with other types, names and counts; or the rows damaged."""
    mark = b"end_header\n"
    end = data.find(mark) + len(mark)
    head, body = data[:end], data[end:]
    if rng.random() < 0.3:
        is_text = b"format ascii" in head
        return head + (text if is_text and rng.random() < 0.7 else blind)(body, rng)
    if rng.random() < 0.1:
        return (text if rng.random() < 0.5 else blind)(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lines = [*head.split(b"\n"), b""]
        i, j, kind = rng.randrange(len(lines) - 1), rng.randrange(len(lines) - 1), rng.randrange(8)
        if kind == 0:
            lines.insert(i, lines[j])
        elif kind == 1:
            del lines[i]
        elif kind == 2:
            lines[i], lines[j] = lines[j], lines[i]
        elif kind < 5:
            lines.insert(i, rng.choice(_PLY_LINES))
        elif kind == 5 and lines[i].startswith(b"property"):
            lines[i] = b"property %s %s" % (rng.choice(_PLY_TYPES), lines[i].split()[-1])
        elif kind == 6:
            words = lines[i].split() or [b""]
            words[-1] = rng.choice((rng.choice(NUMBER_WORDS).encode(), encoded(rng.choice(NAMES)), b"x", b"y"))
            lines[i] = b" ".join(words)
        else:
            lines[i] = rng.choice(_PLY_LINES)
        head = b"\n".join(lines[:-1])
    return head + body
