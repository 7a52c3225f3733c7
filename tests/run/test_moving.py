"""A run and its photos may move, together or apart; another photo of the same name is never taken for one of the
run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from noting import Noting
from small_runs import reconstruct, timeless

from splat.commands.evaluate import Evaluate
from splat.commands.export import Export
from splat.commands.render import RenderPath
from splat.core.errors import SplatError
from splat.run.capture_io import read_capture, save_capture
from splat.run.completed import CompletedRun


@pytest.fixture
def project(posed_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/ and a run of them, given by relative paths, as on a command line."""
    folder = tmp_path / "project"
    shutil.copytree(posed_photos, folder / "photos")
    monkeypatch.chdir(folder)
    reconstruct(Path("photos"), Path("run"))
    return folder


def test_a_run_used_from_another_folder_is_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Evaluate(Path("run"))()
    (project / "elsewhere" / "photos").mkdir(parents=True)
    for photo in (project / "photos" / "images").rglob("*.png"):  # other photos of the same names
        decoy = project / "elsewhere" / photo.relative_to(project)
        decoy.parent.mkdir(parents=True, exist_ok=True)
        decoy.write_bytes(next((project / "photos").rglob("009.png")).read_bytes())
    monkeypatch.chdir(project / "elsewhere")
    assert Evaluate(project / "run")()["psnr"] == pytest.approx(before["psnr"], abs=1e-9)


def test_moved_together_a_run_goes_on_and_is_evaluated_and_exported_to_the_same_bits(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splat = (project / "run" / "export" / "splat.ply").read_bytes()
    figures = Evaluate(Path("run"))()
    shutil.copytree(project, tmp_path / "kept")
    longer = reconstruct(Path("photos"), Path("run"), iterations=40)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(project)
    moved = tmp_path / "a" / "b"
    moved.parent.mkdir()
    (tmp_path / "kept").rename(moved)
    report = Noting()
    reconstruct(Path("a/b/photos"), moved / "run", report)
    assert not any("made again" in line for line in report.lines) and not list((moved / "run").glob("*.old-*"))
    again = Evaluate(Path("a/b/run"))()
    assert again["psnr"] == pytest.approx(figures["psnr"], abs=1e-9)
    Export(Path("a/b/run"), (tmp_path / "exported" / "splat.ply",))()
    assert (tmp_path / "exported" / "splat.ply").read_bytes() == splat
    resumed = reconstruct(Path("a/b/photos"), Path("a/b/run"), iterations=40)
    assert timeless(resumed) == timeless(longer)


def test_photos_that_moved_alone_are_asked_for_and_found_where_they_are_said_to_be(project: Path) -> None:
    before = Evaluate(Path("run"))()
    (project / "photos").rename(project / "pictures")
    with pytest.raises(SplatError, match=r"000\.png is not where it was: .*--photos FOLDER"):
        Evaluate(Path("run"))()
    assert Evaluate(Path("run"), photos=Path("pictures"))()["psnr"] == pytest.approx(before["psnr"], abs=1e-9)
    report = Noting()
    reconstruct(Path("pictures"), Path("run"), report)
    assert not any("made again" in line for line in report.lines)
    RenderPath(Path("run"), path="test", out=project / "drawn")()  # draws without the photos
    assert list((project / "drawn" / "test").glob("*.png"))


def test_another_photo_of_the_same_name_is_not_used(project: Path) -> None:
    photo = next((project / "photos").rglob("000.png"))
    photo.write_bytes(next((project / "photos").rglob("001.png")).read_bytes())
    with pytest.raises(SplatError, match=r"000\.png has changed since the run was made"):
        Evaluate(Path("run"))()
    report = Noting()
    reconstruct(Path("photos"), Path("run"), report)
    assert any("ingest is made again, for other photos" in line for line in report.lines)


def test_frames_in_the_run_folder_move_with_it(project: Path) -> None:
    """As the frames of a video do."""
    capture = CompletedRun.open(Path("run")).capture
    inside = project / "run" / "ingest" / "photos"
    shutil.copytree(project / "photos", inside)
    views = [replace(v, image_path=inside / v.image_path.relative_to(project / "photos")) for v in capture.views]
    save_capture(project / "run" / "poses", capture.with_views(tuple(views)))
    shutil.copytree(project / "run", project / "copy")
    found, lost = read_capture(project / "copy" / "poses")
    assert not lost and all(v.image_path.is_relative_to(project / "copy") for v in found.views)
