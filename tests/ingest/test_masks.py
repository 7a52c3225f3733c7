"""Masks are found by name, fit their photo, and say what they mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from layouts import Shot, make_scene, write_transforms
from PIL import Image

from splat.core.errors import SplatError
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read

W, H = 60, 40


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(4):
        path = tmp_path / "images" / f"IMG_{i}.JPG"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (H, W, 3), dtype=np.uint8)).save(path)
    return tmp_path


def half(path: Path, size: tuple[int, int] = (W, H)) -> Path:
    """White (use) on the left half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[:, : size[0] // 2] = 255
    Image.fromarray(mask).save(path)
    return path


@pytest.mark.parametrize(
    "name",
    ["masks/IMG_1.JPG.png", "masks/IMG_1.png", "masks/img_1.jpg", "masks/IMG_1.mask.png", "images/masks/IMG_1.png",
     "images/IMG_1.JPG.png", "images/IMG_1.mask.png"],
)  # fmt: skip
def test_a_mask_is_found_by_its_name_and_white_means_use(photos: Path, name: str) -> None:
    mask = half(photos / name)
    report = Silent()
    capture = read(photos, ReadOptions(), report)
    assert [v.mask_path for v in capture.views] == [None, mask, None, None]
    assert not report.warnings and len(capture.views) == 4
    weight = capture.views[1].load().weight
    assert weight is not None and (weight[:, : W // 2] == 255).all() and (weight[:, W // 2 :] == 0).all()


def test_masks_may_be_inverted_mean_empty_and_lie_anywhere(photos: Path, tmp_path: Path) -> None:
    for i in range(4):
        half(tmp_path / "elsewhere" / f"IMG_{i}.png", (30, 20))  # half the size: resized
    for folder in (tmp_path / "elsewhere", Path("elsewhere")):
        capture = read(photos, ReadOptions(masks=folder, invert_masks=True, mask_mode="empty"))
        photo = capture.views[3].load()
        assert photo.weight is None and photo.alpha is not None
        assert (photo.alpha[:, : W // 2 - 1] == 0).all() and (photo.alpha[:, W // 2 + 1 :] == 255).all()


def test_where_black_is_used_a_white_mask_leaves_its_photo_out_and_a_black_one_leaves_it_whole(photos: Path) -> None:
    for i in range(2):
        half(photos / "masks" / f"IMG_{i}.png")
    for i, value in ((2, 255), (3, 0)):
        Image.new("L", (W, H), value).save(photos / "masks" / f"IMG_{i}.png")
    report = Silent()
    capture = read(photos, ReadOptions(invert_masks=True), report)
    assert [v.name for v in capture.views] == ["IMG_0.JPG", "IMG_1.JPG", "IMG_3.JPG"]
    assert any("masked wholly" in w and "IMG_2.JPG" in w for w in report.warnings)
    weight = capture.views[2].load().weight
    assert weight is None or (weight == 255).all()


def test_a_mask_folder_that_matches_nothing_is_a_warning(photos: Path) -> None:
    half(photos / "masks" / "other.png")
    report = Silent()
    assert all(v.mask_path is None for v in read(photos, ReadOptions(), report).views)
    assert len(report.warnings) == 1
    assert "masks matches no photo" in report.warnings[0] and "IMG_0.JPG.png" in report.warnings[0]
    with pytest.raises(SplatError, match="nowhere is not a folder of masks"):
        read(photos, ReadOptions(masks=photos / "nowhere"))


def test_a_mask_that_cannot_belong_to_its_photo_is_left_out(photos: Path) -> None:
    half(photos / "masks" / "IMG_0.png", (H, W))
    half(photos / "masks" / "IMG_1.png")
    broken = half(photos / "masks" / "IMG_2.png")
    broken.write_bytes(broken.read_bytes()[:60])
    report = Silent()
    masks = [v.mask_path for v in read(photos, ReadOptions(), report).views]
    assert [m is not None for m in masks] == [False, True, False, False]
    assert "IMG_0.png is 40x60 where its photo is 60x40" in report.warnings[0]
    assert "IMG_2.png cannot be decoded" in report.warnings[1] and len(report.warnings) == 2


def test_transforms_json_names_its_masks(tmp_path: Path) -> None:
    scene = make_scene(Shot(60, 40, 50, 50, 30, 20), views=3)
    data = write_transforms(scene, tmp_path)
    scene.write_photos(tmp_path / "images")
    data["frames"][0]["mask_path"] = "silhouettes/a.png"  # frames are listed last photo first
    data["frames"][1]["mask_path"] = "silhouettes/gone.png"
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    mask = half(tmp_path / "silhouettes" / "a.png")
    report = Silent()
    assert [v.mask_path for v in read(tmp_path, ReadOptions(), report).views] == [None, None, mask]
    assert len(report.warnings) == 1 and "gone.png does not exist" in report.warnings[0]
