"""Reading photos: orientation, depth of pixels, transparency, masks, resampling, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.image import load_photo, read_pixels, write_png
from splat.core.resampling import resize_area

RNG = np.random.default_rng(0)


def camera(width: int, height: int) -> Camera:
    return Camera(100.0, 100.0, width / 2, height / 2, width, height)


def photo(h: int = 12, w: int = 20) -> np.ndarray:
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, 1),
}
"""EXIF orientation -> what a viewer does with the stored pixels (TIFF 6.0, tag 274)."""


@pytest.mark.parametrize("orientation", TURNS)
def test_the_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = photo()
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    upright = TURNS[orientation](stored)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), upright)
    loaded = load_photo(tmp_path / "a.png", camera(upright.shape[1], upright.shape[0]))
    np.testing.assert_array_equal(loaded.rgb, upright)


def test_real_phone_photos_are_upright(data_root: Path) -> None:
    """Their sensor is landscape; orientation 6 makes the photo portrait."""
    folder = data_root / "monstree_exif" / "images"
    seen = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as raw:
            seen.setdefault(raw.getexif().get(274, 1), (path, raw.size))
    assert {1, 6} <= set(seen)
    for orientation, (path, (w, h)) in seen.items():
        expected = (w, h, 3) if orientation == 6 else (h, w, 3)
        assert read_pixels(path).shape == expected


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str) -> None:
    deep = RNG.integers(0, 65536, (9, 11, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"rgb{suffix}"), deep[..., ::-1])
    cv2.imwrite(str(tmp_path / f"grey{suffix}"), deep[..., 0])
    rgb, grey = read_pixels(tmp_path / f"rgb{suffix}"), read_pixels(tmp_path / f"grey{suffix}")
    assert rgb.dtype == grey.dtype == np.uint8
    assert np.abs(rgb - deep / 257.0).max() <= 1
    assert np.abs(grey - deep[..., :1] / 257.0).max() <= 1


def test_a_dark_sixteen_bit_photo_stays_dark(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "night.png"), np.full((4, 4), 200, np.uint16))
    assert read_pixels(tmp_path / "night.png").max() <= 1


@pytest.mark.parametrize("peak", [1.0, 255.0, 65535.0])
def test_floating_point_photos_tell_their_range(tmp_path: Path, peak: float) -> None:
    ramp = np.linspace(0, 1, 40, dtype=np.float32).reshape(4, 10)
    Image.fromarray(ramp * np.float32(peak)).save(tmp_path / "f.tif")
    np.testing.assert_allclose(read_pixels(tmp_path / "f.tif")[..., 1], ramp * 255, atol=1)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA"])
def test_every_pixel_mode_becomes_rgb_or_rgba(tmp_path: Path, mode: str) -> None:
    name = "a.tif" if mode == "CMYK" else "a.png"
    Image.fromarray(photo()).convert(mode).save(tmp_path / name)
    pixels = read_pixels(tmp_path / name)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (12, 20, 4 if mode in {"LA", "RGBA"} else 3)


def test_opaque_alpha_is_no_alpha(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([photo(), np.full((12, 20), 255, np.uint8)])).save(tmp_path / "a.png")
    assert load_photo(tmp_path / "a.png", camera(20, 12)).alpha is None


def test_transparent_pixels_lend_no_colour(tmp_path: Path) -> None:
    """Black behind alpha 0 must not darken the rim when four pixels become one."""
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, 1:4] = [200, 100, 50, 255]
    Image.fromarray(rgba).save(tmp_path / "a.png")
    small = load_photo(tmp_path / "a.png", camera(4, 4))
    np.testing.assert_array_equal(small.alpha[0], [128, 255, 0, 0])
    np.testing.assert_array_equal(small.rgb[0, :2], [[200, 100, 50]] * 2)


def test_compositing_and_shrinking_commute(tmp_path: Path) -> None:
    """What premultiplied averaging is for: on any background, the small photo is the average of the large."""
    rgba = RNG.integers(0, 256, (24, 36, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    small = load_photo(tmp_path / "a.png", camera(12, 8))
    for background in (0.0, 90.0, 255.0):
        cover = rgba[..., 3:] / 255.0
        large = (rgba[..., :3] * cover + background * (1 - cover)).reshape(8, 3, 12, 3, 3).mean((1, 3))
        alpha = small.alpha[..., None] / 255.0
        np.testing.assert_allclose(small.rgb * alpha + background * (1 - alpha), large, atol=1.5)


def test_shrinking_averages_areas() -> None:
    """An anti-aliased half: no pattern of the fine grid may turn into a coarse one."""
    fine = photo(40, 60)
    expected = fine.reshape(10, 4, 15, 4, 3).mean((1, 3))
    np.testing.assert_allclose(resize_area(fine, 15, 10), expected, atol=1)
    stripes = np.zeros((30, 30, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(resize_area(stripes, 15, 15)) <= 1


def mask_file(folder: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(folder / "mask.png")
    return folder / "mask.png"


def test_white_means_use_and_inversion_swaps(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.png")
    half = np.zeros((12, 20), np.uint8)
    half[:, :10] = 255
    mask = mask_file(tmp_path, half)
    used = load_photo(tmp_path / "a.png", camera(20, 12), mask)
    np.testing.assert_array_equal(used.weight, half)
    inverted = load_photo(tmp_path / "a.png", camera(20, 12), mask, invert_mask=True)
    np.testing.assert_array_equal(inverted.weight, 255 - half)
    assert used.alpha is None


def test_a_mask_of_another_size_is_fitted_without_grey(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.png")
    half = np.zeros((24, 40), np.uint8)
    half[:, :20] = 255
    weight = load_photo(tmp_path / "a.png", camera(20, 12), mask_file(tmp_path, half)).weight
    assert set(np.unique(weight)) == {0, 255}
    assert weight[:, :10].all() and not weight[:, 10:].any()


def test_a_mask_of_empty_space_is_alpha(tmp_path: Path) -> None:
    """Mode "empty": masked pixels are background like transparent ones, and lend no colour when shrunk."""
    pixels = np.full((8, 8, 3), 40, np.uint8)
    pixels[:, :3] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    keep = np.zeros((8, 8), np.uint8)
    keep[:, :3] = 255
    loaded = load_photo(tmp_path / "a.png", camera(4, 4), mask_file(tmp_path, keep), mask_mode="empty")
    assert loaded.weight is None
    np.testing.assert_array_equal(loaded.alpha[0], [255, 128, 0, 0])
    np.testing.assert_array_equal(loaded.rgb[0, :2], [[200] * 3] * 2)


def test_a_mask_of_empty_space_adds_to_the_photos_own_alpha(tmp_path: Path) -> None:
    rgba = np.full((4, 6, 4), 255, np.uint8)
    rgba[:2, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    keep = np.zeros((4, 6), np.uint8)
    keep[:, :3] = 255
    loaded = load_photo(tmp_path / "a.png", camera(6, 4), mask_file(tmp_path, keep), mask_mode="empty")
    expected = np.zeros((4, 6), np.uint8)
    expected[2:, :3] = 255
    np.testing.assert_array_equal(loaded.alpha, expected)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 not a photo", None])
def test_a_broken_photo_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.jpg"
    if content is None:  # cut in the middle
        Image.fromarray(photo(200, 300)).save(path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(SplatError, match=r"broken\.jpg cannot be read.*replace or remove"):
        read_pixels(path)


def test_a_missing_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(SplatError, match=r"gone\.png does not exist"):
        read_pixels(tmp_path / "gone.png")


@pytest.mark.parametrize("dtype,channels", [(np.uint8, 1), (np.uint8, 3), (np.uint16, 1)])
def test_written_pngs_come_back(tmp_path: Path, dtype: type, channels: int) -> None:
    top = np.iinfo(dtype).max + 1
    pixels = RNG.integers(0, top, (7, 5, channels), dtype=dtype)
    pixels = pixels[..., 0] if channels == 1 else pixels
    write_png(tmp_path / "out" / "a.png", pixels)
    back = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back[..., ::-1] if channels == 3 else back, pixels)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_read_quickly_is_the_same_to_two_grey_levels(tmp_path: Path, orientation: int) -> None:
    rough = cv2.resize(RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8), (480, 320), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(rough).save(tmp_path / "a.jpg", exif=exif, quality=95)
    size = (80, 120) if orientation == 6 else (120, 80)
    assert read_pixels(tmp_path / "a.jpg", (2 * size[0], 2 * size[1])).shape[:2] == (2 * size[1], 2 * size[0])
    assert read_pixels(tmp_path / "a.jpg", (2 * size[0] + 1, size[1])).shape == read_pixels(tmp_path / "a.jpg").shape
    whole, quick = (load_photo(tmp_path / "a.jpg", camera(*size), quick=q).rgb.astype(float) for q in (False, True))
    assert whole.shape == quick.shape and np.abs(whole - quick).mean() < 2


def test_photos_in_memory_are_not_read_again(tmp_path: Path) -> None:
    view = View("a", tmp_path / "a.png", (20, 12), camera(10, 6))
    write_png(tmp_path / "a.png", photo())
    read = view.load().rgb
    held = Capture((view,)).in_memory()
    (tmp_path / "a.png").unlink()
    np.testing.assert_array_equal(held.resized(10).views[0].load().rgb, read)
    with pytest.raises(SplatError, match="does not exist"):
        held.resized(8).views[0].load()
