"""`splat render --enhance`: what is written, and what is never read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_runs import reconstruct

from splat.cli import parse
from splat.commands.evaluate import Evaluate
from splat.commands.render import RenderPath
from splat.run.completed import CompletedRun


@pytest.fixture(scope="module")
def run(posed_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("enhanced") / "run"
    reconstruct(posed_photos, out, test_every=4)
    return out


def account(folder: Path) -> dict[str, dict[str, list[str]]]:
    return json.loads((folder / "enhanced" / "enhanced.json").read_text())["frames"]


def test_nothing_is_enhanced_unless_it_is_asked_for() -> None:
    assert parse(RenderPath, ["run"], "splat render").enhance == "none"
    asked = parse(RenderPath, ["run", "--enhance", "filter", "--license", "commercial"], "splat render")
    assert (asked.enhance, asked.license) == ("filter", "commercial")


def test_a_flight_is_named_enhanced_and_says_what_was_changed(run: Path, tmp_path: Path) -> None:
    flight = {"path": "path", "frames": 8, "size": 64}
    RenderPath(run, out=tmp_path / "plain", images=True, **flight)()
    RenderPath(run, out=tmp_path / "out", images=True, enhance="filter", license="commercial", **flight)()
    folder = tmp_path / "out" / "path"
    assert (tmp_path / "out" / "path_enhanced.mp4").is_file() and not (tmp_path / "out" / "path.mp4").exists()
    for i in range(8):
        assert (folder / f"{i:04d}.png").read_bytes() == (tmp_path / "plain" / "path" / f"{i:04d}.png").read_bytes()
        plain, enhanced = (cv2.imread(str(folder / n)) for n in (f"{i:04d}.png", f"enhanced/{i:04d}_enhanced.png"))
        percent = 100 * (plain != enhanced).any(-1).mean()
        assert account(folder)[f"{i:04d}"]["changed_percent"] == pytest.approx(percent, abs=0.01)
    beside = json.loads((tmp_path / "out" / "path_enhanced.json").read_text())
    assert beside["method"] == "filter" and beside["weights"] == [] and set(beside["frames"]) == set(account(folder))


@pytest.mark.parametrize("path", ["train", "test"])
def test_stills_take_detail_from_other_training_photos_alone(run: Path, tmp_path: Path, path: str) -> None:
    """Not from held-out ones, and not from the photo that was taken there."""
    RenderPath(run, out=tmp_path, path=path, enhance="filter")()
    capture = CompletedRun.open(run).capture
    training = {v.name for v in capture.train_views}
    frames = account(tmp_path / path)
    assert len(frames) == len(training if path == "train" else capture.test_views)
    for name, about in frames.items():
        assert set(about["photos"]) <= training and name not in {Path(p).stem for p in about["photos"]}
        assert about["frames"] == []


def test_figures_and_the_scene_are_those_without_enhanced_pictures(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = Evaluate(copy)()
    RenderPath(copy, path="test", enhance="filter")()
    RenderPath(copy, path="orbit", frames=4, size=64, enhance="filter")()
    for picture in (copy / "export").rglob("*_enhanced.png"):
        picture.write_bytes(b"")  # whoever read one would fail
    assert list((copy / "export").rglob("*_enhanced.png"))
    after = Evaluate(copy)()
    for a, b in zip(after["views"], before["views"], strict=True):
        assert all(a[k] == b[k] for k in ("name", "psnr", "ssim", "holes_percent"))
        assert a["cc_psnr"] == pytest.approx(b["cc_psnr"], abs=1e-6), "least squares: up to rounding"
    for name in ("metrics.json", "train/gaussians.npz", "train/trained.json"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_photos_that_are_gone_are_said_and_the_flight_is_still_made_steady(
    run: Path, tmp_path: Path, posed_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(posed_photos, photos)
    reconstruct(photos, tmp_path / "run", test_every=4)
    photos.rename(tmp_path / "elsewhere")
    flight = {"path": "path", "frames": 6, "size": 64, "video": False, "images": True, "enhance": "filter"}
    RenderPath(tmp_path / "run", out=tmp_path / "a", **flight)()
    assert "no detail is taken from 7 photos" in " ".join(capsys.readouterr().err.split())
    assert not any(about["photos"] for about in account(tmp_path / "a" / "path").values())
    RenderPath(tmp_path / "run", out=tmp_path / "b", photos=tmp_path / "elsewhere", **flight)()
    assert "no detail" not in capsys.readouterr().err
    assert np.isfinite([about["mean_change"] for about in account(tmp_path / "b" / "path").values()]).all()
