"""A run folder resumes what it can and never overwrites what disagrees."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from noting import Noting

from splat.core.errors import SplatError
from splat.run.fingerprint import fingerprint
from splat.run.folder import RunFolder, hash_of


def _count(
    run: RunFolder, key: str, extent: int | None = None, fail: bool = False, code: str = "", name: str = "work"
) -> list[str]:
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

    assert run.stage(name, key, {"key": key}, make, load, extent, code) == key
    return notes


def _opened(folder: Path, keep_stages: bool = False) -> tuple[RunFolder, Noting]:
    run, said = RunFolder(folder, keep_stages), Noting()
    run.report = said
    return run, said


def _as_version_0_1_0(stage: Path, **changes: Any) -> None:
    """Rewrite a stage's record as version 0.1.0 wrote it."""
    mark = stage / "stage.json"
    found = json.loads(mark.read_text())
    record = {k: found[k] for k in ("config", "extent", "seconds")}
    record |= {"key": "of another recipe", "code": "0.1.0", "finished": found.get("complete", False)}
    mark.write_text(json.dumps(record | changes))


def test_a_complete_stage_is_loaded_not_made_again(tmp_path: Path) -> None:
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
    assert (tmp_path / "run" / "work.old-1").is_dir(), "a finished stage is kept"


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
    mark.write_text(json.dumps(record | {"seconds": 100.0, "processor_seconds": 50.0}))
    _count(run, "a", extent=10)
    assert run.seconds["work"] >= 100.0 and 50.0 <= run.processor_seconds["work"] < 100.0
    again = RunFolder(tmp_path / "other")
    assert _count(again, "a", extent=10) and again.processor_seconds["work"] < 50.0


def test_processor_seconds_are_unknown_where_a_part_of_the_work_did_not_note_them(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError):
        _count(run, "a", extent=10, fail=True)
    mark = tmp_path / "run" / "work" / "stage.json"
    record = json.loads(mark.read_text())
    del record["processor_seconds"]
    mark.write_text(json.dumps(record))
    _count(run, "a", extent=10)
    assert "work" in run.seconds and "work" not in run.processor_seconds


def test_a_fingerprint_notices_an_edited_photo_and_not_the_clock(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"x" * 200_000)
    before = fingerprint([("a.jpg", photo)])
    photo.touch()
    assert fingerprint([("a.jpg", photo)]) == before
    photo.write_bytes(b"y" + b"x" * 199_999)
    edited_head = fingerprint([("a.jpg", photo)])
    photo.write_bytes(b"x" * 199_999 + b"y")
    assert len({before, edited_head, fingerprint([("a.jpg", photo)]), fingerprint([("b/a.jpg", photo)])}) == 4


def test_fingerprints_take_names_of_any_bytes_and_files_that_may_not_be_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).write_bytes(b"x")
    assert fingerprint([(name, tmp_path / name)]) != fingerprint([(name, tmp_path / "missing.jpg")])


def test_a_key_depends_on_every_setting() -> None:
    assert hash_of("a", {"x": 1}) == hash_of("a", {"x": 1})
    assert hash_of("a", {"x": 1}) != hash_of("a", {"x": 2})
    assert hash_of(Path("a")) != hash_of(Path("b"))


# ------------------------------------------------------------------------------------------------------ code


def test_a_stage_of_other_code_is_made_again_and_says_so(tmp_path: Path) -> None:
    run, said = _opened(tmp_path / "run")
    _count(run, "a", code="1")
    assert _count(run, "a", code="2") == ["made"]
    assert said.lines == [
        "work was made by other code and is made again; --keep-stages keeps it",
        "what was there is kept as work.old-1",
    ]
    assert (tmp_path / "run" / "work.old-1" / "value.txt").read_text() == "a"
    assert _count(run, "a", code="2") == ["loaded"]
    assert len(said.lines) == 2 and not said.warnings


def test_training_that_other_code_began_starts_again(tmp_path: Path) -> None:
    run, said = _opened(tmp_path / "run")
    with pytest.raises(ValueError):
        _count(run, "a", extent=10, fail=True, code="1")
    assert _count(run, "a", extent=10, code="2") == ["made"]
    assert (tmp_path / "run" / "work" / "partial.txt").read_text() == "x"
    assert [p.name for p in (tmp_path / "run").iterdir() if p.is_dir()] == ["work"], "half of it is not kept"
    assert "begun by other code" in said.lines[0]


def test_kept_stages_are_used_whatever_code_made_them_with_a_warning(tmp_path: Path) -> None:
    run, _ = _opened(tmp_path / "run")
    _count(run, "a", code="1")
    before = run.identity("work")
    run.close()
    run, said = _opened(tmp_path / "run", keep_stages=True)
    assert _count(run, "a", code="2") == ["loaded"]
    assert "other code" in said.warnings[0]
    assert run.identity("work") == before, "what was computed from it stays valid"
    assert _count(run, "b", code="2") == ["made"], "other settings are never kept"


def test_training_that_goes_on_under_other_code_stays_a_stage_of_the_code_that_began_it(tmp_path: Path) -> None:
    run, _ = _opened(tmp_path / "run", keep_stages=True)
    with pytest.raises(ValueError):
        _count(run, "a", extent=10, fail=True, code="1")
    began = run.identity("work")
    assert _count(run, "a", extent=10, code="2") == ["made"]
    assert (tmp_path / "run" / "work" / "partial.txt").read_text() == "x+"
    assert run.identity("work") == began
    run.close()
    run, _ = _opened(tmp_path / "run")
    assert _count(run, "a", extent=10, code="2") == ["made"]
    assert (tmp_path / "run" / "work" / "partial.txt").read_text() == "x"


def test_what_is_computed_from_a_stage_made_again_is_made_again(tmp_path: Path) -> None:
    """poses -> init, keys chained by identities; the code of poses changes from 1 to 2, that of init stays."""

    def chain(poses_code: str, keep_stages: bool = False) -> list[str]:
        run, _ = _opened(tmp_path / "run", keep_stages)
        notes = _count(run, "a", code=poses_code, name="poses")
        notes += _count(run, hash_of("init", run.identity("poses")), code="init", name="init")
        run.close()
        return notes

    assert chain("1") == ["made", "made"]
    assert chain("1") == ["loaded", "loaded"]
    assert chain("2", keep_stages=True) == ["loaded", "loaded"]
    assert chain("1") == ["loaded", "loaded"], "keeping has changed nothing"
    assert chain("2") == ["made", "made"]
    assert chain("2") == ["loaded", "loaded"]


def test_the_identity_is_known_while_the_stage_is_made(tmp_path: Path) -> None:
    """Training's checkpoint is marked with it."""
    run, _ = _opened(tmp_path / "run")
    seen = run.stage("work", "a", {}, lambda folder: run.identity("work"), lambda folder: "", code="1")
    assert seen == run.identity("work")
    with pytest.raises(KeyError):
        run.identity("other")


# ------------------------------------------------------------------------------------------------------ older folders


def test_a_folder_of_version_0_1_0_is_made_again_saying_so_once_and_nothing_is_lost(tmp_path: Path) -> None:
    run, said = _opened(tmp_path / "run")
    for name in ("capture", "poses"):
        _count(run, "a", name=name)
        _as_version_0_1_0(tmp_path / "run" / name)
    assert _count(run, "a", name="ingest", code="1") == _count(run, "a", name="poses", code="1") == ["made"]
    assert len(said.lines) == 1 and "older version (0.1.0)" in said.lines[0] and "--keep-stages" in said.lines[0]
    names = {p.name for p in (tmp_path / "run").iterdir() if p.is_dir()}
    assert names == {"ingest", "capture.old-1", "poses", "poses.old-1"}
    assert _count(run, "a", name="ingest", code="1") == ["loaded"]


def test_complete_stages_of_version_0_1_0_are_kept_in_place_on_request(tmp_path: Path) -> None:
    """In place: frames of a video lie in capture/, and poses name them there."""
    run, said = _opened(tmp_path / "run", keep_stages=True)
    _count(run, "a", name="capture")
    _as_version_0_1_0(tmp_path / "run" / "capture")
    assert _count(run, "a", name="ingest", code="1") == ["loaded"]
    assert "0.1.0" in said.warnings[0]
    assert (tmp_path / "run" / "capture").is_dir() and not (tmp_path / "run" / "ingest").exists()
    identity = run.identity("ingest")
    _count(run, "a", name="ingest", code="2")
    assert run.identity("ingest") == identity
    run.close()
    run, _ = _opened(tmp_path / "run")
    assert _count(run, "a", name="ingest", code="1") == ["made"], "what cannot be verified is kept only on request"
    assert run.identity("ingest") != identity


@pytest.mark.parametrize("change", [{"finished": False}, {"extent": 5}])
def test_training_of_version_0_1_0_is_kept_only_when_it_has_the_steps_asked_for(tmp_path: Path, change: dict) -> None:
    run, said = _opened(tmp_path / "run", keep_stages=True)
    _count(run, "a", extent=10)
    _as_version_0_1_0(tmp_path / "run" / "work")
    assert _count(run, "a", extent=10, code="1") == ["loaded"]
    _as_version_0_1_0(tmp_path / "run" / "work", **change)
    assert _count(run, "a", extent=10, code="1") == ["made"]
    assert (tmp_path / "run" / "work.old-1").is_dir()
    assert "made again" in said.lines[-1]


# ------------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "3", "null", '"text"', "{}", '{"key": "a", "comp', "", "[" * 100_000),
        *('{"key": 3}', '{"key": "a", "version": "1", "complete": true, "seconds": "long"}'),
        *('{"key": "a", "extent": "ten"}', '{"key": "a", "code": {}}', b"\xff\xfe\x00"),
    ],
)
def test_a_stage_with_a_damaged_record_is_made_again_and_kept(tmp_path: Path, text: str | bytes) -> None:
    run, _ = _opened(tmp_path / "run")
    _count(run, "a", code="1")
    mark = tmp_path / "run" / "work" / "stage.json"
    mark.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert _count(run, "a", code="1") == ["made"]
    assert (tmp_path / "run" / "work.old-1" / "value.txt").exists(), "it may be anybody's"
    assert _count(run, "a", code="1") == ["loaded"]


def test_a_file_in_the_place_of_a_stage_is_renamed(tmp_path: Path) -> None:
    run, _ = _opened(tmp_path / "run")
    (tmp_path / "run" / "work").write_text("notes")
    assert _count(run, "a") == ["made"]
    assert (tmp_path / "run" / "work.old-1").read_text() == "notes"


def test_a_run_folder_can_be_moved(tmp_path: Path) -> None:
    run, _ = _opened(tmp_path / "run")
    _count(run, "a", code="1")
    run.close()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    run, _ = _opened(tmp_path / "moved")
    assert _count(run, "a", code="1") == ["loaded"]
