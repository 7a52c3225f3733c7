"""Feature detection: at which size, and on machines that lack something."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import street
from noting import Noting

from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.image import write_png
from splat.core.slots import ReadOptions
from splat.ingest import read
from splat.poses.features import FeatureSettings, extract


def test_a_disk_too_full_for_features_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COLMAP would end the process with SIGABRT."""
    street.write_photos(tmp_path / "photos")
    capture = read(tmp_path / "photos", ReadOptions(), Noting())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(SplatError, match="the disk is full"):
        extract(capture.views[:2], FeatureSettings(), tmp_path / "work", Noting(), 1)
    assert not list((tmp_path / "work").glob(".sift*"))


def textured_photo(folder: Path, side: int, covered: float = 1.0) -> View:
    """A photo with texture of all sizes in this share of its width."""
    rng = np.random.default_rng(4)
    noise = [rng.standard_normal((side // k, side // k)) * k**0.35 for k in (2, 4, 8, 16, 32)]
    grey = np.sum([cv2.resize(n, (side, side), interpolation=cv2.INTER_CUBIC) for n in noise], 0)
    grey[:, round(covered * side) :] = 0
    folder.mkdir()
    photo = np.repeat(np.clip(127 + 25 * grey, 0, 255).astype(np.uint8)[..., None], 3, 2)
    write_png(folder / "a.png", photo)
    write_png(folder / "b.png", np.ascontiguousarray(photo[::-1]))  # a folder needs two
    return read(folder, ReadOptions(), Noting()).views[0]


def test_the_photos_own_size_has_the_same_largest_features(tmp_path: Path) -> None:
    view = textured_photo(tmp_path / "photos", 900)
    usual = FeatureSettings(max_count=800)
    twice, own = (
        extract((view,), replace(usual, own_size=at), tmp_path / str(at), Noting(), 1)[0] for at in (False, True)
    )
    assert len(twice) == len(own) == 800
    distance = np.linalg.norm(twice.xy[:, None] - own.xy[None], axis=2)
    assert (distance.min(1) < 0.5).mean() > 0.9 and (distance.min(0) < 0.5).mean() > 0.9
    near = distance.argmin(1)
    assert np.median(np.abs(own.scales[near] / twice.scales - 1)) < 0.02


def test_where_a_photo_has_too_few_features_at_its_own_size_the_smallest_come_from_twice_that(tmp_path: Path) -> None:
    view = textured_photo(tmp_path / "photos", 400, 0.4)
    many = FeatureSettings(max_count=1100)
    twice, own = (
        extract((view,), replace(many, own_size=at), tmp_path / str(at), Noting(), 1)[0] for at in (False, True)
    )
    assert abs(len(own) / len(twice) - 1) < 0.05
    assert own.scales.min() < 1.5  # the finest octave of the photo's own size starts at 1.6
    distance = np.linalg.norm(twice.xy[:, None] - own.xy[None], axis=2)
    assert (distance.min(1) < 0.5).mean() > 0.9
