"""A room walked right round, ray-traced and compressed, with one photo mirrored."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_mirrored_photo_of_a_room_is_named_and_all_others_are_placed(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("room", ROOT / "scripts" / "room.py")
    assert spec is not None and spec.loader is not None
    room = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(room)
    poses = room.make_photos(tmp_path / "photos", 24, 480, 40)
    room.mirror(tmp_path / "photos", tmp_path / "mirrored", 7, 40)
    found = room.reconstruct(tmp_path / "mirrored", tmp_path / "work", poses, 7, 0)
    assert len(found["attempts"]) <= 2 and found["registered"] == 23
    assert list(found["unregistered"]) == ["07.jpg"] and "mirrored" in found["unregistered"]["07.jpg"]
    assert found["centres_mm_median"] < 10
