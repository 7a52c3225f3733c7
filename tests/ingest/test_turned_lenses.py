"""A lens turned with its photo sees every point where the turned photo shows it; altitudes have a sign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from splat.core.camera import Lens
from splat.core.lens import PARAMETERS, rotated
from splat.ingest.exif import read_info

WIDTH, HEIGHT = 480, 360
VALUES = {
    "f": 300.0, "fx": 300.0, "fy": 312.0, "cx": 251.0, "cy": 163.0, "omega": 0.4, "k1": -0.08, "k2": 0.03, "k3": 0.01,
    "k4": -0.005, "k5": 0.004, "k6": 0.002, "p1": 0.012, "p2": -0.007, "sx1": 0.02, "sy1": -0.013,
}  # fmt: skip


def pixels_of(lens: Lens, points: np.ndarray) -> np.ndarray:
    camera = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    return np.asarray(camera.img_from_cam(points))


@pytest.mark.parametrize("model", PARAMETERS)
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_every_term_of_a_lens_turns_with_the_photo(model: str, orientation: int) -> None:
    lens = Lens(model, tuple(VALUES[name] for name in PARAMETERS[model].split()), WIDTH, HEIGHT)
    found = rotated(lens, orientation)
    assert not isinstance(found, str)
    turned, cam_from_turned = found
    points = np.random.default_rng(0).uniform([-0.6, -0.5, 1], [0.6, 0.5, 1.2], (50, 3))
    x, y = pixels_of(lens, points).T
    upright = {3: (WIDTH - x, HEIGHT - y), 6: (HEIGHT - y, x), 8: (y, WIDTH - x)}[orientation]
    in_turned = cam_from_turned.inverse().apply(torch.from_numpy(points)).numpy()
    assert (turned.width, turned.height) == ((WIDTH, HEIGHT) if orientation == 3 else (HEIGHT, WIDTH))
    np.testing.assert_allclose(pixels_of(turned, in_turned), np.stack(upright, 1), atol=1e-6)


@pytest.mark.parametrize(("reference", "altitude"), [(b"\0", 12.5), (b"\1", -12.5), (None, 12.5)])
def test_an_altitude_below_sea_is_negative(tmp_path: Path, reference: bytes | None, altitude: float) -> None:
    tags = Image.Exif()
    gps = {1: "N", 2: (31.0, 30.0, 0.0), 3: "E", 4: (35.0, 28.0, 0.0), 6: 12.5}
    tags.get_ifd(0x8825).update(gps if reference is None else gps | {5: reference})
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "a.jpg", exif=tags)
    info = read_info(tmp_path / "a.jpg")
    assert not isinstance(info, str) and info.gps == pytest.approx((31.5, 35 + 28 / 60, altitude))
