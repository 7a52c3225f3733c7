"""Depth maps in files: every format gives the same values, and a damaged file is one sentence."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from splat.core.camera import Camera, Lens
from splat.core.depth_file import read_depth, resampled_depth
from splat.core.errors import SplatError
from splat.core.lens import photo_positions

VALUES = (np.arange(12, dtype=np.float32).reshape(3, 4) + 1) * 100
HOLED = VALUES.copy()
HOLED[0, 0] = 0


def encoded(suffix: str, values: np.ndarray) -> bytes:
    if suffix in (".npy", ".npz"):
        file = io.BytesIO()
        np.save(file, values) if suffix == ".npy" else np.savez(file, depth=values, other=np.zeros(3))
        return file.getvalue()
    return cv2.imencode(suffix, values)[1].tobytes()


@pytest.mark.parametrize(
    ("suffix", "convert"),
    [
        (".png", lambda v: v.astype(np.uint16)),
        (".png", lambda v: np.dstack([v.astype(np.uint16)] * 3)),
        (".png", lambda v: (v / 100).astype(np.uint8)),
        (".tiff", lambda v: v),
        (".tiff", lambda v: v.astype(np.float64)),
        (".tiff", lambda v: v.astype(np.uint16)),
        (".pfm", lambda v: v),
        (".npy", lambda v: v),
        (".npy", lambda v: v.astype(np.float16)[None, :, :, None]),
        (".npy", lambda v: np.asfortranarray(v.astype(np.float64))),
        (".npz", lambda v: v.astype(np.int32)),
    ],
)
def test_every_format_gives_the_values_and_zero_is_unknown(tmp_path: Path, suffix: str, convert: Callable) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix, convert(HOLED)))
    found = read_depth(path)
    assert found.dtype == np.float32 and np.isnan(found[0, 0])
    assert np.allclose(found.reshape(-1)[1:] / found[0, 1], VALUES.reshape(-1)[1:] / VALUES[0, 1], rtol=1e-3)


def test_what_is_no_number_infinite_or_below_zero_is_unknown(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[0] = (np.nan, np.inf, -np.inf, -3)
    for suffix in (".npy", ".tiff"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(encoded(suffix, values))
        assert np.isnan(read_depth(path)).sum() == 4
    path = tmp_path / "wide.tiff"
    path.write_bytes(encoded(".tiff", values.astype(np.float64)))
    assert np.isnan(read_depth(path)).sum() == 4


def bomb() -> bytes:
    """A .npz that unpacks to a gigabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        with z.open("depth.npy", "w", force_zip64=True) as f:
            for _ in range(300):
                f.write(bytes(2**20))
    return file.getvalue()


HOSTILE: dict[str, bytes] = {
    "empty.npy": b"",
    "cut.npy": encoded(".npy", VALUES)[:-5],
    "lies.npy": encoded(".npy", VALUES).replace(b"(3, 4)", b"(3, 9)"),
    "object.npy": encoded(".npy", VALUES).replace(b"<f4", b"|O8"),
    "cube.npy": encoded(".npy", np.zeros((3, 4, 5), np.float32)),
    "row.npy": encoded(".npy", np.zeros(4, np.float32)),
    "several.npz": b"PK\x03\x04" + b"\0" * 60,
    "bomb.npz": bomb(),
    "cut.png": encoded(".png", VALUES.astype(np.uint16))[:40],
    "colours.png": encoded(".png", np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)),
    "huge.png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 60_000, 60_000, 16, 0, 0, 0, 0, 0),
    "cut.tiff": encoded(".tiff", VALUES)[:60],
    "noise.tif": b"II*\0" + bytes(range(256)),
    "text.npy": b"hello",
    "a.exr": b"\x76\x2f\x31\x01" + b"\0" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    with pytest.raises(SplatError) as error:
        read_depth(path)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_surface_is_interpolated_and_an_edge_is_not() -> None:
    """Values between two surfaces are of neither."""
    ramp = np.tile(np.linspace(1, 2, 101, dtype=np.float32), (50, 1))
    y, x = np.meshgrid(np.linspace(0, 49, 80), np.linspace(0, 100, 307), indexing="ij")
    assert np.allclose(resampled_depth(ramp, x, y), 1 + x / 100, atol=1e-4)
    step = np.where(np.arange(101) < 50, np.float32(1), np.float32(3))[None].repeat(50, 0)
    assert set(np.unique(resampled_depth(step, x, y).round(5))) == {1.0, 3.0}


def test_what_is_unknown_or_outside_does_not_spread() -> None:
    values = np.full((20, 20), 2, np.float32)
    values[:, 10:] = np.nan
    y, x = np.meshgrid(np.full(1, 5.0), np.array([-3.0, 0.0, 9.4, 9.6, 30.0]), indexing="ij")
    assert np.array_equal(resampled_depth(values, x, y)[0], [np.nan, 2, 2, np.nan, np.nan], equal_nan=True)


def test_positions_of_a_smaller_map_are_those_of_the_same_places() -> None:
    x, y = photo_positions(Camera(50.0, 50.0, 20.0, 15.0, 40, 30), 20, 15)
    assert x[0, 0] == -0.25 and x[0, -1] == 19.25 and y[-1, 0] == 14.25


def test_a_lens_is_taken_out_of_depth_as_it_is_of_the_photo() -> None:
    lens = Lens("SIMPLE_RADIAL", (50.0, 20.0, 15.0, 0.2), 40, 30)
    camera = Camera(50.0, 50.0, 20.0, 15.0, 40, 30, lens)
    x, _ = photo_positions(camera, 80, 60)
    u = (0.5 - 20) / 50  # the first column of the middle row
    v = (15.5 - 15) / 50
    expected = 2 * (50 * u * (1 + 0.2 * (u * u + v * v)) + 20) - 0.5
    assert abs(x[15, 0] - expected) < 1e-3
