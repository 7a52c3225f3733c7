"""What is shown of runs and of files, and what saving writes: new files inside one folder."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch
from noting import Noting
from signals import takes_ctrl_c
from small_runs import reconstruct
from viewing import gaussians, poses

from splat.commands.view import ViewScene
from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.geometry import Similarity
from splat.core.slots import PathCamera
from splat.export import load_splat, read_splat, save_splat
from splat.export.sidecar import from_original_frame
from splat.run.completed import CompletedRun
from splat.stages.viewing import file_scene, run_scene
from splat.viewer.edits import Frame, Recipe, Scale, Sphere, kept, placed_from_scene, read_recipe
from splat.viewer.scene import Scene

FORMATS = (".ply", ".compressed.ply", ".spz", ".sog", ".splat")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run_folder(posed_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, report = tmp_path_factory.mktemp("my runs") / "room", Noting()
    reconstruct(posed_photos, out, report)
    assert report.lines[-1] == f"walk through it: splat view '{out}'", "the last line says how to look at the result"
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_shown_centred_and_about_one_in_size(tmp_path: Path, suffix: str) -> None:
    g = gaussians(300).transformed(Similarity(40.0, torch.eye(3).double(), torch.tensor([300.0, -50, 9]).double()))
    save_splat(tmp_path / f"a{suffix}", g)
    scene = file_scene(tmp_path / f"a{suffix}")
    assert scene.gaussians is not None and len(scene.gaussians) == 300 and not scene.cameras
    assert float(scene.gaussians.means.norm(dim=1).quantile(0.8)) == pytest.approx(1.0, abs=0.05)
    back = scene.gaussians.transformed(scene.scene_from_file.inverse())
    assert torch.allclose(back.means, load_splat(tmp_path / f"a{suffix}").means, atol=1e-2)


@pytest.mark.data
@pytest.mark.parametrize("name", ["guitar.compressed.ply", "guitar.sog", "guitar_gsplatjs.splat", "guitar_v3.spz"])
def test_files_of_other_programs_are_shown(data_root: Path, name: str) -> None:
    gaussians = file_scene(data_root / "splats" / name).gaussians
    assert gaussians is not None and len(gaussians) > 1000


def test_a_run_is_shown_with_its_photos_and_their_figures(run_folder: Path) -> None:
    scene = ViewScene(run_folder).scene()
    assert scene.name == "room" and {c.view.role for c in scene.cameras} == {"train", "test"}
    assert all(c.psnr is not None for c in scene.cameras)
    assert scene.gaussians is not None and scene.step == 20


def test_saving_writes_new_files_in_one_folder_and_changes_no_other(run_folder: Path) -> None:
    before = files(run_folder)
    scene = run_scene(CompletedRun.open(run_folder))
    saver, g = scene.saver, scene.gaussians
    assert saver is not None and g is not None
    up = scene.up
    recipe = Recipe((Sphere("sphere", (0.0, 0.0, 0.0), 1.0),), Frame.of(scene.scene_from_file), up, scene.file)
    mask = kept(recipe, g)
    for number in (1, 2):
        written = saver.splat(g[mask], recipe)
        assert [p.name for p in written] == [f"splat.edited-{number}.ply", f"splat.edited-{number}.edits.json"]
    after = files(run_folder)
    assert {k: v for k, v in after.items() if k in before} == before
    assert {Path(k).parent.as_posix() for k in after.keys() - before.keys()} == {"edits"}
    # in the frame of the input, as the run's own splat is
    run = CompletedRun.open(run_folder)
    back = from_original_frame(read_splat(written[0]), run.capture)
    assert torch.allclose(back.means, g[mask].means, atol=1e-4)
    assert read_recipe(written[1]) == recipe


def test_a_scale_of_the_recipe_is_that_of_the_saved_file(run_folder: Path) -> None:
    scene = run_scene(CompletedRun.open(run_folder))
    saver, g = scene.saver, scene.gaussians
    assert saver is not None and g is not None
    a, b = (tuple(float(v) for v in m) for m in g.means[:2])
    recipe = Recipe((Scale("scale", (a[0], a[1], a[2]), (b[0], b[1], b[2]), 7.0),), Frame.of(scene.scene_from_file))
    saved = load_splat(saver.splat(g[:2], recipe)[0])
    assert float((saved.means[0] - saved.means[1]).norm()) == pytest.approx(7.0, rel=1e-4)
    assert torch.allclose(saved.log_scales, g[:2].transformed(placed_from_scene(recipe)).log_scales, atol=1e-5)


def test_edits_of_a_file_lie_beside_it(tmp_path: Path) -> None:
    save_splat(tmp_path / "a.spz", gaussians(50))
    scene = file_scene(tmp_path / "a.spz")
    assert scene.saver is not None and scene.gaussians is not None
    written = scene.saver.splat(scene.gaussians, Recipe((), Frame.of(scene.scene_from_file)))
    assert [p.name for p in written] == ["a.edited-1.ply", "a.edited-1.edits.json"]
    assert torch.allclose(load_splat(written[0]).means, load_splat(tmp_path / "a.spz").means, atol=1e-5)


def test_a_path_becomes_a_video(tmp_path: Path) -> None:
    save_splat(tmp_path / "a.ply", gaussians(50))
    scene: Scene = file_scene(tmp_path / "a.ply")
    assert scene.saver is not None and scene.gaussians is not None
    cameras = [PathCamera(Camera(60.0, 60.0, 32.0, 24.0, 64, 48), p) for p in poses(4)]
    seen: list[int] = []
    video, about = scene.saver.video(scene.gaussians, cameras, 10.0, lambda done, total: seen.append(done))
    assert video.name == "a.path-1.mp4" and video.stat().st_size > 500 and about.is_file() and seen == [1, 2, 3, 4]


@pytest.mark.parametrize("target", ["nothing", "photo.jpg", "folder"])
def test_what_cannot_be_shown_is_one_sentence(tmp_path: Path, target: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SplatError, match=target):
        ViewScene(tmp_path / target).scene()


@pytest.mark.slow
def test_the_command_prints_a_link_serves_it_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    pytest.importorskip("websockets")
    save_splat(tmp_path / "a.ply", gaussians(50))
    arguments = [sys.executable, "-m", "splat", "view", str(tmp_path / "a.ply"), "--no-open", "--port", "0"]
    process = subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=takes_ctrl_c,
    )
    assert process.stderr is not None
    said = ""
    end = time.monotonic() + 60
    while "Ctrl-C" not in said and time.monotonic() < end and process.poll() is None:
        said += process.stderr.readline()
    link = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", said)
    assert link is not None and "ssh -N -L" in said, said
    assert b"<title>splat</title>" in urlopen(link[0], timeout=10).read()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
