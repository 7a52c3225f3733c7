"""JPEG photos decoded at a reduced size: never smaller than asked for, however they are turned."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from splat.core.image import read_pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("wanted", [(100, 240), (240, 100), (80, 80)])
def test_a_turned_photo_is_reduced_as_far_as_its_upright_size_allows(
    tmp_path: Path, orientation: int, wanted: tuple[int, int]
) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    stored = cv2.resize(rough, (480, 320), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    width, height = (320, 480) if orientation >= 5 else (480, 320)
    share = max(s for s in (1, 2, 4, 8) if width // s >= wanted[0] and height // s >= wanted[1])
    reduced, whole = read_pixels(tmp_path / "a.jpg", wanted), read_pixels(tmp_path / "a.jpg")
    assert whole.shape == (height, width, 3) and reduced.shape == (height // share, width // share, 3)
    expected = cv2.resize(whole, (width // share, height // share), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - expected).mean() < 2
