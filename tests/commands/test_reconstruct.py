"""The main job on a tiny dataset with exact poses: what it writes, how it resumes, what it says of mistakes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from splat.commands.reconstruct import Reconstruct
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.export import load_splat
from splat.init import DenseSurfaces, SfmPoints
from splat.methods import Edgs, Points
from splat.run.completed import CompletedRun
from splat.train.settings import Training

FLAGS = ["--iterations", "200", "--edgs.init.sparse.random-count", "1500", "--cap", "3000", "--no-renders", "--quiet"]


FEW = SfmPoints(random_count=1500)


def reconstruct(photos: Path, out: Path, **changes: object) -> dict:
    settings: dict = {
        "methods": (Points(FEW), Edgs(DenseSurfaces(sparse=FEW))),
        "iterations": 200,
        "cap": 3000,
        "renders": False,
        "quiet": True,
    }
    return Reconstruct(photos=photos, out=out, **(settings | changes))()


@pytest.fixture(scope="module")
def finished(posed_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("run") / "run"
    return out, reconstruct(posed_photos, out, renders=True, iterations=400)


def test_a_run_explains_photos_it_did_not_see(finished: tuple[Path, dict]) -> None:
    _, metrics = finished
    assert metrics["psnr"] > 23 and metrics["ssim"] > 0.6
    assert [v["name"].split("/")[-1] for v in metrics["views"]] == ["000.png", "008.png"]


def test_metrics_have_the_fields_that_scripts_read(finished: tuple[Path, dict]) -> None:
    out, metrics = finished
    assert json.loads((out / "metrics.json").read_text()) == metrics
    expected = {
        "psnr", "ssim", "lpips", "lpips_variant", "views", "holes", "num_gaussians", "seconds", "peak_memory_mb",
        "registered",
        "resolution", "method", "seed", "heldout",
    }  # fmt: skip
    assert expected <= set(metrics)
    assert metrics["registered"] == [10, 10] and metrics["resolution"] == [112, 84]
    assert metrics["seconds"]["total"] >= metrics["seconds"]["train"] > 0
    assert metrics["processor_seconds"].keys() == metrics["seconds"].keys()
    assert metrics["processor_seconds"]["train"] > 0


def test_what_is_empty_is_a_figure_of_the_held_out_views_and_of_the_paths(finished: tuple[Path, dict]) -> None:
    out, metrics = finished
    assert (
        metrics["holes"].keys() == {"alpha_below", "test", "orbit", "path"} and metrics["holes"]["alpha_below"] == 0.5
    )
    assert metrics["holes"]["test"] == pytest.approx(sum(v["holes_percent"] for v in metrics["views"]) / 2)
    assert all(0 <= metrics["holes"][k] <= 100 for k in ("test", "orbit", "path"))
    assert len(list((out / "export" / "renders" / "orbit" / "holes").glob("*.png"))) == 90
    assert not list(out.rglob("*_filled*")), "only where it was asked for"


def test_a_run_leaves_every_deliverable(finished: tuple[Path, dict]) -> None:
    out, metrics = finished
    for name in ("splat.ply", "points.ply", "cameras.json", "renders/orbit.webm", "renders/path.webm"):
        assert (out / "export" / name).stat().st_size > 0, name
    assert (out / "report.html").stat().st_size > 1000
    written = metrics["num_gaussians"] + metrics["num_surroundings"]
    assert len(load_splat(out / "export" / "splat.ply")) == written
    assert not list(out.rglob("*.part*"))


def test_exports_are_in_the_frame_of_the_dataset(finished: tuple[Path, dict], posed_photos: Path) -> None:
    out, _ = finished
    cameras = json.loads((out / "export" / "cameras.json").read_text())["views"]
    frames = {f["file_path"]: f for f in json.loads((posed_photos / "transforms.json").read_text())["frames"]}
    for view in cameras:
        frame = next(f for name, f in frames.items() if name.endswith(view["name"].split("/")[-1]))
        opengl = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
        truth = Rigid.from_matrix(opengl @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64)))
        found = Rigid.from_matrix(torch.tensor(view["world_from_cam"], dtype=torch.float64))
        assert torch.allclose(found.translation, truth.translation, atol=1e-6)
        assert torch.allclose(found.rotation, truth.rotation, atol=1e-6)
    original = load_splat(out / "export" / "splat.ply")
    run = CompletedRun.open(out)
    moved = run.trained.scene.transformed(run.capture.world_from_source.inverse())
    assert torch.allclose(original.means, moved.means, atol=1e-5)


def test_the_same_command_again_does_nothing_and_says_the_same(finished: tuple[Path, dict], posed_photos: Path) -> None:
    out, metrics = finished
    before = {p: p.stat().st_mtime_ns for p in (out / "train").rglob("*") if p.is_file()}
    again = reconstruct(posed_photos, out, renders=True, iterations=400)
    assert {p: p.stat().st_mtime_ns for p in (out / "train").rglob("*") if p.is_file()} == before
    assert again["views"] == metrics["views"] and again["num_gaussians"] == metrics["num_gaussians"]


def test_killed_in_the_middle_it_resumes_and_ends_bit_for_bit_the_same(posed_photos: Path, tmp_path: Path) -> None:
    config = Training(checkpoint_every=20)
    reconstruct(posed_photos, tmp_path / "whole", train=config)
    command = [sys.executable, "-m", "splat", "reconstruct", str(posed_photos), "--out", str(tmp_path / "cut"), *FLAGS]
    process = subprocess.Popen([*command, "--train.checkpoint-every", "20"], start_new_session=True)
    checkpoint = tmp_path / "cut" / "train" / "checkpoint"
    deadline = time.monotonic() + 120
    while not (checkpoint.is_dir() and any(checkpoint.iterdir())) and time.monotonic() < deadline:
        assert process.poll() is None, "training ended before it wrote a checkpoint"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    reconstruct(posed_photos, tmp_path / "cut", train=config)
    with np.load(tmp_path / "whole/train/gaussians.npz") as a, np.load(tmp_path / "cut/train/gaussians.npz") as b:
        for name in a.files:
            assert np.array_equal(a[name], b[name]), name


@pytest.mark.parametrize("method", ["points", "edgs"])
def test_more_iterations_continue_a_finished_run(posed_photos: Path, tmp_path: Path, method: str) -> None:
    reconstruct(posed_photos, tmp_path / "run", method=method, iterations=60)
    metrics = reconstruct(posed_photos, tmp_path / "run", method=method, iterations=120)
    assert metrics["iterations"] == 120
    steps = [json.loads(line).get("step", 0) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps.count(50) == 1, "the first steps were not taken again"
    assert not [p for stage in ("init", "train") for p in (tmp_path / "run").glob(f"{stage}.*")]


def test_strict_holdout_gives_held_out_photos_to_no_stage(posed_photos: Path, tmp_path: Path) -> None:
    metrics = reconstruct(posed_photos, tmp_path / "run", heldout="strict", iterations=300)
    assert metrics["heldout"] == "strict" and len(metrics["views"]) == 2
    assert "000.png" not in (tmp_path / "run" / "poses" / "views.json").read_text()
    assert metrics["psnr"] > 20


@pytest.mark.parametrize(
    ("spoil", "names", "fix"),
    [
        (lambda f: [p.unlink() for p in (f / "images").iterdir()], "transforms.json", ""),
        (lambda f: (f / "transforms.json").write_text("{"), "transforms.json", ""),
        (lambda f: shutil.rmtree(f / "images") or (f / "transforms.json").unlink(), "photos", ""),
    ],
)
def test_a_broken_dataset_is_one_sentence_and_nothing_half_written(
    posed_photos: Path, tmp_path: Path, spoil: object, names: str, fix: str
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(posed_photos, folder)
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(SplatError, match=names) as error:
        reconstruct(folder, tmp_path / "run")
    assert "\n" not in str(error.value).strip()
    assert not (tmp_path / "run" / "train").exists() and not (tmp_path / "run" / "metrics.json").exists()


def test_a_truncated_photo_is_left_out_with_a_warning_that_names_it(posed_photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(posed_photos, folder)
    photo = folder / "images" / "003.png"
    photo.write_bytes(photo.read_bytes()[:300])
    metrics = reconstruct(folder, tmp_path / "run", iterations=30)
    assert any("003.png" in w for w in metrics["warnings"])


def test_a_full_disk_is_one_sentence_and_leaves_no_partial_file(
    posed_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SplatError, match="disk is full"):
        reconstruct(posed_photos, tmp_path / "run", iterations=10)
    assert not list((tmp_path / "run").rglob("*.part*"))


def test_quality_while_training_is_measured_where_asked(posed_photos: Path, tmp_path: Path) -> None:
    asked = Training(evaluate_at=(0, 30, 60))
    metrics = reconstruct(posed_photos, tmp_path / "asked", iterations=60, train=asked)
    assert [row["step"] for row in metrics["timeline"]] == [0, 30, 60]
    assert metrics["timeline"][0]["psnr"] < metrics["timeline"][-1]["psnr"] == pytest.approx(metrics["psnr"], abs=0.3)
    assert metrics["timeline"][0]["seconds"] == 0 < metrics["displacement"] < 1
    again = reconstruct(posed_photos, tmp_path / "asked", iterations=60, train=asked)
    assert again["timeline"] == metrics["timeline"]
    assert "timeline" not in reconstruct(posed_photos, tmp_path / "plain", iterations=5)


def test_dense_initialization_trains_even_where_there_are_no_surfaces(
    posed_photos: Path, finished: tuple[Path, dict], tmp_path: Path
) -> None:
    """Translucent blobs on grey, far apart: the worst case of dense matching."""
    sparse = reconstruct(posed_photos, tmp_path / "points", method="points", iterations=400)
    assert finished[1]["method"] == "edgs" and finished[1]["psnr"] > sparse["psnr"] - 4


def test_the_first_gaussians_alone_are_written_for_other_trainers(posed_photos: Path, tmp_path: Path) -> None:
    import pycolmap

    from splat.commands.init import InitOnly

    made = InitOnly(posed_photos, tmp_path / "init", method="edgs", quiet=True)()
    export = tmp_path / "init" / "export"
    written = load_splat(export / "init.ply")
    model = pycolmap.Reconstruction(export / "colmap" / "sparse" / "0")
    assert model.num_points3D() == len(written) == made["num_gaussians"] > 100 and model.num_images() == 10
    assert len(list((export / "colmap" / "images").rglob("*.*"))) == 10 and (export / "points.ply").exists()
