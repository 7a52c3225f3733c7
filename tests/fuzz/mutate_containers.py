"""Mutations of files that have parts: zip, gzip, numpy arrays; and which mutation is for which file."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from random import Random

from fuzz.mutate_bytes import INTEGERS, NAMES, blind, encoded, json_text, ply, text
from fuzz.mutate_images import jpeg, png, tiff

Mutation = Callable[[bytes, Random], bytes]


# ---------------------------------------------------------------------------------------------------------------- bombs


@functools.cache
def zeros_gzip(megabytes: int) -> bytes:
    """A gzip file of `megabytes` of zeros, a thousandth of that size."""
    return gzip.compress(b"\0" * 2**20, 9, mtime=0) * megabytes


# ------------------------------------------------------------------------------------------------------- zip, gzip, npy


def gzipped(data: bytes, rng: Random, inner: Mutation = blind) -> bytes:
    """The contents changed and compressed again; less often the compressed bytes, or far more contents than it says."""
    kind = rng.random()
    if kind < 0.15:
        return blind(data, rng)
    if kind < 0.153:
        return zeros_gzip(rng.choice((300, 1200)))
    try:
        plain = gzip.decompress(data)
    except Exception:  # changed before
        return blind(data, rng)
    if kind < 0.156:  # the right beginning, then zeros: counts may claim them
        changed = plain[:8] + struct.pack("<I", rng.choice((10**6, 10**7, 6 * 10**7))) + plain[12:16]
        return gzip.compress(changed, mtime=0) + zeros_gzip(rng.choice((200, 1000)))
    return gzip.compress(inner(plain, rng), 1, mtime=0)


def zipped(data: bytes, rng: Random) -> bytes:
    """Members changed by their own kind, renamed, left out, twice; less often the archive's own bytes."""
    if rng.random() < 0.15:
        return blind(data, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            members = [(i.filename, z.read(i)) for i in z.infolist()]
    except Exception:  # changed before
        return blind(data, rng)
    if not members:
        return blind(data, rng)
    method, sizes, zeros = zipfile.ZIP_STORED, dict[str, int](), dict[str, int]()
    for _ in range(rng.choice((1, 1, 1, 2))):
        i = rng.randrange(len(members))
        (name, content), kind = members[i], rng.randrange(20)
        if kind < 14:
            members[i] = name, by_suffix(name)(content, rng)
        elif kind == 14:
            members[i] = rng.choice((*NAMES, "folder/" + name, name.upper(), "../" + name)), content
        elif kind == 15:
            members.append((name, by_suffix(name)(content, rng)))
        elif kind == 16:
            del members[i]
        elif kind == 17:
            members[i] = name, members[rng.randrange(len(members))][1]
        elif kind == 18:
            method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        elif rng.random() < 0.03:
            method, zeros = zipfile.ZIP_DEFLATED, {name: rng.choice((200, 700))}
        else:
            sizes[name] = rng.choice(INTEGERS) & 0xFFFFFFFF
        if not members:
            break
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in members:
            info = zipfile.ZipInfo(encoded(name.replace("\0", "\1")).decode("utf-8", "replace")[:60_000])
            info.compress_type = method
            with z.open(info, "w") as f:
                f.write(content)
                for _ in range(zeros.get(name, 0)):
                    f.write(b"\0" * 2**20)
            info.file_size = sizes.get(name, info.file_size)  # what the archive's directory claims
    return out.getvalue()


def glb(data: bytes, rng: Random) -> bytes:
    """The JSON of a `.glb` changed, with the right lengths around it; less often the file's own bytes."""
    size = int.from_bytes(data[12:16], "little")
    if rng.random() < 0.3 or 20 + size > len(data):
        return blind(data, rng)
    tree, rest = json_text(data[20 : 20 + size].rstrip(), rng), data[20 + size :]
    if rng.random() < 0.1:
        rest = blind(rest, rng)
    tree += b" " * (-len(tree) % 4)
    return b"".join([data[:8], struct.pack("<II", 20 + len(tree) + len(rest), len(tree)), data[16:20], tree, rest])


_DESCRIPTIONS = (
    *("'<f8'", "'>f8'", "'<f4'", "'<f2'", "'<i8'", "'|O'", "'<U5'", "'|S8'", "'|V8'", "'<c16'", "'<M8[s]'", "'|b1'"),
    *("[('a','<f8')]", "'<f16'", "''", "None", "3", "'x'", "'<U999999999'", "[('a','<f8',(1000000,))]", "'|V0'"),
)
_SHAPES = (
    *("(1000000000000, 17)", "(-1, 17)", "(0, 17)", "(17,)", "()", "(3, 17, 1)", "(1,)*40", "('a', 17)", "(3, 17.0)"),
    *("None", "3", "(2, 17)", "(4, 17)", "(3, 16)", "(9223372036854775807, 9)", "(4, 4)", "(True, 17)", "(51,)"),
)


def npy(data: bytes, rng: Random) -> bytes:
    """The header of a numpy array with other types and shapes, or values damaged."""
    kind = rng.random()
    if kind < 0.2:
        return blind(data, rng)
    size = int.from_bytes(data[8:10], "little")
    head, body = data[10 : 10 + size].decode("latin-1"), data[10 + size :]
    if not ("'descr': " in head and ", 'fort" in head and "(" in head and ")" in head):  # changed before
        return blind(data, rng)
    if kind < 0.5:
        return data[: 10 + size] + blind(body, rng)
    description, shape = (
        head[head.index("'descr': ") + 9 : head.index(", 'fort")],
        head[head.index("(") : head.index(")") + 1],
    )
    edit = rng.randrange(7)
    if edit < 2:
        head = head.replace(description, rng.choice(_DESCRIPTIONS))
    elif edit < 4:
        head = head.replace(shape, rng.choice(_SHAPES))
    elif edit == 4:
        head = head.replace("False", rng.choice(("True", "3", "None", "'F'")))
    elif edit == 5:
        head = rng.choice(
            ("", "{}", "[]", "{'descr': '<f8'}", "(" * 3000, "{" * 300, head[:-20], head + "x", "9" * 5000)
        )
    else:
        head = text(head.encode("latin-1"), rng).decode("latin-1")
    version, packed = (
        rng.choice(((1, "<H"), (1, "<H"), (2, "<I"), (3, "<I"), (9, "<H"))),
        head.encode("latin-1", "replace"),
    )
    declared = len(packed) if rng.random() < 0.9 else rng.choice(INTEGERS) & 0xFFFF
    length = struct.pack(version[1], min(declared, 0xFFFF))
    return data[:6] + bytes([version[0], 0]) + length + packed + body


_BY_SUFFIX: dict[str, Mutation] = {
    ".json": json_text,
    ".txt": text,
    ".ply": ply,
    ".npy": npy,
    ".npz": zipped,
    ".sog": zipped,
    ".zip": zipped,
    ".pt": zipped,
    ".spz": gzipped,
    ".glb": glb,
    ".png": png,
    ".jpg": jpeg,
    ".tif": tiff,
}


def by_suffix(name: str) -> Mutation:
    """The mutation that knows the format of a file of this name."""
    return next((m for s, m in _BY_SUFFIX.items() if name.lower().endswith(s)), blind)
