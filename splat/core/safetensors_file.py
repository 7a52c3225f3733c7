"""Tensors in a `.safetensors` file: eight bytes with the length of a JSON header, the header, then the raw values.

The header names each tensor's type, shape and place; nothing of the file is executed, whatever it says. The format is
that of https://github.com/huggingface/safetensors, little-endian. Float32 is written; float32 and float16 are read.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.foreign import shown

_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_MAX_HEADER = 1 << 20


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file's contents. Same tensors and metadata, same bytes."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, at = [], 0
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().float().contiguous().numpy().astype("<f4", copy=False)
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        parts.append(value.tobytes())
        at += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values start at a multiple of eight bytes, as readers that map the file want
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def from_bytes(data: bytes, path: object) -> dict[str, Tensor]:
    """Float32 tensors on the CPU. Raises SplatError, naming `path`, where its contents are not those of such a file."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        if length > min(_MAX_HEADER, len(data) - 8):
            raise ValueError("its header is longer than the file")
        header = json.loads(data[8 : 8 + length])
        values = memoryview(data)[8 + length :]
        return {name: _tensor(row, values) for name, row in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        reason = shown(e)[:120] or type(e).__name__
        raise SplatError(f"{shown(path)} is not a safetensors file ({reason}): copy it again.") from None


def _tensor(row: dict[str, Any], values: memoryview) -> Tensor:
    kind, shape, (start, stop) = _TYPES[row["dtype"]], row["shape"], row["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (start, stop, *shape)):
        raise ValueError("a size is not a whole number")
    if stop > len(values) or stop - start != math.prod(shape) * kind.itemsize:
        raise ValueError("a tensor does not have the place it needs")
    return torch.from_numpy(np.frombuffer(values[start:stop], kind).astype(np.float32)).reshape(shape)
