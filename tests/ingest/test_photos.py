"""A folder of photos: which files count, what their headers say, which are left out."""

from __future__ import annotations

import json
import math
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from splat.core.errors import SplatError
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read, reader_for
from splat.ingest.exif import focal_from_exif, read_info

R = TiffImagePlugin.IFDRational


def texture(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(
    path: Path,
    seed: int = 0,
    size: tuple[int, int] = (64, 48),
    orientation: int = 1,
    main: dict | None = None,
    exif: dict | None = None,
    gps: dict | None = None,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags.update(main or {})
    tags.get_ifd(0x8769).update(exif or {})
    tags.get_ifd(0x8825).update(gps or {})
    Image.fromarray(texture(seed, *size)).save(path, exif=tags, quality=95)
    return path


def test_every_common_format_is_read_and_other_files_are_not(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPEG", "c.png", "d.webp", "e.tif", "f.TIFF", "g.bmp"]
    for i, name in enumerate(names):
        save(tmp_path / name, i)
    for junk in ["._a.jpg", ".hidden.png", "notes.txt", "a.mask.png", "a.jpg.png", "masks/a.jpg.png"]:
        save(tmp_path / junk, 9) if junk.endswith(("g", "G")) else (tmp_path / junk).write_text("x")
    capture = read(tmp_path, ReadOptions(test_every=0))
    assert [v.name for v in capture.views] == names
    assert capture.source == "photos" and capture.kind == "photos" and not capture.posed
    for i, view in enumerate(capture.views):
        assert np.abs(view.load().rgb.astype(int) - texture(i)).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_gives_the_size_and_the_pixels_of_the_upright_photo(tmp_path: Path, orientation: int) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.jpg", i, orientation=orientation)
    view = read(tmp_path).views[1]
    expected = (48, 64) if orientation >= 5 else (64, 48)
    assert view.photo_size == expected == (view.camera.width, view.camera.height)
    stored = texture(1)
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1), 7: np.rot90(stored, 2).transpose(1, 0, 2), 8: np.rot90(stored),
    }[orientation]  # fmt: skip
    assert np.abs(view.load().rgb.astype(int) - upright).mean() < 6


def test_focal_length_of_the_35_mm_equivalent_compares_diagonals(tmp_path: Path) -> None:
    """28 mm on a 36 x 24 frame sees 2 atan(43.27 / 2 / 28) across the diagonal; so must the photo."""
    for i in range(2):
        save(
            tmp_path / f"{i}.jpg",
            i,
            (80, 60),
            6,
            {0x010F: "Apple", 0x0110: "iPhone 7"},
            {0xA405: 28, 0x920A: R(399, 100)},
        )
    view = read(tmp_path).views[0]
    angle = 2 * math.atan(math.hypot(60, 80) / 2 / view.camera.fx)
    assert angle == pytest.approx(2 * math.atan(math.hypot(36, 24) / 2 / 28), abs=1e-9)
    assert view.focal_from == "exif" and view.camera.fx == view.camera.fy
    assert (view.camera.cx, view.camera.cy) == (30, 40)


@pytest.mark.parametrize(
    ("name", "exif", "size", "expected"),
    [
        # the sensor's resolution: 5.4 mm at 3106.8 pixels per inch of a 640 px photo, and of its half
        ("Canon PowerShot A10", {0x920A: R(27, 5), 0xA20E: R(31068, 10), 0xA210: 2, 0xA002: 640}, (640, 480), 660.5),
        ("Canon PowerShot A10", {0x920A: R(27, 5), 0xA20E: R(31068, 10), 0xA210: 2, 0xA002: 640}, (320, 240), 330.2),
        ("any", {0x920A: R(50, 1), 0xA20E: R(2000, 1), 0xA210: 3}, (6000, 4000), 10000.0),
        # the table of sensors
        ("NIKON D3200", {0x920A: R(40, 1)}, (3008, 2000), 40 / 23.5 * 3008),
        ("Canon EOS 5D Mark II", {0x920A: R(35, 1)}, (5616, 3744), 35 / 36 * 5616),
        ("Canon EOS 450D", {0x920A: R(18, 1)}, (4272, 2848), 18 / 22.3 * 4272),
        ("SONY ILCE-7M3", {0x920A: R(35, 1)}, (6000, 4000), 35 / 35.8 * 6000),
        ("SONY ILCE-6000", {0x920A: R(35, 1)}, (6000, 4000), 35 / 23.5 * 6000),
        # a wrong sensor resolution loses against the 35 mm equivalent
        ("any", {0x920A: R(4, 1), 0xA20E: R(72, 1), 0xA405: 36}, (3600, 2400), 3600.0),
        # what no camera has is not believed
        ("any", {0xA405: 0, 0x920A: R(0, 1)}, (640, 480), None),
        ("any", {0x920A: R(1, 0), 0xA405: "wide"}, (640, 480), None),
        ("any", {0xA405: 5000}, (640, 480), None),
        ("unknown camera", {0x920A: R(5, 1)}, (640, 480), None),
    ],
)  # fmt: skip
def test_focal_length_from_exif(name: str, exif: dict, size: tuple[int, int], expected: float | None) -> None:
    focal, _ = focal_from_exif(name, exif, size)
    assert focal == (None if expected is None else pytest.approx(expected, rel=1e-3))


def test_without_exif_the_focal_length_is_a_guess_of_the_long_side(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"{i}.png", i, (30, 50))
    view = read(tmp_path).views[0]
    assert view.focal_from == "guess" and view.camera.fx == pytest.approx(60.0)


def test_views_share_intrinsics_when_body_lens_and_size_agree(tmp_path: Path) -> None:
    phone, wide = {0x010F: "Apple", 0x0110: "iPhone 7"}, {0xA405: 14}
    save(tmp_path / "0.jpg", 0, main=phone, exif={0xA405: 28})
    save(tmp_path / "1.jpg", 1, main=phone, exif={0xA405: 28})
    save(tmp_path / "2.jpg", 2, main=phone, exif=wide)
    save(tmp_path / "3.jpg", 3, main=phone, exif={0xA405: 28}, orientation=6)
    save(tmp_path / "4.jpg", 4, main={0x010F: "Canon", 0x0110: "Canon EOS R"}, exif={0xA405: 28})
    save(tmp_path / "5.jpg", 5, main=phone, exif={0xA405: 28}, size=(32, 24))
    groups = [v.camera_group for v in read(tmp_path).views]
    assert groups[0] == groups[1] and len(set(groups)) == 5


def test_gps_is_read_in_degrees_and_metres(tmp_path: Path) -> None:
    def place(lat: float, lon: float, up: float) -> dict:
        def dms(v: float) -> tuple:
            seconds = round(abs(v) * 3600 * 10000)
            return R(seconds // 36_000_000, 1), R(seconds // 600_000 % 60, 1), R(seconds % 600_000, 10000)

        return {
            1: "NS"[lat < 0],
            2: dms(lat),
            3: "EW"[lon < 0],
            4: dms(lon),
            5: bytes([up < 0]),
            6: R(round(abs(up) * 100), 100),
        }

    save(tmp_path / "0.jpg", 0)
    save(tmp_path / "1.jpg", 1, gps=place(-33.85, -70.6, 500))
    save(tmp_path / "2.jpg", 2, gps=place(-33.849, -70.6, 510))
    save(tmp_path / "3.jpg", 3, gps=place(-33.85, -70.599, 490))
    save(tmp_path / "4.jpg", 4, gps={2: (R(1, 0), R(0, 1), R(0, 1))})
    gps = [v.gps for v in read(tmp_path).views]
    assert gps[0] is None and gps[4] is None
    assert gps[1] == pytest.approx((-33.85, -70.6, 500), abs=1e-6)
    assert gps[2] == pytest.approx((-33.849, -70.6, 510), abs=1e-6)
    assert gps[3] == pytest.approx((-33.85, -70.599, 490), abs=1e-6)


def test_the_photo_folder_is_found(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "a" / "images" / f"{i}.png", i)
        save(tmp_path / "b" / "cam1" / f"{i}.png", i)
        save(tmp_path / "b" / "cam2" / f"{i}.png", i + 3)
        save(tmp_path / "c" / f"{i}.png", i)
        save(tmp_path / "d" / "images_4" / f"{i}.png", i)
        save(tmp_path / "d" / "images_2" / f"{i}.png", i, (128, 96))
    save(tmp_path / "c" / "thumbnails" / "0.png", 7)
    save(tmp_path / "a" / "preview.png", 7)
    assert [v.name for v in read(tmp_path / "a").views] == ["0.png", "1.png", "2.png"]
    assert [v.name for v in read(tmp_path / "b").views] == [f"cam{c}/{i}.png" for c in (1, 2) for i in range(3)]
    assert [v.name for v in read(tmp_path / "c").views] == ["0.png", "1.png", "2.png"]
    assert read(tmp_path / "d").views[0].photo_size == (128, 96)
    assert read(tmp_path / "d", ReadOptions(images="images_4")).views[0].photo_size == (64, 48)
    with pytest.raises(SplatError, match=r"images_3.*images_2, images_4"):
        read(tmp_path / "d", ReadOptions(images="images_3"))


def test_a_photo_that_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / f"{i}.jpg", i, (400, 300))
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3a.jpg").write_text("no photo at all")
    whole = save(tmp_path / "5.png", 5, (400, 300)).read_bytes()
    (tmp_path / "5.png").write_bytes(whole[: len(whole) // 2])
    report = Silent()
    capture = read(tmp_path, ReadOptions(test_every=0), report)
    assert [v.name for v in capture.views] == ["0.jpg", "3.jpg", "4.jpg"]
    for name, why in {"1.jpg": "truncated", "2.jpg": "empty", "3a.jpg": "not an image", "5.png": ""}.items():
        (warning,) = [w for w in report.warnings if name in w]
        assert why in warning and "left out" in warning
    assert len(report.warnings) == 4


def test_copies_and_blank_photos_are_left_out(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.jpg", i)
    (tmp_path / "1 (copy).jpg").write_bytes((tmp_path / "1.jpg").read_bytes())
    Image.new("RGB", (64, 48), (3, 3, 3)).save(tmp_path / "cap.jpg")
    report = Silent()
    capture = read(tmp_path, ReadOptions(test_every=0), report)
    assert [v.name for v in capture.views] == ["0.jpg", "1 (copy).jpg", "2.jpg"]
    assert any("1.jpg" in w and "same picture as 1 (copy).jpg" in w for w in report.warnings)
    assert any("cap.jpg" in w and "flat colour" in w for w in report.warnings)


def test_hundreds_of_bad_files_make_a_few_warnings(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.jpg", i)
    for i in range(40):
        (tmp_path / f"bad{i:02d}.jpg").write_bytes(b"")
    report = Silent()
    assert len(read(tmp_path, ReadOptions(), report).views) == 3
    assert len(report.warnings) == 5 and "36 more" in report.warnings[-1]


def test_what_holds_no_scene_is_one_sentence_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "one" / "a.jpg")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "DSC_1.NEF").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("hello")
    save(tmp_path / "broken" / "a.jpg")
    (tmp_path / "broken" / "b.jpg").write_bytes((tmp_path / "broken" / "a.jpg").read_bytes()[:700])
    for path, said in {
        "gone": "does not exist",
        "empty": "no files",
        "one": "only one usable photo",
        "one/a.jpg": "single photo",
        "raw": "export them as JPEG",
        "notes.txt": "neither a folder of photos, a video, nor a dataset",
        "broken": r"only one usable photo \(1 cannot be used\)",
    }.items():
        with pytest.raises(SplatError, match=said) as caught:
            read(tmp_path / path)
        assert path.split("/")[0] in str(caught.value) and "\n" not in str(caught.value)


def test_every_eighth_photo_by_name_is_held_out(tmp_path: Path) -> None:
    for i in range(18):
        save(tmp_path / f"{i:02d}.png", i)
    assert [v.name for v in read(tmp_path).test_views] == ["00.png", "08.png", "16.png"]
    assert [v.name for v in read(tmp_path, ReadOptions(test_every=6)).test_views] == ["00.png", "06.png", "12.png"]
    assert read(tmp_path, ReadOptions(test_every=None)).test_views == ()
    with pytest.raises(SplatError, match="--test-every 1"):
        read(tmp_path, ReadOptions(test_every=1))


def test_a_split_file_is_honoured(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / "photos_4" / f"{i}.png", i)

    def roles(split: object) -> dict[str, str]:
        (tmp_path / "split.json").write_text(split if isinstance(split, str) else json.dumps(split))
        return {v.name: v.role for v in read(tmp_path, ReadOptions(), report).views}

    report = Silent()
    everything = {"images": "photos_4", "train": ["0.png", "2.jpg", "3"], "test": ["1.png", "9.png"]}
    assert roles(everything) == {"0.png": "train", "1.png": "test", "2.png": "train", "3.png": "train"}
    assert any("1 photos that do not exist (first: 9.png)" in w for w in report.warnings)
    assert [n for n, r in roles({"images": "photos_4", "test": ["5.png"]}).items() if r == "test"] == ["5.png"]
    assert [n for n, r in roles({"images": "photos_4"}).items() if r == "test"] == ["0.png"]
    for split, said in [
        ('{"train": [', r"split\.json is not valid JSON \(line 1"),
        ("[1, 2]", "an object is expected"),
        ({"images": "photos_4", "train": ["0.png"], "test": ["0.png"]}, "0.png under both"),
        ({"images": "photos_4", "train": [], "test": ["0.png"]}, "leaves no photo to train on"),
        ({"images": "photos_4", "train": "0.png"}, '"train" that is no list'),
        ({"images": "images_9"}, "images_9 contains no photos"),
    ]:
        with pytest.raises(SplatError, match=said):
            roles(split)


def test_heic_without_its_reader_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for i in range(2):
        (tmp_path / f"{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(SplatError, match=r"pip install splat3d\[heif\]"):
        read(tmp_path)


def test_accepting_never_looks_at_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):
        save(tmp_path / f"{i}.jpg", i)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a photo was opened"))
    assert reader_for(tmp_path).name == "photos"


@pytest.mark.parametrize("late", [False, True], ids=["before the pixels", "behind the pixels"])
def test_exif_of_a_png_is_read_without_decoding_it_wherever_it_stands(
    tmp_path: Path, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path, exif=exif)
    if late:
        data = path.read_bytes()
        start = data.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    else:
        monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    info = read_info(path)
    assert not isinstance(info, str) and info.orientation == 6 and info.size == (48, 64)


def test_a_png_that_claims_a_billion_pixels_is_left_out_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[20:24] = (300_000_000).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    text = b"tEXtkey\0value"
    data[-12:-12] = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    path.write_bytes(data)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    info = read_info(path)
    assert not isinstance(info, str) and info.size == (64, 300_000_000)
