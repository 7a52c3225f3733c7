"""`--object`: what changes from photo to photo is the object."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from noting import Noting

from splat.core.errors import SplatError
from splat.core.slots import ReadOptions
from splat.ingest import read
from splat.ingest.object_masks import changing, with_object_masks

H, W = 180, 240


def turntable(count: int, noise: float = 2.0, moving: bool = False) -> tuple[list[np.ndarray], np.ndarray]:
    """Photos of a textured ball that turns before noise that stays (or moves), and where the ball is."""
    rng = np.random.default_rng(0)
    background = cv2.GaussianBlur(rng.uniform(0, 255, (H, 3 * W, 3)).astype(np.float32), (0, 0), 3) * 1.5
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (H, 4 * W, 3)).astype(np.float32), (0, 0), 2) * 1.5
    y, x = np.mgrid[:H, :W]
    ball = (x - 130) ** 2 + (y - 95) ** 2 < 50**2
    photos = []
    for i in range(count):
        start = 9 * i if moving else 0
        picture = background[:, start : start + W].copy()
        picture[ball] = texture[:, 13 * i : 13 * i + W][ball]
        photos.append((picture + noise * rng.standard_normal(picture.shape)).clip(0, 255).astype(np.uint8))
    return photos, ball


def written(folder: Path, photos: list[np.ndarray]) -> Path:
    folder.mkdir()
    for i, photo in enumerate(photos):
        cv2.imwrite(str(folder / f"{i:02d}.png"), photo)
    return folder


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("count", [5, 20])
def test_what_changes_is_the_object_without_holes(noise: float, count: int) -> None:
    photos, ball = turntable(count, noise)
    found = changing(np.stack(photos)) > 0
    assert (found & ball).sum() > 0.98 * ball.sum() and (found & ~ball).sum() < 0.25 * ball.sum()


def test_views_get_the_mask_at_the_size_of_their_photos(tmp_path: Path) -> None:
    photos, ball = turntable(8)
    capture = read(written(tmp_path / "p", photos), ReadOptions())
    note = Noting()
    masked = with_object_masks(capture, tmp_path / "run" / "masks", note)
    weight = masked.views[0].load().weight
    assert weight is not None and weight.shape == (H, W)
    assert ((weight > 127) & ball).sum() > 0.98 * ball.sum() and weight[5, 5] == 0
    assert any("% of the picture" in line for line in note.lines)


def test_what_the_object_uncovers_is_background(tmp_path: Path) -> None:
    """A ball that also goes to and fro: each photo's mask is the ball where it is, with its flat middle."""
    background = turntable(1, 0.0)[0][0]
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:H, :W]
    photos, balls = [], []
    for i in range(16):
        inside = (x - 70 - 7 * i) ** 2 + (y - 95) ** 2 < 40**2
        flat = (x - 70 - 7 * i) ** 2 + (y - 95) ** 2 < 15**2
        texture = cv2.GaussianBlur(rng.uniform(0, 255, (H, W, 3)).astype(np.float32), (0, 0), 2) * 1.5
        picture = np.where(inside[..., None], texture, background)
        picture[flat] = 200
        photos.append((picture + 2 * rng.standard_normal(picture.shape)).clip(0, 255).astype(np.uint8))
        balls.append(inside)
    masked = with_object_masks(read(written(tmp_path / "p", photos), ReadOptions()), tmp_path / "m", Noting())
    for view in masked.views:
        weight, ball = view.load().weight, balls[int(view.name[:2])]
        assert weight is not None
        found = weight > 127
        assert (found & ball).sum() > 0.8 * (found | ball).sum()


def test_a_camera_that_moves_or_nothing_that_does_is_one_sentence(tmp_path: Path) -> None:
    moved, _ = turntable(8, moving=True)
    with pytest.raises(SplatError, match=r"% of the picture changes.*leave it out"):
        with_object_masks(read(written(tmp_path / "a", moved), ReadOptions()), tmp_path / "m", Noting())
    still = [np.clip(turntable(1)[0][0].astype(int) + i, 0, 255).astype(np.uint8) for i in range(4)]
    with pytest.raises(SplatError, match="0 % of the picture changes"):
        with_object_masks(read(written(tmp_path / "b", still), ReadOptions()), tmp_path / "m", Noting())
    assert not (tmp_path / "m").exists()


def test_photos_of_several_sizes_are_refused(tmp_path: Path) -> None:
    photos, _ = turntable(5)
    photos[2] = cv2.resize(photos[2], (200, 150))
    with pytest.raises(SplatError, match="one size"):
        with_object_masks(read(written(tmp_path / "p", photos), ReadOptions()), tmp_path / "m", Noting())
