"""A run folder resumes what it can and never overwrites what disagrees."""

import json
from pathlib import Path

import pytest

from splat.core.errors import SplatError
from splat.run.folder import RunFolder, fingerprint, hash_of


def _count(run: RunFolder, key: str, extent: int | None = None, fail: bool = False) -> list[str]:
    """Run a stage that notes whether it was made or loaded."""
    notes: list[str] = []

    def make(folder: Path) -> str:
        notes.append("made")
        (folder / "partial.txt").write_text(
            (folder / "partial.txt").read_text() + "+" if extent and (folder / "partial.txt").exists() else "x"
        )
        if fail:
            raise ValueError("cut off")
        (folder / "value.txt").write_text(key)
        return key

    def load(folder: Path) -> str:
        notes.append("loaded")
        return (folder / "value.txt").read_text()

    assert run.stage("work", key, {"key": key}, make, load, extent) == key
    return notes


def test_a_finished_stage_is_loaded_not_made_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert _count(run, "a") == ["made"]
    assert _count(run, "a") == ["loaded"]


def test_a_stage_with_another_key_is_made_and_the_old_one_is_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    _count(run, "a")
    assert _count(run, "b") == ["made"]
    assert (tmp_path / "run" / "work.old-1" / "value.txt").read_text() == "a"


def test_a_cut_off_stage_starts_again_unless_it_can_be_continued(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError):
        _count(run, "a", fail=True)
    assert _count(run, "a") == ["made"]
    assert (tmp_path / "run" / "work" / "partial.txt").read_text() == "x"
    with pytest.raises(ValueError):
        _count(run, "b", extent=10, fail=True)
    assert _count(run, "b", extent=10) == ["made"]
    assert (tmp_path / "run" / "work" / "partial.txt").read_text() == "x+"


def test_a_larger_extent_continues_in_place_and_a_smaller_one_does_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    _count(run, "a", extent=10)
    assert _count(run, "a", extent=20) == ["made"]
    assert (tmp_path / "run" / "work" / "partial.txt").read_text() == "x+"
    assert _count(run, "a", extent=20) == ["loaded"]
    _count(run, "a", extent=5)
    assert (tmp_path / "run" / "work" / "partial.txt").read_text() == "x"
    assert (tmp_path / "run" / "work.cut-off-1").is_dir()


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run")
    with pytest.raises(SplatError, match="in use"):
        RunFolder(tmp_path / "run")
    first.close()
    RunFolder(tmp_path / "run").close()


def test_an_unwritable_folder_is_one_sentence_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SplatError, match="--out"):
        RunFolder(tmp_path / "file" / "run")


def test_seconds_of_interrupted_work_add_up(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError):
        _count(run, "a", extent=10, fail=True)
    mark = tmp_path / "run" / "work" / "stage.json"
    record = json.loads(mark.read_text())
    mark.write_text(json.dumps(record | {"seconds": 100.0}))
    _count(run, "a", extent=10)
    assert run.seconds["work"] >= 100.0


def test_a_fingerprint_notices_an_edited_photo_and_not_the_clock(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"x" * 200_000)
    before = fingerprint([photo])
    photo.touch()
    assert fingerprint([photo]) == before
    photo.write_bytes(b"y" + b"x" * 199_999)
    assert fingerprint([photo]) != before


def test_a_key_depends_on_every_setting() -> None:
    assert hash_of("a", {"x": 1}) == hash_of("a", {"x": 1})
    assert hash_of("a", {"x": 1}) != hash_of("a", {"x": 2})
    assert hash_of(Path("a")) != hash_of(Path("b"))
