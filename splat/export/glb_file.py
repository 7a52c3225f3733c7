"""The container of `.glb` (glTF 2.0 in one binary file): its JSON, its buffer, and the arrays that accessors name."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from splat.core.files import write_atomic
from splat.core.foreign import parse_json

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_NUMBERS = {np.dtype(v): k for k, v in _TYPES.items()}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_VERTICES, _INDICES = 34962, 34963
"""Targets of buffer views: vertex attributes, and numbers of vertices."""


def linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB colours in [0, 1] (IEC 61966-2-1), as glTF has them."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


class GlbWriter:
    """Collects arrays, and writes them with the JSON that names them."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: np.ndarray, normalized: bool = False, bounds: bool = False, indices: bool = False) -> int:
        """Index of a new accessor of rows [n] or [n w]. `bounds`: with minimum and maximum, as POSITION must have.
        `indices`: they are numbers of vertices, not values of them."""
        rows = np.ascontiguousarray(values)
        width = 1 if rows.ndim == 1 else rows.shape[1]
        assert rows.dtype.itemsize * width % 4 == 0, "rows start at multiples of four bytes"
        data = rows.tobytes()
        target = _INDICES if indices else _VERTICES
        self.views.append({"buffer": 0, "byteOffset": self._size, "byteLength": len(data), "target": target})
        accessor: dict[str, Any] = {"bufferView": len(self.views) - 1, "componentType": _NUMBERS[rows.dtype]}
        accessor |= {"count": len(rows), "type": _SHAPES[width]} | ({"normalized": True} if normalized else {})
        if bounds:
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        self.accessors.append(accessor)
        self._parts.append(data)
        self._size += len(data)
        return len(self.accessors) - 1

    def write(self, path: Any, tree: dict[str, Any]) -> None:
        """Write `tree` with the buffer, its views and accessors."""
        write_atomic(path, self.to_bytes(tree))

    def to_bytes(self, tree: dict[str, Any]) -> bytes:
        """The contents of the file of `write`."""
        tree = tree | {"buffers": [{"byteLength": self._size}], "bufferViews": self.views, "accessors": self.accessors}
        text = json.dumps(tree, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + self._size
        head = struct.pack("<III", _MAGIC, 2, total) + struct.pack("<II", len(text), _JSON)
        return b"".join([head, text, struct.pack("<II", self._size, _BIN), *self._parts])


@dataclass(frozen=True)
class Glb:
    """A file that was read."""

    tree: dict[str, Any]
    data: memoryview

    @staticmethod
    def of(data: bytes, path: object) -> Glb:
        """Raises ValueError where it is no GLB of version 2, SplatError for its JSON."""
        magic, version, total = struct.unpack_from("<III", data)
        if magic != _MAGIC or version != 2 or total > len(data):
            raise ValueError("its header is wrong, or it is cut short")
        at, tree, binary = 12, None, memoryview(b"")
        while at + 8 <= total:
            size, kind = struct.unpack_from("<II", data, at)
            if at + 8 + size > total:
                raise ValueError("a chunk is cut short")
            chunk = memoryview(data)[at + 8 : at + 8 + size]
            if tree is None:
                if kind != _JSON:
                    raise ValueError("its first chunk is no JSON")
                tree = parse_json(bytes(chunk).decode("utf-8"), f"the JSON of {path}")
            elif kind == _BIN and not len(binary):
                binary = chunk
            at += 8 + size + (-size % 4)
        if tree is None:
            raise ValueError("it has no JSON")
        return Glb(tree, binary)

    def item(self, kind: str, index: Any) -> dict[str, Any]:
        """`tree[kind][index]`. Raises ValueError where there is none."""
        items = self.tree.get(kind)
        whole = isinstance(index, int) and not isinstance(index, bool)
        if (
            not isinstance(items, list)
            or not whole
            or not 0 <= index < len(items)
            or not isinstance(items[index], dict)
        ):
            raise ValueError(f"there is no {kind}[{str(index)[:20]}]")
        return items[index]

    def rows(self, accessor: Any) -> int:
        """The number of rows of an accessor, which its buffer has."""
        return len(self._raw(self.item("accessors", accessor)))

    def array(self, accessor: Any, width: int) -> np.ndarray:
        """float32 [n width], normalized integers as fractions."""
        a = self.item("accessors", accessor)
        raw = self._raw(a)
        if raw.shape[1] != width:
            raise ValueError(f"an accessor of {raw.shape[1]} where {width} numbers are expected")
        values = raw.astype(np.float32)
        if a.get("normalized") is True and raw.dtype.kind in "iu":
            values = np.maximum(values / np.float32(np.iinfo(raw.dtype).max), -1)
        return values

    def _raw(self, a: dict[str, Any]) -> np.ndarray:
        if "sparse" in a or "bufferView" not in a:
            raise ValueError("a sparse accessor")
        view = self.item("bufferViews", a["bufferView"])
        if view.get("buffer", 0) != 0 or "uri" in self.item("buffers", 0):
            raise ValueError("a buffer in another file")
        dtype, width = np.dtype(_TYPES[a["componentType"]]), _WIDTHS[a["type"]]
        count, inside, start, size = (
            _whole(v) for v in (a["count"], a.get("byteOffset", 0), view.get("byteOffset", 0), view["byteLength"])
        )
        stride = _whole(view.get("byteStride", 0)) or dtype.itemsize * width
        if stride < dtype.itemsize * width or stride > 252:
            raise ValueError(f"a stride of {stride} bytes")
        end = inside + (stride * (count - 1) + dtype.itemsize * width if count else 0)
        if end > size or start + size > len(self.data):
            raise ValueError("an accessor reaches beyond its buffer")
        strides = (stride, dtype.itemsize)
        return np.ndarray((count, width), dtype, self.data, start + inside, strides)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise ValueError(f"{str(value)[:20]} is no whole number")
    if value < 0:
        raise ValueError(f"{str(value)[:20]} is below 0")
    return int(value)
