"""Runs inside their photos, under names that are no UTF-8, on full and read-only disks, and half made again."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import street
from small_runs import reconstruct

from splat.commands.evaluate import Evaluate
from splat.core.errors import SplatError
from splat.core.slots import Silent
from splat.run.completed import CompletedRun
from splat.run.console import Console
from splat.run.folder import RunFolder

LATIN = os.fsdecode(b"caf\xe9")


def stages_made(photos: Path, out: Path, **changes: Any) -> set[str]:
    """Which stages a call made, by their records."""

    def records() -> dict[str, int]:
        return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("*/stage.json")}

    before = records()
    reconstruct(photos, out, **changes)
    assert not [p for p in out.glob("*.*-[0-9]") if p.name not in ("evaluate.old-1", "export.old-1")]
    return {name for name, when in records().items() if before.get(name) != when and "." not in name}


@pytest.mark.parametrize("where", ["run", *(pytest.param(w, marks=pytest.mark.slow) for w in ("", "images/run"))])
def test_a_run_inside_its_photos_is_loaded_and_goes_on(posed_photos: Path, tmp_path: Path, where: str) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(posed_photos, photos)
    reconstruct(photos, photos / "yesterday")  # evaluate/ holds pictures
    out = photos / where
    reconstruct(photos, out)
    (photos / "notes.txt").write_text("mine")
    (photos / "images" / "000.xmp").write_text("mine")
    assert stages_made(photos, out) == set()
    assert stages_made(photos, out, iterations=30) == {"train", "evaluate", "export"}
    views = json.loads((out / "ingest" / "views.json").read_text())["views"]
    assert len(views) == 10, "pictures of a run are no photos"


def test_folders_and_photos_whose_names_are_not_utf8_resume(posed_photos: Path, tmp_path: Path) -> None:
    """OpenCV and COLMAP crash on such paths; the videos and the features are theirs."""
    photos = tmp_path / LATIN
    shutil.copytree(posed_photos, photos)
    poses = json.loads((photos / "transforms.json").read_text())
    for frame in poses["frames"]:
        renamed = frame["file_path"].replace("images/", f"images/{LATIN}")
        (photos / frame["file_path"]).rename(photos / renamed)
        frame["file_path"] = renamed
    (photos / "transforms.json").write_text(json.dumps(poses))
    out = tmp_path / (LATIN + "-run")
    assert reconstruct(photos, out, renders=True)["registered"] == [10, 10]
    assert stages_made(photos, out, renders=True) == set()
    assert (out / "export" / "renders" / "orbit.webm").stat().st_size > 0 and (out / "report.html").is_file()
    assert len(Evaluate(out)()["views"]) == 2


@pytest.mark.slow
def test_photos_with_names_in_latin_1_are_placed(tmp_path: Path) -> None:
    """As a zip from Windows leaves them."""
    for i, path in enumerate(street.write_photos(tmp_path / "photos")):
        path.rename(path.with_name(os.fsdecode(b"K\xfcche_%d.jpg" % i)))
    metrics = reconstruct(tmp_path / "photos", tmp_path / "run", max_resolution=240)
    assert metrics["registered"] == [8, 8]
    assert stages_made(tmp_path / "photos", tmp_path / "run", max_resolution=240) == set()


def test_poses_that_were_made_again_are_not_used_with_an_older_training(posed_photos: Path, tmp_path: Path) -> None:
    reconstruct(posed_photos, tmp_path / "run")
    shutil.copytree(tmp_path / "run" / "train", tmp_path / "train")
    reconstruct(posed_photos, tmp_path / "run", up="-x")
    CompletedRun.open(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "train")
    (tmp_path / "train").rename(tmp_path / "run" / "train")  # as after a kill between the two stages
    with pytest.raises(SplatError, match="poses have been made again since it was trained"):
        CompletedRun.open(tmp_path / "run")


def test_a_training_that_is_being_continued_still_has_its_last_result(posed_photos: Path, tmp_path: Path) -> None:
    reconstruct(posed_photos, tmp_path / "run")
    before = CompletedRun.open(tmp_path / "run").trained

    class Killed(Silent):
        def progress(self, done: int, total: int, **figures: Any) -> None:
            if total == 60 and done > 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(posed_photos, tmp_path / "run", Killed(), iterations=60)
    record = json.loads((tmp_path / "run" / "train" / "stage.json").read_text())
    assert record.get("complete") is not True and record["extent"] == 60
    assert CompletedRun.open(tmp_path / "run").trained.steps == before.steps == 20


def test_what_was_computed_from_a_stage_that_came_out_otherwise_is_made_again(tmp_path: Path) -> None:
    """On a GPU, say, a training made again is another one."""

    def chain(value: str) -> list[str]:
        run, made = RunFolder(tmp_path / "run"), []

        def stage(name: str, text: str) -> None:
            def make(folder: Path) -> None:
                made.append(name)
                (folder / "result.txt").write_text(text)

            run.stage(name, "same key", None, make, lambda folder: None)

        stage("train", value)
        stage("export", "a splat")
        run.close()
        return made

    assert chain("one") == ["train", "export"]
    assert chain("one") == []
    (tmp_path / "run" / "train" / "result.txt").unlink()
    assert chain("one") == ["train"], "it came out the same"
    (tmp_path / "run" / "train" / "result.txt").unlink()
    assert chain("two") == ["train", "export"]
    assert chain("two") == []


def test_a_log_on_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path / "run")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(SplatError, match=r"log\.jsonl was not written: the disk is full"):
        run.log({"kind": "info"})


def test_names_do_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    Console().warn("a\x1b[2J\x1b]0;title\x07.jpg was not registered\r\u202egpj")
    Console().info("two\nlines")
    out = capsys.readouterr().err
    assert all(c not in out for c in "\x1b\x07\r\u202e") and "two\nlines" in out
