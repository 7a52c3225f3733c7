"""Photos and masks as people and their programs leave them: each is read, or named with what to do."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import street
from noting import Noting
from PIL import Image

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.image import read_pixels
from splat.core.slots import ReadOptions
from splat.ingest import read


def seen(folder: Path, **options: object) -> tuple[Capture, Noting]:
    note = Noting()
    return read(folder, ReadOptions(**options), note), note  # type: ignore[arg-type]


def eight(pattern: str) -> list[str]:
    return [pattern.format(i) for i in range(8)]


# ------------------------------------------------------------------------------------------------------ names of photos


USUAL = ["IMG_{}.HEIC.jpg", "IMG_{}.jpg.jpg", "{}.JPG", "{}.jpe", "{}.jfif", "gas_mask_{}.jpg", "mask {}.jpg"]
DEEP = ["DCIM/100MEDIA/DJI_{}.JPG", "keyframes/corrected_images/{}.jpg", "a/b/c/{}.jpg", "scan.2024/{}.1.jpg"]


@pytest.mark.parametrize("pattern", [*USUAL, *DEEP])
def test_photos_of_any_usual_name_and_depth_are_read(tmp_path: Path, pattern: str) -> None:
    street.write_photos(tmp_path, eight(pattern))
    assert len(seen(tmp_path)[0].views) == 8


def test_converters_names_count_beside_plain_ones(tmp_path: Path) -> None:
    street.write_photos(tmp_path, [f"IMG_{i}.jpg" if i % 2 else f"IMG_{i}.HEIC.jpg" for i in range(8)])
    assert len(seen(tmp_path)[0].views) == 8


@pytest.mark.parametrize("written", ["jpg", "png", "webp", "gif", "avif", "tif", "jp2", "bmp"])
def test_the_contents_decide_how_a_photo_is_read(tmp_path: Path, written: str) -> None:
    for i, view in enumerate(street.street()):
        image = Image.fromarray(view.bgr[..., ::-1].copy())
        formats = {"jpg": "JPEG", "jp2": "JPEG2000", "tif": "TIFF"}
        image.save(tmp_path / f"{i}.{'png' if i % 2 and written == 'jpg' else written}", formats.get(written, written))
    assert len(seen(tmp_path)[0].views) == 8


def test_a_card_with_two_folders_and_a_rig_are_one_capture(tmp_path: Path) -> None:
    street.write_photos(tmp_path, [f"DCIM/10{i // 4}MEDIA/DJI_{i}.JPG" for i in range(8)])
    assert len(seen(tmp_path)[0].views) == 8
    rig = tmp_path / "rig"
    street.write_photos(rig, [f"{'left' if i < 4 else 'right'}/{i % 4}.jpg" for i in range(8)])
    assert {v.name for v in seen(rig)[0].views} >= {"left/0.jpg", "right/0.jpg"}


COPIES = [
    ("images", "images_2"),
    ("images", "input"),
    ("original", "resized"),
    ("keyframes/corrected_images", "keyframes/images"),
    ("rgb", "rgb_small"),
    ("photos", "low"),
]


@pytest.mark.parametrize(("full", "small"), COPIES)
def test_copies_of_the_photos_in_other_folders_are_no_other_photos(tmp_path: Path, full: str, small: str) -> None:
    street.write_photos(tmp_path, eight(full + "/{}.jpg"))
    (tmp_path / small).mkdir()
    for i, view in enumerate(street.street()):
        cv2.imwrite(str(tmp_path / small / f"{i}.jpg"), view.bgr[::2, ::2])
    cv2.imwrite(str(tmp_path / "thumbnail.jpg"), street.street()[0].bgr[::4, ::4])
    capture, note = seen(tmp_path)
    assert len(capture.views) == 8 and all(full in str(v.image_path) for v in capture.views)
    assert all(v.photo_size == (street.WIDTH, street.HEIGHT) for v in capture.views)
    assert any("not those of" in line for line in note.lines)


def test_raw_files_and_clips_without_a_photo_of_their_name_are_named(tmp_path: Path) -> None:
    street.write_photos(tmp_path, eight("IMG_{}.jpg"))
    for name in ("IMG_0.DNG", "IMG_77.DNG", "MOV_1.mp4", "scan.psd"):
        (tmp_path / name).write_bytes(b"x")
    said = " ".join(seen(tmp_path)[1].warnings)
    assert "IMG_77.DNG" in said and "MOV_1.mp4" in said and "scan.psd" in said and "IMG_0.DNG" not in said


def test_a_photo_that_may_not_be_read_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    street.write_photos(tmp_path)
    if os.geteuid() == 0:  # root may read everything: the opener says it as the system would
        real = Image.open
        monkeypatch.setattr(
            Image, "open", lambda p, *a, **k: _refuse() if str(p).endswith("3.jpg") else real(p, *a, **k)
        )
    else:
        (tmp_path / "3.jpg").chmod(0)
    capture, note = seen(tmp_path)
    assert len(capture.views) == 7 and any("3.jpg is left out" in w for w in note.warnings)


def _refuse() -> Image.Image:
    raise PermissionError(13, "Permission denied")


# ------------------------------------------------------------------------------------------------------------- contents


def test_lab_and_float_pictures_are_read(tmp_path: Path) -> None:
    rgb = street.street()[0].bgr[..., ::-1].copy()
    from PIL import ImageCms

    lab = ImageCms.profileToProfile(
        Image.fromarray(rgb), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.save(tmp_path / "lab.tif")
    assert np.abs(read_pixels(tmp_path / "lab.tif").astype(int) - rgb).mean() < 3
    Image.fromarray(rgb[..., 0].astype(np.float32) / 255).save(tmp_path / "f.tif")
    assert np.abs(read_pixels(tmp_path / "f.tif")[..., 0].astype(int) - rgb[..., 0]).max() <= 1


def bomb(path: Path, side: int) -> None:
    """A PNG of side x side black pixels in a few hundred bytes for each million."""
    row = zlib.compressobj(9)
    body = b"".join(row.compress(bytes(side + 1)) for _ in range(side)) + row.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    start = bytes([137]) + b"PNG" + bytes([13, 10, 26, 10])
    path.write_bytes(start + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def test_a_few_bytes_that_claim_many_pixels_are_not_decoded_unless_asked(tmp_path: Path) -> None:
    street.write_photos(tmp_path)
    bomb(tmp_path / "bomb.png", 8000)
    capture, note = seen(tmp_path)
    assert len(capture.views) == 8
    assert any("bomb.png" in w and "--max-pixels 64000000" in w for w in note.warnings)
    assert "flat colour" in " ".join(seen(tmp_path, max_pixels=64_000_000)[1].warnings)
    with pytest.raises(SplatError, match="usable"):
        seen(tmp_path, max_pixels=1000)


# ---------------------------------------------------------------------------------------------------------------- masks


def write_masks(folder: Path, names: list[str], mode: str = "L", inside: int = 255) -> None:
    """White (or `inside`) in the middle."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((street.HEIGHT, street.WIDTH), np.uint8)
    mask[90:270, 120:360] = inside
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).convert(mode).save(folder / name)


def used(capture: Capture, view: int = 0) -> float:
    weight = capture.views[view].load().weight
    assert weight is not None
    return float((weight > 127).mean())


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "1", "P"])
def test_a_mask_says_the_same_in_every_mode(tmp_path: Path, mode: str) -> None:
    street.write_photos(tmp_path / "images")
    write_masks(tmp_path / "masks", eight("{}.png"), mode)
    assert used(seen(tmp_path)[0]) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("label", [1, 2, 60])
def test_labels_count_as_white(tmp_path: Path, label: int) -> None:
    street.write_photos(tmp_path / "images")
    write_masks(tmp_path / "masks", eight("{}.png"), inside=label)
    capture, note = seen(tmp_path)
    assert used(capture) == pytest.approx(0.25, abs=0.01) and any("labels" in line for line in note.lines)


NAMES = ["{}_mask.png", "{}-mask.png", "{}.mask.png", "{}.jpg.png", "{}.jpg.mask.png", "mask_{}.png", "{}_MASK.PNG"]


@pytest.mark.parametrize("pattern", NAMES)
@pytest.mark.parametrize("where", ["masks", "beside"])
def test_masks_are_found_by_every_usual_name_and_are_no_photos(tmp_path: Path, pattern: str, where: str) -> None:
    street.write_photos(tmp_path, eight("{}.jpg"))
    write_masks(tmp_path if where == "beside" else tmp_path / "masks", eight(pattern))
    capture, note = seen(tmp_path)
    assert len(capture.views) == 8 and not note.warnings
    assert all(v.mask_path is not None for v in capture.views) and used(capture) == pytest.approx(0.25, abs=0.01)


def test_masks_of_two_cameras_with_equal_names_are_not_mixed(tmp_path: Path) -> None:
    street.write_photos(tmp_path / "images", [f"{'left' if i < 4 else 'right'}/{i % 4}.jpg" for i in range(8)])
    write_masks(tmp_path / "masks", [f"right/{i}.png" for i in range(4)])
    assert {v.name.split("/")[0] for v in seen(tmp_path)[0].views if v.mask_path} == {"right"}
    (tmp_path / "masks" / "right").rename(tmp_path / "flat")
    write_masks(tmp_path / "masks", [f"{i}.png" for i in range(4)])
    assert not any(v.mask_path for v in seen(tmp_path)[0].views), "masks/0.png may be that of left/0 or of right/0"


def test_accents_written_in_two_ways_are_one_name(tmp_path: Path) -> None:
    street.write_photos(tmp_path, eight("caf\u00e9{}.jpg"))
    write_masks(tmp_path / "masks", eight("cafe\u0301{}.png"))
    assert all(v.mask_path for v in seen(tmp_path)[0].views)


def test_where_masks_or_alpha_leave_nothing_that_is_the_error(tmp_path: Path) -> None:
    street.write_photos(tmp_path / "a" / "images")
    write_masks(tmp_path / "a" / "masks", eight("{}.png"), inside=0)
    with pytest.raises(SplatError, match=r"leave no pixel of 8 photos.*--invert-masks"):
        seen(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for i, view in enumerate(street.street()):
        Image.fromarray(np.dstack([view.bgr, np.zeros((street.HEIGHT, street.WIDTH), np.uint8)])).save(
            tmp_path / f"b/{i}.png"
        )
    with pytest.raises(SplatError, match="transparent everywhere"):
        seen(tmp_path / "b")


def test_one_wholly_masked_photo_is_left_out_and_named(tmp_path: Path) -> None:
    street.write_photos(tmp_path / "images")
    write_masks(tmp_path / "masks", eight("{}.png"))
    write_masks(tmp_path / "masks", ["5.png"], inside=0)
    capture, note = seen(tmp_path)
    assert len(capture.views) == 7 and any("5.jpg" in w for w in note.warnings)
