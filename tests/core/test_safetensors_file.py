"""Tensors in a file that executes nothing."""

from __future__ import annotations

import json
import struct

import pytest
import torch

from splat.core import safetensors_file
from splat.core.errors import SplatError


def test_tensors_come_back() -> None:
    tensors = {"b": torch.randn(2, 3), "a": torch.randn(4), "scalar": torch.tensor(2.5), "none": torch.zeros(0, 2)}
    data = safetensors_file.to_bytes(tensors, {"licence": "x"})
    found = safetensors_file.from_bytes(data, "x")
    assert set(found) == set(tensors)
    assert all(torch.equal(found[n], t) and found[n].shape == t.shape for n, t in tensors.items())
    assert data == safetensors_file.to_bytes(dict(reversed(tensors.items())), {"licence": "x"})


def test_the_layout_is_the_published_one() -> None:
    header = json.dumps({"t": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    data = struct.pack("<Q", len(header)) + header + b"\x00\x3c\x00\xc0"
    assert safetensors_file.from_bytes(data, "x")["t"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    "row",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "O", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
        {"shape": [2]},
        [],
    ],
)
def test_places_that_are_not_there_are_one_sentence(row: object) -> None:
    header = json.dumps({"t": row}).encode()
    with pytest.raises(SplatError, match="is not a safetensors file"):
        safetensors_file.from_bytes(struct.pack("<Q", len(header)) + header + bytes(8), "w.safetensors")


def test_a_cut_file_is_one_sentence() -> None:
    data = safetensors_file.to_bytes({"t": torch.ones(3)})
    for length in (0, 7, 20, len(data) - 1):
        with pytest.raises(SplatError, match=r"w\.safetensors is not a safetensors file"):
            safetensors_file.from_bytes(data[:length], "w.safetensors")
    with pytest.raises(SplatError, match="header is longer"):
        safetensors_file.from_bytes(struct.pack("<Q", 2**62) + bytes(20), "w.safetensors")
