"""Colours and depths of pixels: every photo of a capture becomes comparable 8-bit sRGB."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import street
from noting import Noting
from PIL import Image, ImageCms

from splat.core.image import mask_share, read_pixels
from splat.core.slots import ReadOptions
from splat.ingest import hdr_video, read
from splat.ingest.hdr_video import decoder_converts, mark_colours
from splat.ingest.video import extract_frames
from splat.run.capture_io import load_capture, save_capture


def clip(path: Path, frames: list[np.ndarray]) -> Path:
    h, w = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (w, h))
    for picture in frames:
        writer.write(picture)
    writer.release()
    return path


def deep(folder: Path, top: int, colours: bool, suffix: str = ".png", dim: int = -1) -> list[np.ndarray]:
    """Photos of 16 bits whose white is `top`; the one at `dim` has a third of the light."""
    folder.mkdir(exist_ok=True)
    originals = []
    for i, view in enumerate(street.street()):
        bgr = (view.bgr / (3 if i == dim else 1)).astype(np.uint8)
        values = np.round(bgr / 255.0 * top).astype(np.uint16)
        cv2.imwrite(str(folder / f"{i}{suffix}"), values if colours else values[..., 1])
        originals.append(bgr[..., ::-1])
    return originals


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize(("colours", "suffix"), [(True, ".png"), (False, ".png"), (True, ".tif"), (False, ".tif")])
def test_bits_in_use_are_those_of_all_photos_together(tmp_path: Path, bits: int, colours: bool, suffix: str) -> None:
    originals = deep(tmp_path / "p", 2**bits - 1, colours, suffix, dim=3)
    note = Noting()
    capture = read(tmp_path / "p", ReadOptions(), note)
    assert len(capture.views) == 8 and not note.warnings
    assert any(f"use {bits} of their 16 bits" in line for line in note.lines)
    for view, rgb in zip(capture.views, originals):
        got = view.load().rgb.astype(int)
        assert np.abs(got - (rgb if colours else rgb[..., 1:2])).max() <= 1, "the dim photo stays dim"


def test_photos_that_use_all_sixteen_bits_are_read_as_the_format_says(tmp_path: Path) -> None:
    deep(tmp_path / "p", 65535, colours=True)
    assert {v.white for v in read(tmp_path / "p").views} == {None}


def test_the_bits_in_use_survive_in_a_run_folder(tmp_path: Path) -> None:
    deep(tmp_path / "p", 4095, colours=True)
    save_capture(tmp_path, read(tmp_path / "p"))
    assert {v.white for v in load_capture(tmp_path).views} == {4095.0}


@pytest.mark.parametrize("colours", [True, False])
def test_a_photo_of_one_colour_is_left_out_whatever_its_depth(tmp_path: Path, colours: bool) -> None:
    deep(tmp_path / "p", 1023, colours)
    flat = np.full((street.HEIGHT, street.WIDTH), 500, np.uint16)
    cv2.imwrite(str(tmp_path / "p" / "flat.png"), cv2.merge([flat] * 3) if colours else flat)
    note = Noting()
    assert len(read(tmp_path / "p", ReadOptions(), note).views) == 8
    assert any("flat.png" in line and "one flat colour" in line for line in note.warnings)


def test_a_pgm_says_its_white_itself(tmp_path: Path) -> None:
    """All of the photos are dark: a fifth of the white that their headers name."""
    for i, view in enumerate(street.street()):
        grey = (view.bgr[..., 1] // 5 * np.uint16(257)).astype(">u2")
        head = f"P5 {street.WIDTH} {street.HEIGHT} 65535\n".encode()
        (tmp_path / f"{i}.pgm").write_bytes(head + grey.tobytes())
    for i, view in enumerate(read(tmp_path, ReadOptions(test_every=0)).views):
        expected = street.street()[i].bgr[..., 1:2].astype(int) // 5
        assert view.white is None and np.abs(view.load().rgb - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_bits_are_turned_as_eight_are(tmp_path: Path, orientation: int) -> None:
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 800
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / "deep.png", exif=exif)
    Image.fromarray(np.round(values / 4095 * 255).astype(np.uint8)).save(tmp_path / "plain.png", exif=exif)
    for as_stored in (False, True):
        found = read_pixels(tmp_path / "deep.png", as_stored=as_stored, white=4095.0)
        np.testing.assert_array_equal(found[..., 0], read_pixels(tmp_path / "plain.png", as_stored=as_stored)[..., 0])


def test_floats_of_all_photos_have_one_white(tmp_path: Path) -> None:
    """Colours in floats, which Pillow does not open; one photo is so dim that alone it would end at 1."""
    for i, view in enumerate(street.street()):
        values = view.bgr.astype(np.float32) / (255 if i == 2 else 1)
        cv2.imwrite(str(tmp_path / f"{i}.tif"), values)
    views = read(tmp_path, ReadOptions(test_every=0)).views
    assert len(views) >= 7
    for view in views:
        i = int(view.name[0])
        expected = street.street()[i].bgr[..., ::-1] / (255 if i == 2 else 1)
        assert np.abs(view.load().rgb - expected).max() <= 1


def profile_of_wide_colours() -> bytes:
    """sRGB's own profile with the primaries of Display P3."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    p3 = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for k in range(struct.unpack_from(">I", data, 128)[0]):
        tag, at, _ = struct.unpack_from(">4sII", data, 132 + 12 * k)
        if tag in p3:
            struct.pack_into(">3i", data, at + 8, *(round(v * 65536) for v in p3[tag]))
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_wide_colours_become_srgb_and_srgb_stays_to_the_bit(tmp_path: Path, mode: str) -> None:
    rgb = np.ascontiguousarray(street.street()[0].bgr[..., ::-1])
    image = Image.fromarray(rgb).convert(mode)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("plain", None), ("srgb", srgb), ("wide", profile_of_wide_colours()), ("bad", b"no profile")):
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
    plain, wide = read_pixels(tmp_path / "plain.png"), read_pixels(tmp_path / "wide.png")
    for same in ("srgb", "bad"):
        np.testing.assert_array_equal(read_pixels(tmp_path / f"{same}.png"), plain)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile_of_wide_colours()))
    expected = ImageCms.profileToProfile(Image.fromarray(rgb), source, ImageCms.createProfile("sRGB"), 1)
    assert expected is not None and np.abs(plain.astype(int) - wide).max() > 8
    assert np.abs(wide[..., :3].astype(int) - np.asarray(expected)).max() <= 1
    if mode == "RGBA":
        assert (wide[..., 3] == 255).all()


def profile_of_grey_inks() -> bytes:
    """A printer whose four inks are all the same grey: CMYK to Lab by a table of two steps per ink (ICC.1, `mft1`)."""
    ramp, identity = bytes(range(256)), struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    corners = b"".join(bytes((255 - 60 * i.bit_count(), 128, 128)) for i in range(16))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + 4 * ramp + corners + 3 * ramp
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    head = bytearray(128)
    struct.pack_into(">I", head, 0, 144 + len(table))
    head[8:10], head[12:24], head[36:40] = b"\x02\x10", b"prtrCMYKLab ", b"acsp"
    struct.pack_into(">3i", head, 68, 63190, 65536, 54061)
    return bytes(head) + tags + table


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_inks_of_a_printer_become_srgb(tmp_path: Path, suffix: str) -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for name, profile in (("plain", None), ("printer", profile_of_grey_inks())):
        cyan.save(tmp_path / (name + suffix), icc_profile=profile)
    assert read_pixels(tmp_path / f"plain{suffix}")[8, 8].tolist() == [0, 255, 255]
    # L* = 195 / 255 * 100
    assert np.abs(read_pixels(tmp_path / f"printer{suffix}")[8, 8].astype(int) - 188).max() <= 2


def test_profiles_of_photos_in_sixteen_bits_are_applied(tmp_path: Path) -> None:
    rgb = np.ascontiguousarray(street.street()[0].bgr[..., ::-1])
    wide = profile_of_wide_colours()
    Image.fromarray(rgb).save(tmp_path / "plain.png", icc_profile=wide)
    cv2.imwrite(str(tmp_path / "deep.png"), np.round(rgb[..., ::-1] / 255.0 * 4095).astype(np.uint16))
    data = (tmp_path / "deep.png").read_bytes()
    body = b"iCCPa\0\0" + zlib.compress(wide)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "deep.png").write_bytes(data[:33] + chunk + data[33:])  # after the header of the picture
    expected = read_pixels(tmp_path / "plain.png").astype(int)
    assert np.abs(expected - rgb).max() > 8
    assert np.abs(read_pixels(tmp_path / "deep.png", white=4095.0) - expected).max() <= 1


def test_other_labels_than_the_first_hundred_count_as_white(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 127, 128], [300, 5000, 30000, 0]], np.uint16)
    cv2.imwrite(str(tmp_path / "m.png"), labels)
    assert mask_share(tmp_path / "m.png", invert=False) == (0.75, True)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_labels_of_masks_in_sixteen_bits_count_as_white(tmp_path: Path, suffix: str) -> None:
    street.write_photos(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    mask = np.zeros((street.HEIGHT, street.WIDTH), np.uint16)
    mask[90:270, 120:360] = 1
    for i in range(8):
        cv2.imwrite(str(tmp_path / "masks" / f"{i}{suffix}"), mask)
    weight = read(tmp_path).views[0].load().weight
    assert weight is not None and (weight > 127).mean() == pytest.approx(0.25, abs=0.01)


def test_masks_in_the_folders_of_two_cameras_stay_with_them(tmp_path: Path) -> None:
    street.write_photos(tmp_path, [f"{'left' if i < 4 else 'right'}/{i % 4}.jpg" for i in range(8)])
    for camera, start in (("left", 0), ("right", 240)):
        (tmp_path / camera / "masks").mkdir()
        mask = np.zeros((street.HEIGHT, street.WIDTH), np.uint8)
        mask[:, start : start + 240] = 255
        for i in range(4 if camera == "left" else 2):
            cv2.imwrite(str(tmp_path / camera / "masks" / f"{i}.png"), mask)
    masks = {v.name: v.mask_path for v in read(tmp_path, ReadOptions(test_every=0)).views}
    assert len(masks) == 8
    for name, mask_path in masks.items():
        camera = name.split("/")[0]
        if camera == "left" or name[-5] in "01":
            assert mask_path is not None and mask_path.parent.parent.name == camera
        else:
            assert mask_path is None


def test_masks_of_a_folder_are_those_of_the_folders_below(tmp_path: Path) -> None:
    names = [f"{'' if i < 4 else 'closer/'}{i}" for i in range(8)]
    street.write_transforms(tmp_path, [f"images/{name}.jpg" for name in names])
    (tmp_path / "images" / "masks" / "closer").mkdir(parents=True)
    mask = np.full((street.HEIGHT, street.WIDTH), 255, np.uint8)
    mask[:90] = 0
    for name in names:
        cv2.imwrite(str(tmp_path / "images" / "masks" / f"{name}.png"), mask)
    views = read(tmp_path, ReadOptions(test_every=0)).views
    assert len(views) == 8 and all(v.mask_path is not None for v in views)


SMOOTH = np.dstack([np.tile(np.linspace(*ends, 96), (64, 1)) for ends in ((20, 200), (90, 160), (180, 60))])


@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
@pytest.mark.parametrize("converts", [True, False])
def test_frames_in_hdr_are_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transfer: str, converts: bool
) -> None:
    """By OpenCV where it converts by itself, else here: never by both."""
    video = clip(tmp_path / "a.mp4", [SMOOTH.astype(np.uint8)] * 6)
    handed_out = cv2.VideoCapture(str(video)).read()[1].astype(int)
    monkeypatch.setattr("splat.ingest.video.decoder_converts", lambda: converts)
    monkeypatch.setattr("splat.ingest.video.transfer_of", lambda _: transfer)
    note = Noting()
    names = extract_frames(video, tmp_path / "frames", 6, note)["frames"]
    written = cv2.imread(str(tmp_path / "frames" / names[0])).astype(int)
    changed = np.abs(written - handed_out).mean()
    assert changed < 4 if converts else changed > 8
    assert any("HDR" in line and "sRGB" in line for line in note.lines)


@pytest.mark.slow  # FFmpeg prepares a conversion for seconds
def test_whether_the_decoder_converts_is_measured_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdr_video.decoder_converts.cache_clear()
    real = hdr_video.mark_colours
    monkeypatch.setattr(hdr_video, "mark_colours", lambda *a: None)  # as a decoder that takes no notice of the mark
    assert not decoder_converts()
    hdr_video.decoder_converts.cache_clear()
    monkeypatch.setattr(hdr_video, "mark_colours", real)
    grey = clip(tmp_path / "g.mp4", [np.full((64, 64, 3), 128, np.uint8)] * 3)
    mark_colours(grey, 9, 16, 9)
    found = cv2.VideoCapture(str(grey)).read()[1]
    assert decoder_converts() == (abs(float(found.mean()) - 128) > 15)
