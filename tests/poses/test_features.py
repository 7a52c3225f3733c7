"""Feature detection on machines that lack something."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import street
from noting import Noting

from splat.core.errors import SplatError
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
