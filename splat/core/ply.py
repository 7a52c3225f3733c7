"""PLY files as numpy arrays: any element, ascii or binary, either byte order, list properties included.

Format: Turk, "The PLY Polygon File Format" (1994). An element becomes a structured array with one field per property;
a list property whose lists all have k entries becomes a field of shape [k], other lists become a field of objects.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from splat.core.errors import SplatError
from splat.core.files import atomic_path
from splat.core.foreign import regular_file, shown
from splat.core.reading import check_expansion, reading

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
_MAX_LIST_ROWS = 500_000
"""Of rows that are read one by one: lists of several lengths, lists in text. A second or two."""
_TEXT_BLOCK = 1 << 20
"""Bytes of text that are parsed at once."""
_MAX_WORD = 100
"""Characters of a number in text."""


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
    regular_file(Path(path))
    with reading(path, "PLY file"), Path(path).open("rb") as f:
        return _read_header(f, path)


def read_ply(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Elements, in the file's order, as structured arrays in the machine's byte order: all of them, or those of `names`
    that the file has.

    Takes at most a few times the memory of the file. Raises SplatError where the file is missing, is no PLY, ends
    early, or has lists of several lengths in more than half a million rows.
    """
    size = regular_file(Path(path))
    with reading(path, "PLY file"), Path(path).open("rb") as f:
        header = _read_header(f, path)
        wanted = [e.name for e in header.elements if names is None or e.name in names]
        if not wanted:
            return {}
        numbers = _Numbers(f, size - f.tell()) if header.format == "ascii" else None
        found = {}
        for e in header.elements:
            if numbers is not None:
                rows = _read_ascii(numbers, e, path)
            else:
                rows = _read_binary(f, e, _BYTE_ORDERS[header.format], size - f.tell(), e.name in wanted, path)
            if e.name in wanted:
                found[e.name] = rows
            if e.name == wanted[-1]:
                break
        return found


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
                case ["property", "list", count_type, kind, name] if _TYPES[count_type][0] in "iu":
                    elements[-1][2].append(PlyProperty(name, _TYPES[kind], _TYPES[count_type]))
                case ["property", kind, name]:
                    elements[-1][2].append(PlyProperty(name, _TYPES[kind]))
                case []:
                    pass
                case _:
                    raise ValueError
        except (ValueError, KeyError, IndexError):
            raise SplatError(
                f"{shown(path)} has a PLY header line that means nothing: '{shown(line[:80])}'; export it again."
            ) from None
    names = [[n for n, _, _ in elements], *([p.name for p in properties] for _, _, properties in elements)]
    for twice in (next((n for n, k in Counter(group).items() if k > 1), None) for group in names):
        if twice is not None:
            raise SplatError(f"{shown(path)} names '{shown(twice)[:80]}' twice in its PLY header: export it again.")
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


def _read_binary(f: BinaryIO, element: PlyElement, byte_order: str, left: int, wanted: bool, path: Path) -> np.ndarray:
    """The rows, in at most `left` bytes. Where they are not `wanted` perhaps none: the file then stands behind them."""
    count, lists = element.count, [p for p in element.properties if p.count_type is not None]
    start = f.tell()
    # the shortest rows: lists without entries. A wrong count must not ask for all memory
    shortest = _dtype(element, byte_order, {p.name: 0 for p in lists}, with_counts=True).itemsize
    if count and not shortest:
        raise SplatError(f"{path} has '{shown(element.name)}' rows without properties: export it again.")
    if count * shortest > left:
        got = left // shortest
        raise SplatError(f"{path} is cut short: {got} of {count} '{shown(element.name)}' rows; copy it again.")
    if wanted:
        check_expansion(path, count * shortest, left)
    if not wanted and not lists:
        f.seek(count * shortest, os.SEEK_CUR)
        return np.empty(0)
    sizes = _first_list_sizes(f, element, byte_order, path) if lists and count else {p.name: 0 for p in lists}
    f.seek(start)
    # Fast path: every row has the list sizes of the first one (a mesh of triangles), so rows have one fixed length.
    packed = _dtype(element, byte_order, sizes, with_counts=True)
    if packed.itemsize * count <= left:
        rows = np.empty(count, packed)
        if count and f.readinto(memoryview(rows.view(np.uint8))) < rows.nbytes:  # type: ignore[attr-defined, arg-type]
            raise SplatError(f"{path} is cut short inside its '{shown(element.name)}' rows: copy it again.")
        if all((rows[f"{p.name}\0count"] == sizes[p.name]).all() for p in lists):
            native = _dtype(element, "=", sizes, with_counts=False)
            if native == packed:
                return rows
            turned = np.empty(count, native)
            for p in element.properties:
                turned[p.name] = rows[p.name]
            return turned
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
    _check_list_rows(element, path)
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
    data = f.read(size) if size < _TEXT_BLOCK or size <= os.fstat(f.fileno()).st_size else b""
    if n < 0 or len(data) < size:
        raise SplatError(f"{path} is cut short inside its '{element.name}' rows: copy or export it again.")
    return np.frombuffer(data, dtype, n)


def _check_list_rows(element: PlyElement, path: Path) -> None:
    if element.count > _MAX_LIST_ROWS:
        raise SplatError(
            f"{path} has {element.count:,} '{shown(element.name)}' rows of lists, of which at most {_MAX_LIST_ROWS:,} "
            "are read: export it as binary triangles or without them."
        )


class _Numbers:
    """The numbers of a text file, in blocks: its words would take ten times their text."""

    def __init__(self, f: BinaryIO, size: int) -> None:
        self.size = size
        """Bytes of text."""
        self._file, self._rest = f, b""
        self._block = np.zeros(0)

    def take(self, n: int) -> np.ndarray:
        """The next n numbers, float64. Raises EOFError where the file ends first, ValueError for other words."""
        out, at = np.empty(n), 0
        while at < n:
            if len(self._block) == 0:
                self._block = self._next()
            part = self._block[: n - at]
            out[at : at + len(part)] = part
            at += len(part)
            self._block = self._block[len(part) :]
        return out

    def _next(self) -> np.ndarray:
        while True:
            text = self._file.read(_TEXT_BLOCK)
            data = self._rest + text
            words = data.split()
            self._rest = words.pop() if text and words and not data[-1:].isspace() else b""
            longest = max(map(len, (*words, self._rest)), default=0)
            if longest > _MAX_WORD:
                raise ValueError(f"a word of more than {_MAX_WORD} characters")
            if words:
                return np.array(words, dtype=bytes).astype("f8")
            if not text:
                raise EOFError


def _read_ascii(numbers: _Numbers, element: PlyElement, path: Path) -> np.ndarray:
    count, k = element.count, len(element.properties)
    try:
        if count and not k:
            raise ValueError("rows without properties")
        if 2 * count * k > numbers.size + 1:  # a digit and a space each
            raise EOFError
        if any(p.count_type is not None for p in element.properties):
            _check_list_rows(element, path)
            return _read_ascii_lists(numbers, element)
        row = np.dtype([(p.name, p.type) for p in element.properties])
        check_expansion(path, count * row.itemsize, numbers.size)
        rows = np.empty(count, row)
        step = max(1, _TEXT_BLOCK // 8 // max(k, 1))
        with np.errstate(invalid="ignore", over="ignore"):  # NaN as an integer: what it becomes is not our business
            for at in range(0, count if k else 0, step):
                table = numbers.take(min(step, count - at) * k).reshape(-1, k)
                for j, p in enumerate(element.properties):
                    rows[p.name][at : at + step] = table[:, j]
        return rows
    except EOFError:
        raise SplatError(
            f"{path} is cut short inside its '{shown(element.name)}' rows: copy or export it again."
        ) from None
    except ValueError as error:
        raise SplatError(
            f"{path} has a value that is no number ({shown(str(error))[:120]}): export it again."
        ) from None


def _read_ascii_lists(numbers: _Numbers, element: PlyElement) -> np.ndarray:
    columns: dict[str, list] = {p.name: [] for p in element.properties}
    for _ in range(element.count):
        for p in element.properties:
            first = float(numbers.take(1)[0])
            if p.count_type is None:
                columns[p.name].append(first)
            elif not 0 <= first <= numbers.size:
                raise EOFError
            else:
                columns[p.name].append(numbers.take(int(first)).astype(p.type))
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
    return rows


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
