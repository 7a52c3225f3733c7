"""What runs that were cut off, and killed, leave in a run folder, and that it does not pile up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from noting import Noting
from small_runs import reconstruct, timeless

from splat.core.errors import SplatError
from splat.core.files import atomic_path, write_atomic
from splat.run.folder import RunFolder

DEAD = 2**22 + 1
"""No process has this number: it is above the kernel's limit."""


def stage(run: RunFolder, key: str, fail: bool = False, shared: bool = False) -> None:
    def make(folder: Path) -> None:
        write_atomic(folder / "half.txt" if fail else folder / "value.txt", key)
        if fail:
            raise KeyboardInterrupt

    run.stage("poses", key, None, make, lambda folder: None, shared=shared)


def test_what_was_cut_off_is_removed_when_its_stage_has_been_made_again(tmp_path: Path) -> None:
    for _ in range(8):
        run = RunFolder(tmp_path / "run")
        with pytest.raises(KeyboardInterrupt):
            stage(run, "a", fail=True)
        run.close()
        assert len(list((tmp_path / "run").glob("poses.*"))) <= 1
    run = RunFolder(tmp_path / "run")
    stage(run, "a")
    assert [p.name for p in (tmp_path / "run").iterdir() if p.is_dir()] == ["poses"]
    assert not (tmp_path / "run" / "poses" / "half.txt").exists()


def test_a_removal_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    stage(run, "a")
    for name in ("poses.cut-off-1", "poses.damaged-4"):
        (tmp_path / "run" / name / "work").mkdir(parents=True)
        write_atomic(tmp_path / "run" / name / "stage.json", '{"key": "b", "version": "1"}')
    (tmp_path / "run" / "poses.cut-off-2").mkdir()
    (tmp_path / "run" / "poses.cut-off-3").mkdir()
    (tmp_path / "run" / "poses.cut-off-3" / "thesis.txt").write_text("mine")
    stage(run, "a")
    aside = {p.name for p in (tmp_path / "run").iterdir() if "." in p.name and p.is_dir()}
    assert aside == {"poses.cut-off-3"}, "what is no stage is not deleted"


def test_only_finished_stages_of_other_settings_are_kept_and_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.report = said = Noting()
    stage(run, "a")
    stage(run, "b")
    assert said.lines == ["poses is made again, for other photos or settings; what was there is kept as poses.old-1"]
    with pytest.raises(KeyboardInterrupt):
        stage(run, "c", fail=True)
    stage(run, "d")
    assert {p.name for p in (tmp_path / "run").iterdir() if p.is_dir()} == {"poses", "poses.old-1", "poses.old-2"}


def test_files_of_others_in_a_shared_stage_survive_whatever_happens_to_it(tmp_path: Path) -> None:
    """RUN/export also takes what `splat export` writes."""
    run = RunFolder(tmp_path / "run")
    mine = tmp_path / "run" / "poses" / "mine.spz"
    stage(run, "a", shared=True)
    mine.write_text("mine")
    (tmp_path / "run" / "poses" / "value.txt").unlink()
    stage(run, "a", shared=True)
    assert mine.read_text() == "mine" and (mine.parent / "value.txt").exists()
    mine.unlink()
    stage(run, "a", shared=True)
    assert not list((tmp_path / "run").glob("*.*-*")), "what a stage did not write it does not miss"
    mine.write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        stage(run, "b", fail=True, shared=True)
    (tmp_path / "run" / "poses" / "another.spz").write_text("mine too")
    stage(run, "c", shared=True)
    assert {p.read_text() for p in (tmp_path / "run").rglob("*.spz")} == {"mine", "mine too"}


def test_a_file_that_somebody_edited_is_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.report = said = Noting()
    stage(run, "a")
    (tmp_path / "run" / "poses" / "value.txt").write_text("edited by hand")
    stage(run, "a")
    assert (tmp_path / "run" / "poses.old-1" / "value.txt").read_text() == "edited by hand"
    assert "value.txt has changed" in said.lines[0] and "poses.old-1" in said.lines[0]


@pytest.mark.parametrize("deep", [False, True])
def test_an_error_before_anything_was_made_leaves_no_folder(tmp_path: Path, deep: bool) -> None:
    (tmp_path / "photos").mkdir()
    out = tmp_path / "runs" / "a" if deep else tmp_path / "run"
    with pytest.raises(SplatError):
        reconstruct(tmp_path / "photos", out)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "run").mkdir()
    with pytest.raises(SplatError):
        reconstruct(tmp_path / "photos", tmp_path / "run")
    assert (tmp_path / "run").is_dir()


def test_temporary_files_of_dead_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "export" / "renders").mkdir(parents=True)
    dead = [run / f".config.json.{DEAD}.part.json", run / f"export/renders/.a.png.{DEAD}.part.png"]
    alive = [run / f"export/.splat.ply.{os.getppid()}.part.ply", run / f".film.{DEAD}.part", run / "export/a.part"]
    for path in dead + alive:
        path.write_text("half")
    RunFolder(run).close()
    assert not any(p.exists() for p in dead) and all(p.exists() for p in alive)


@pytest.mark.parametrize("length", [200, 235, 250, 255])
def test_a_name_as_long_as_a_system_takes_is_written(tmp_path: Path, length: int) -> None:
    for suffix in (".ply", "." + "x" * 100, ""):
        name = "é" * ((length - len(suffix)) // 2) + suffix
        write_atomic(tmp_path / name, "x")
        assert [p.name for p in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


def test_a_name_too_long_and_a_folder_in_the_way_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SplatError, match="too long"):
        write_atomic(tmp_path / ("x" * 300), "")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(SplatError, match=r"report\.html is a folder"), atomic_path(tmp_path / "report.html") as part:
        part.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_killed_again_and_again_it_ends_the_same_and_nothing_piles_up(posed_photos: Path, tmp_path: Path) -> None:
    """Eight kills, at moments spread over the whole run."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from small_runs import reconstruct\n"
        "from splat.train.settings import Training\n"
        "print('begins', flush=True)\n"
        "reconstruct(Path(sys.argv[2]), Path(sys.argv[3]), iterations=150, train=Training(checkpoint_every=10))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(posed_photos)]
    began = time.monotonic()
    with subprocess.Popen([*command, str(tmp_path / "whole")], stdout=subprocess.PIPE) as whole:
        assert whole.stdout is not None
        whole.stdout.readline()
        began = time.monotonic()
    assert whole.returncode == 0
    seconds = time.monotonic() - began
    for i in range(8):
        with subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(seconds * (i + 0.5) / 9)
            process.send_signal(signal.SIGKILL)
        aside = [p.name for p in (tmp_path / "cut").glob("*.*-*")]
        assert len(aside) <= 1 and not any(".old-" in name for name in aside), aside
    subprocess.run([*command, str(tmp_path / "cut")], check=True, stdout=subprocess.DEVNULL)
    names = [
        {p.relative_to(tmp_path / run).as_posix() for p in (tmp_path / run).rglob("*")} for run in ("whole", "cut")
    ]
    assert names[0] == names[1]
    with np.load(tmp_path / "whole/train/gaussians.npz") as a, np.load(tmp_path / "cut/train/gaussians.npz") as b:
        assert all(np.array_equal(a[n], b[n]) for n in a.files)
    splats = [(tmp_path / run / "export" / "splat.ply").read_bytes() for run in ("whole", "cut")]
    assert splats[0] == splats[1]
    assert timeless(reconstruct(posed_photos, tmp_path / "cut", iterations=150))["psnr"] > 0
