"""Splat files that lie about their size, name what they should not, or expand without end."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

FLOATS = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2")
NAMES = (*FLOATS, "rot_0", "rot_1", "rot_2", "rot_3")


def ply(count: object = 4, lines: tuple[str, ...] = (), form: str = "binary_little_endian", body: bytes = b"") -> bytes:
    """A splat `.ply` of zeros with `count` claimed; `lines` follow its properties."""
    rows = [f"property float {n}" for n in NAMES]
    head = ["ply", f"format {form} 1.0", f"element vertex {count}", *rows, *lines, "end_header", ""]
    return "\n".join(head).encode() + (body or bytes(4 * len(NAMES) * 4))


def bare_ply(lines: tuple[str, ...], body: bytes = b"", form: str = "binary_little_endian") -> bytes:
    return "\n".join(["ply", f"format {form} 1.0", *lines, "end_header", ""]).encode() + body


def spz(n: int, rows: int, version: int = 3, degree: int = 0, bits: int = 12) -> bytes:
    """A `.spz` of zeros with `n` Gaussians claimed and `rows` present."""
    width = 9 + 1 + 3 + 3 + (4 if version >= 3 else 3) + 3 * (0, 3, 8, 15, 24, 35)[degree]
    return gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", version, n, degree, bits, 0, 0) + bytes(rows * width))


def webp(width: int, height: int, alpha: int = 252) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (width, height), (0, 0, 0, alpha)).save(out, "WEBP", lossless=True, exact=True)
    return out.getvalue()


def sog_parts(n: int = 16, side: int = 4) -> tuple[dict[str, Any], dict[str, bytes]]:
    """meta.json and the images of a valid `.sog` of `n` equal Gaussians."""
    book = np.linspace(-3, 0, 256).tolist()
    meta: dict[str, Any] = {
        "version": 2,
        "count": n,
        "means": {"mins": [-1, -1, -1], "maxs": [1, 1, 1], "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": book, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": book, "files": ["sh0.webp"]},
    }
    image = webp(side, side)
    return meta, {f"{name}.webp": image for name in ("means_l", "means_u", "scales", "quats", "sh0")}


def sog(meta: dict[str, Any] | str | bytes, images: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    text = json.dumps(meta) if isinstance(meta, dict) else meta
    with zipfile.ZipFile(out, "w", method) as z:
        z.writestr("meta.json", text)
        for name, data in images.items():
            z.writestr(name, data)
    return out.getvalue()


def changed_sog(change: Callable[[dict[str, Any], dict[str, bytes]], object]) -> bytes:
    meta, images = sog_parts()
    change(meta, images)
    return sog(meta, images)


def _text(number: str) -> bytes:
    """A `.sog` whose meta.json has `number` where its count stands."""
    meta, images = sog_parts()
    return sog(json.dumps(meta).replace('"count": 16', f'"count": {number}'), images)


def _with(path: tuple[Any, ...], value: Any) -> bytes:
    def change(meta: Any, images: dict[str, bytes]) -> None:
        for key in path[:-1]:
            meta = meta[key]
        meta[path[-1]] = value

    return changed_sog(change)


def _huge(name: str) -> bytes:
    meta, images = sog_parts()
    return sog(meta, images | {name: webp(3000, 3000)})


def _harmonics(**part: Any) -> bytes:
    def change(meta: dict[str, Any], images: dict[str, bytes]) -> None:
        book = [0.0] * 256
        files = ["shN_centroids.webp", "shN_labels.webp"]
        meta["shN"] = {"count": 64, "bands": 3, "codebook": book, "files": files} | part
        images |= {files[0]: webp(64 * 15, 1, 255), files[1]: webp(4, 4)}

    return changed_sog(change)


LIST = ("element vertex 300000000", "property list uchar float x")
FILES: dict[str, bytes | Callable[[], bytes]] = {
    "a property twice.ply": ply(lines=("property float x",)),
    "an element twice.ply": ply(lines=("element vertex 2", "property float x")),
    "rows without properties.ply": bare_ply(("element vertex 1000000000",)),
    "text rows without properties.ply": bare_ply(("element vertex 1000000000",), form="ascii"),
    "136 GB.ply": ply(2_500_000_000),
    "136 GB of text.ply": ply(2_500_000_000, form="ascii", body=b"0 " * 100),
    "one row more.ply": ply(5),
    "negative.ply": ply(-4),
    "a count of 5000 digits.ply": ply("9" * 5000),
    "a count that is no number.ply": ply("1e3"),
    "lists without rows.ply": bare_ply(LIST, b"\0" * 2000),
    "text lists without rows.ply": bare_ply(LIST, b"0 " * 1000, "ascii"),
    "lists of every length.ply": lambda: bare_ply(
        ("element face 3000000", "property list uchar uchar i", *ply().decode("latin-1").split("\n")[2:17]),
        b"\1\0" + b"\0" * 6_000_000,
    ),
    "text lists of every length.ply": lambda: bare_ply(
        ("element face 3000000", "property list uchar uchar i", *ply().decode("latin-1").split("\n")[2:17]),
        b"1 0 " + b"0 " * 6_000_000,
        "ascii",
    ),
    "a list of 4e9.ply": bare_ply(("element vertex 1", "property list uint double x"), b"\xff" * 100),
    "a list counted in floats.ply": bare_ply(("element vertex 1", "property list float float x"), bytes(100)),
    "a list for x.ply": ply(lines=(), body=bytes(4 * 57)).replace(b"property float x", b"property list uchar float x"),
    "no end.ply": lambda: b"ply\nformat ascii 1.0\n" + (b"comment " + b"x" * 300 + b"\n") * 5_000,
    "one endless line.ply": lambda: b"ply\nformat ascii 1.0\ncomment " + b"x" * 5_000_000,
    "one endless word.ply": lambda: ply(4, form="ascii", body=b"1" * 5_000_000),
    "words of 90 characters.ply": lambda: ply(50_000, form="ascii", body=b" ".join([b"1" * 101] * 20_000)),
    "no words.ply": ply(4, form="ascii", body=b" " * 1000),
    "chunks of nothing.ply": bare_ply(
        ("element chunk 1", "property float min_x", "element vertex 4", "property uint packed_position"), bytes(100)
    ),
    "a chunk without properties.compressed.ply": bare_ply(("element chunk 4000000000", "element vertex 0")),
    "numbers of another type.compressed.ply": bare_ply(
        ("element chunk 1", "property float min_x", "element vertex 1", "property list uchar uint packed_position"),
        bytes(100),
    ),
    "bomb.spz": lambda: spz(1_500_000, 1_500_000),
    "bomb that says 10.spz": lambda: spz(10, 1_500_000),
    "few rows.spz": spz(4_000_000_000, 10),
    "one row less.spz": spz(10, 9),
    "degree 5.spz": spz(1, 1, degree=5),
    "version 0.spz": spz(1, 1, version=0),
    "version 9.spz": spz(1, 1, version=9),
    "255 bits.spz": spz(1, 1, bits=255),
    "no header.spz": gzip.compress(b"NGSP"),
    "nothing.spz": gzip.compress(b""),
    "another gzip.spz": gzip.compress(bytes(1000)),
    "version 4, table nowhere.spz": struct.pack("<4sIIBBBBI", b"NGSP", 4, 1, 0, 12, 0, 6, 0xFFFFFFF0),
    "version 4, billions.spz": struct.pack("<4sIIBBBBI", b"NGSP", 4, 4_000_000_000, 3, 12, 0, 6, 32) + bytes(200),
    "nested.sog": sog("[" * 100_000, {}),
    "nested in its place.sog": _text("[" * 5000 + "]" * 5000),
    "5000 digits.sog": _text("9" * 5000),
    "infinite.sog": _text("Infinity"),
    "1e999.sog": _text("1e999"),
    "text.sog": _text('"16"'),
    "truth.sog": _text("true"),
    "negative.sog": _text("-1"),
    "billions.sog": _text("2000000000"),
    "not UTF-8.sog": sog(b"\xff\xfe{", {}),
    "a list.sog": sog("[]", {}),
    "means as a list.sog": _with(("means",), []),
    "means as text.sog": _with(("means",), "files"),
    "mins as numbers of 400 digits.sog": _with(("means", "mins"), [10**400] * 3),
    "mins as text.sog": _with(("means", "mins"), ["1", "2", "3"]),
    "mins of two.sog": _with(("means", "mins"), [0, 0]),
    "a short codebook.sog": _with(("scales", "codebook"), [0.0]),
    "a codebook of lists.sog": _with(("scales", "codebook"), [[0.0]] * 256),
    "a codebook of NaN.sog": _with(("scales", "codebook"), [float("nan")] * 256),
    "no files.sog": _with(("scales", "files"), []),
    "files as a number.sog": _with(("scales", "files"), 3),
    "a file that is no name.sog": _with(("scales", "files"), [3]),
    "an absolute name.sog": _with(("scales", "files"), ["/etc/passwd"]),
    "a name above.sog": _with(("scales", "files"), ["../../scales.webp"]),
    "a long name.sog": _with(("scales", "files"), ["x" * 100_000]),
    "a name with a zero.sog": _with(("scales", "files"), ["a\0b"]),
    "a file that is not there.sog": _with(("scales", "files"), ["other.webp"]),
    "no image.sog": changed_sog(lambda _, images: images.update({"scales.webp": b"RIFF nothing WEBP"})),
    "a small image.sog": changed_sog(lambda _, images: images.update({"quats.webp": webp(2, 2)})),
    "an image of 9 MP.sog": lambda: _huge("scales.webp"),
    "bands of 4.sog": _harmonics(bands=4),
    "bands of text.sog": _harmonics(bands="3"),
    "bands of another image.sog": _harmonics(bands=2),
    "a zip bomb.sog": lambda: sog(b" " * 40_000_000, {}, zipfile.ZIP_DEFLATED),
    "compressed by LZMA.sog": sog("{}", {}, zipfile.ZIP_LZMA),
    "cut.splat": bytes(33),
    "nothing.splat": b"",
}
"""Name, whose suffix is the format -> contents."""


def ksplat(sections: list[tuple[int, int, list[int]]], level: int, degree: int = 1) -> bytes:
    """A file of sections (full buckets of 4, buckets in all, lengths of the partial ones), whose i-th Gaussian is at
    (i, 0, 0) from the centre of its bucket in steps, and bucket b at (100 b, 0, 0)."""
    k = (0, 3, 8, 15)[degree]
    total = sum(4 * full + sum(partial) for full, _, partial in sections)
    head = struct.pack("<BBxxIIIIHxxfff", 0, 1, len(sections), len(sections), total, total, level, 0, 0, 0)
    head += struct.pack("<ff", -2.0, 2.0)
    heads, bodies = b"", b""
    for full, buckets, partial in sections:
        n = 4 * full + sum(partial)
        heads += struct.pack("<IIIIfHxxIIII", n, n, 4, buckets, 20.0, 12, 10, 0, full, len(partial)).ljust(40, b"\0")
        heads += struct.pack("<H", degree).ljust(1024 - 40, b"\0")
        bodies += np.array(partial, "<u4").tobytes()
        bodies += np.array([[100.0 * b, 0, 0] for b in range(buckets)], "<f4").tobytes()
        half = "<f2" if level else "<f4"
        for i in range(n):
            bodies += np.array([10 + i, 10, 10] if level else [i, 0, 0], "<u2" if level else "<f4").tobytes()
            bodies += np.array([0.5, 1.0, 2.0, 1.0, 0.0, 0.0, 0.0], half).tobytes() + bytes([255, 0, 51, 102])
            bodies += np.arange(3 * k).astype(("<f4", "<f2", "u1")[level]).tobytes()
    return head.ljust(4096, b"\0") + heads + bodies
