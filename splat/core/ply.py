"""PLY files as numpy arrays: any element, ascii or binary, either byte order, list properties included.

Format: Turk, "The PLY Polygon File Format" (1994). An element becomes a structured array with one field per property;
a list property whose lists all have k entries becomes a field of shape [k], other lists become a field of objects.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from splat.core.errors import SplatError
from splat.core.files import atomic_path

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"}
_NAMES |= {"f4": "float", "f8": "double"}
_BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class PlyProperty:
    """One property: a scalar, or a list where `count_type` is set. Types are numpy's without byte order ("f4")."""

    name: str
    type: str
    count_type: str | None = None


@dataclass(frozen=True)
class PlyElement:
    name: str
    count: int
    properties: tuple[PlyProperty, ...]


@dataclass(frozen=True)
class PlyHeader:
    """The header: elements in the order of the file."""

    format: str
    """"ascii", "binary_little_endian" or "binary_big_endian"."""
    elements: tuple[PlyElement, ...]
    comments: tuple[str, ...]
    """Comment and obj_info lines, without the keyword."""


def read_ply_header(path: Path) -> PlyHeader:
    """Only the header: counts, property names and comments, however large the file is."""
    try:
        with Path(path).open("rb") as f:
            return _read_header(f, path)
    except OSError as e:
        raise SplatError(f"{path} cannot be read ({e.strerror or e}): check the path.") from None


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """All elements, in the file's order, as structured arrays in the machine's byte order.

    Raises SplatError where the file is missing, is no PLY, or ends early.
    """
    try:
        with Path(path).open("rb") as f:
            header = _read_header(f, path)
            if header.format == "ascii":
                return _read_ascii(f, header, path)
            byte_order = _BYTE_ORDERS[header.format]
            return {e.name: _read_binary(f, e, byte_order, path) for e in header.elements}
    except OSError as e:
        raise SplatError(f"{path} cannot be read ({e.strerror or e}): check the path.") from None


def write_ply(
    path: Path,
    elements: Mapping[str, np.ndarray],
    comments: Sequence[str] = (),
    binary: bool = True,
) -> None:
    """Write structured arrays; the file appears whole or not at all. A field of shape [k] becomes a list property.

    Binary files are little-endian. Property order is the dtype's field order.
    """
    lines = ["ply", f"format {'binary_little_endian' if binary else 'ascii'} 1.0"]
    lines += [f"comment {c}" for c in comments]
    for name, rows in elements.items():
        assert rows.dtype.names is not None and rows.ndim == 1, f"{name} must be a 1-d structured array"
        lines.append(f"element {name} {len(rows)}")
        for field in rows.dtype.names:
            kind, shape = rows.dtype[field].base.str[1:], rows.dtype[field].shape
            prefix = "property list uchar " if shape else "property "
            lines.append(f"{prefix}{_NAMES[kind]} {field}")
    lines.append("end_header\n")
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as f:
        f.write("\n".join(lines).encode())
        for rows in elements.values():
            f.write(_binary_rows(rows) if binary else _ascii_rows(rows))


def _read_header(f: BinaryIO, path: Path) -> PlyHeader:
    if f.readline(16).strip() != b"ply":
        raise SplatError(f"{path} is not a PLY file (it does not start with 'ply'): choose another file.")
    fmt, comments, size = "", [], 0
    elements: list[tuple[str, int, list[PlyProperty]]] = []
    while True:
        raw = f.readline(_MAX_HEADER_BYTES)
        size += len(raw)
        line = raw.decode("latin-1").strip()
        words = line.split()
        if not raw or size > _MAX_HEADER_BYTES:
            raise SplatError(f"{path} has no 'end_header' line: the PLY is cut short; copy or export it again.")
        try:
            match words:
                case ["end_header"]:
                    break
                case ["format", name, *_] if name in _BYTE_ORDERS:
                    fmt = name
                case ["comment" | "obj_info", *_]:
                    comments.append(line.partition(" ")[2].strip())
                case ["element", name, count] if int(count) >= 0:
                    elements.append((name, int(count), []))
                case ["property", "list", count_type, kind, name]:
                    elements[-1][2].append(PlyProperty(name, _TYPES[kind], _TYPES[count_type]))
                case ["property", kind, name]:
                    elements[-1][2].append(PlyProperty(name, _TYPES[kind]))
                case []:
                    pass
                case _:
                    raise ValueError
        except (ValueError, KeyError, IndexError):
            raise SplatError(
                f"{path} has a PLY header line that means nothing: '{line[:80]}'; export it again."
            ) from None
    if not fmt:
        raise SplatError(f"{path} has no PLY 'format' line: export it again.")
    return PlyHeader(fmt, tuple(PlyElement(n, c, tuple(p)) for n, c, p in elements), tuple(comments))


def _dtype(element: PlyElement, byte_order: str, list_sizes: Mapping[str, int], with_counts: bool) -> np.dtype:
    """One row, where every list property has a known size. `with_counts`: the list's count stands before it."""
    fields: list[tuple] = []
    for p in element.properties:
        if p.count_type is None:
            fields.append((p.name, byte_order + p.type))
            continue
        if with_counts:
            fields.append((f"{p.name}\0count", byte_order + p.count_type))
        fields.append((p.name, byte_order + p.type, (list_sizes[p.name],)))
    return np.dtype(fields)


def _read_binary(f: BinaryIO, element: PlyElement, byte_order: str, path: Path) -> np.ndarray:
    lists = [p for p in element.properties if p.count_type is not None]
    start = f.tell()
    sizes = _first_list_sizes(f, element, byte_order, path) if lists and element.count else {p.name: 0 for p in lists}
    # Fast path: every row has the list sizes of the first one (a mesh of triangles), so rows have one fixed length.
    packed = _dtype(element, byte_order, sizes, with_counts=True)
    left = f.seek(0, os.SEEK_END) - start
    f.seek(start)
    data = f.read(min(packed.itemsize * element.count, left))  # a wrong count must not ask for all memory
    if len(data) == packed.itemsize * element.count:
        rows = np.frombuffer(data, packed)
        if all((rows[f"{p.name}\0count"] == sizes[p.name]).all() for p in lists):
            native = np.empty(element.count, _dtype(element, "=", sizes, with_counts=False))
            for p in element.properties:
                native[p.name] = rows[p.name]
            return native
    if not lists:
        got = len(data) // packed.itemsize
        raise SplatError(f"{path} is cut short: {got} of {element.count} '{element.name}' rows; copy it again.")
    f.seek(start)
    return _read_binary_ragged(f, element, byte_order, path)


def _first_list_sizes(f: BinaryIO, element: PlyElement, byte_order: str, path: Path) -> dict[str, int]:
    sizes = {}
    for p in element.properties:
        n = 1
        if p.count_type is not None:
            n = sizes[p.name] = int(_take(f, byte_order + p.count_type, 1, element, path)[0])
        _take(f, byte_order + p.type, n, element, path)
    return sizes


def _read_binary_ragged(f: BinaryIO, element: PlyElement, byte_order: str, path: Path) -> np.ndarray:
    rows = np.empty(element.count, [(p.name, object if p.count_type else p.type) for p in element.properties])
    for i in range(element.count):
        for p in element.properties:
            if p.count_type is None:
                rows[p.name][i] = _take(f, byte_order + p.type, 1, element, path)[0]
            else:
                n = int(_take(f, byte_order + p.count_type, 1, element, path)[0])
                rows[p.name][i] = _take(f, byte_order + p.type, n, element, path).astype(p.type)
    return rows


def _take(f: BinaryIO, dtype: str, n: int, element: PlyElement, path: Path) -> np.ndarray:
    size = np.dtype(dtype).itemsize * max(0, n)
    data = f.read(size)
    if n < 0 or len(data) < size:
        raise SplatError(f"{path} is cut short inside its '{element.name}' rows: copy or export it again.")
    return np.frombuffer(data, dtype, n)


def _read_ascii(f: BinaryIO, header: PlyHeader, path: Path) -> dict[str, np.ndarray]:
    words = f.read().split()
    elements, at = {}, 0
    for e in header.elements:
        try:
            if all(p.count_type is None for p in e.properties):
                k = len(e.properties)
                table = words[at : at + e.count * k]
                if len(table) < e.count * k:
                    raise IndexError
                rows = np.empty(e.count, [(p.name, p.type) for p in e.properties])
                for j, p in enumerate(e.properties):
                    rows[p.name] = np.array(table[j::k], dtype=bytes).astype("f8") if e.count else 0
                at += e.count * k
            else:
                rows, at = _read_ascii_ragged(words, at, e)
        except IndexError:
            raise SplatError(f"{path} is cut short inside its '{e.name}' rows: copy or export it again.") from None
        except ValueError as error:
            raise SplatError(f"{path} has a value that is no number ({error}): export it again.") from None
        elements[e.name] = rows
    return elements


def _read_ascii_ragged(words: list[bytes], at: int, element: PlyElement) -> tuple[np.ndarray, int]:
    columns: dict[str, list] = {p.name: [] for p in element.properties}
    for _ in range(element.count):
        for p in element.properties:
            if p.count_type is None:
                columns[p.name].append(float(words[at]))
                at += 1
            else:
                n = int(words[at])
                if at + 1 + n > len(words):
                    raise IndexError
                columns[p.name].append(np.array([float(w) for w in words[at + 1 : at + 1 + n]]).astype(p.type))
                at += 1 + n
    fields: list[tuple] = []
    for p in element.properties:
        lengths = {len(v) for v in columns[p.name]} if p.count_type else set()
        if p.count_type is None:
            fields.append((p.name, p.type))
        elif len(lengths) <= 1:
            fields.append((p.name, p.type, (lengths.pop() if lengths else 0,)))
        else:
            fields.append((p.name, object))
    rows = np.empty(element.count, fields)
    for name, values in columns.items():
        if rows.dtype[name].hasobject:
            for i, v in enumerate(values):
                rows[name][i] = v
        elif values:
            rows[name] = np.asarray(values)
    return rows, at


def _binary_rows(rows: np.ndarray) -> bytes:
    assert rows.dtype.names is not None
    fields: list[tuple] = []
    for name in rows.dtype.names:
        base, shape = rows.dtype[name].base.str[1:], rows.dtype[name].shape
        fields += [(f"{name}\0count", "u1"), (name, "<" + base, shape)] if shape else [(name, "<" + base)]
    packed = np.empty(len(rows), fields)
    for name in rows.dtype.names:
        packed[name] = rows[name]
        if rows.dtype[name].shape:
            packed[f"{name}\0count"] = rows.dtype[name].shape[0]
    return packed.tobytes()


def _ascii_rows(rows: np.ndarray) -> bytes:
    def words(value: object) -> str:
        if isinstance(value, np.ndarray):
            return " ".join([str(len(value)), *(words(v) for v in value)])
        # the shortest text that reads back as the same number of this type
        return np.format_float_positional(value, trim="-") if isinstance(value, np.floating) else str(value)

    assert rows.dtype.names is not None
    names = rows.dtype.names
    return "".join(" ".join(words(row[n]) for n in names) + "\n" for row in rows).encode()
