"""Cleaning a scene: what floats before the surfaces goes, its photos stay as well drawn, and all of it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import planes
import pytest
import torch
from small_runs import reconstruct

from splat.__main__ import main
from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.gaussians import SH_C0, Gaussians
from splat.core.slots import DepthMap, Rasterizer, RasterSettings, Reporter, Silent
from splat.export import load_splat
from splat.geometry.reproject import PosedDepth
from splat.native import build
from splat.raster import choose
from splat.run.completed import CompletedRun
from splat.run.trained import Trained
from splat.stages import clean, floaters
from splat.stages.clean import clean_run, clean_scene

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason="no compiled kernels")
CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
PLANE = planes.PlaneScene.make(10.0)


@dataclass(frozen=True, eq=False)
class Drawn:
    raster: Rasterizer
    settings: RasterSettings


def at(capture: Capture, view: int, factor: float, step: int, colour: float | None = None) -> Gaussians:
    """Gaussians at every `step`-th pixel of a view, at `factor` times the plane's depth, in the photo's colours."""
    v = capture.views[view]
    pixels = CAMERA.pixel_centres().double()[::step, ::step]
    depth = factor * PLANE.depth(CAMERA, v.pose)[::step, ::step]
    rgb = torch.from_numpy(v.load().rgb)[::step, ::step].reshape(-1, 3) / 255
    rgb = rgb if colour is None else torch.full_like(rgb, colour)
    n = len(rgb)
    size = (1.2 if colour is None else 2.0) * factor * 4 / 110  # 1.2 or 2 px
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    means = v.pose.apply(CAMERA.unproject(pixels, depth)).reshape(-1, 3).float()
    return Gaussians(
        means, quats, torch.full((n, 3), size).log(), torch.full((n,), 3.0), ((rgb - 0.5) / SH_C0)[:, None]
    )


@pytest.fixture
def plane(tmp_path: Path) -> tuple[Capture, Trained, list, Drawn]:
    """Five photos of a plane, the middle one held out; Gaussians on it and a dark veil before it; exact depths."""
    capture = planes.capture_of(PLANE, CAMERA, planes.walk(5), tmp_path)
    views = tuple(replace(v, role="test") if i == 2 else v for i, v in enumerate(capture.views))
    capture = capture.with_views(views)
    g = Gaussians.cat([at(capture, 2, 1.0, 2), at(capture, 2, 0.5, 12, 0.1)])
    trained = Trained(g, {}, {}, torch.zeros(3), 4.0, 1, [])
    depths = [PosedDepth(CAMERA, v.pose, PLANE.depth(CAMERA, v.pose).float()) for v in capture.train_views]
    return capture, trained, depths, Drawn(choose(torch.device("cpu")), RasterSettings())


def test_a_veil_goes_and_nothing_else(plane: tuple) -> None:
    capture, trained, depths, drawn = plane
    veil = len(at(capture, 2, 0.5, 12))
    found = clean_scene(capture, trained, capture.test_views, depths, drawn)
    assert found.cleaned.removed == veil == found.cleaned.candidates
    assert bool(found.cleaned.kept[:-veil].all()) and found.cleaned.psnr_after > found.cleaned.psnr_before + 1
    assert found.floaters_before > 0.02 and found.floaters_after == 0
    assert (
        found.sentence().startswith(f"{veil} of {veil} floating Gaussians removed") and "held-out" in found.sentence()
    )


def test_what_photos_need_stays_though_it_floats(plane: tuple) -> None:
    """Depth that is wrong by half makes all of the plane float; the photos know better."""
    capture, trained, depths, drawn = plane
    wrong = [replace(d, depth=2 * d.depth) for d in depths]
    found = clean_scene(capture, trained, [], wrong, drawn)
    assert found.cleaned.candidates == len(trained.gaussians) > found.cleaned.removed
    assert found.cleaned.psnr_after >= found.cleaned.psnr_before - 0.05 and "training PSNR" in found.sentence()


def test_the_worst_place_is_found_and_its_floaters_are_red(plane: tuple) -> None:
    capture, trained, depths, drawn = plane
    where = floaters.places(capture, capture.test_views)
    shares = [f.share for f in floaters.measured(trained.gaussians, depths, where, drawn.raster, drawn.settings)]
    assert where[-1].name == "2.png" and len(where) == 13 and max(shares) > 0.02
    marks = floaters.floating(trained.gaussians.means, depths)
    render, marked = floaters.pictures(
        trained.gaussians, trained.background, marks, where[-1], drawn.raster, drawn.settings
    )
    red = marked[..., 0].astype(int) - marked[..., 2] > 100
    assert render.shape == marked.shape and 0.005 < red.mean() < 0.5
    assert render[red].mean() < render[~red].mean(), "red where the dark veil is"


class Beyond:
    """Depth far behind everything: all of a scene floats."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        far = torch.full((capture.views[0].camera.height, capture.views[0].camera.width), 50.0)
        return [DepthMap(far, torch.ones_like(far)) for _ in capture.views]


def test_a_run_is_cleaned_when_it_is_written(
    posed_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(floaters, "Stereo", Beyond)
    monkeypatch.setattr(clean, "_GROUPS", 150)
    run = tmp_path / "run"
    figures = reconstruct(posed_photos, run, clean=True)
    cleaned = figures["clean"]
    assert cleaned["psnr_after"] >= cleaned["psnr_before"] - 0.05 and cleaned["judged_by_heldout"] is True
    assert cleaned["psnr_before"] == pytest.approx(figures["psnr"], abs=1e-3), "figures are of all"
    left = figures["num_gaussians"] - cleaned["removed"]
    assert len(load_splat(run / "export" / "splat.ply")) == left < figures["num_gaussians"]
    page = (run / "report.html").read_text()
    assert "<h2>Floaters</h2>" in page and "floaters red" in page and cleaned["sentence"].split(",")[0] in page
    assert figures["floaters_worst"]["place"] in page and 0 < figures["floaters_worst"]["share"] <= 1

    assert main(["export", str(run), str(tmp_path / "all.ply")]) == 0
    assert main(["export", str(run), str(tmp_path / "cleaned.ply"), "--clean"]) == 0
    assert len(load_splat(tmp_path / "all.ply")) == figures["num_gaussians"]
    assert len(load_splat(tmp_path / "cleaned.ply")) == left
    assert main(["export", str(tmp_path / "all.ply"), str(tmp_path / "b.ply"), "--clean"]) == 2
    assert "give the run" in capsys.readouterr().err and not (tmp_path / "b.ply").exists()

    opened = CompletedRun.open(run)
    past = floaters.SeenPastOf(opened)
    assert floaters.known_free_space(opened) and bool((past(opened.trained.gaussians) > 0.5).any())
    name = opened.capture.train_views[0].name
    gone = replace(opened, lost={name: f"{name} is gone"})
    with pytest.raises(SplatError, match=name):
        clean_run(gone, Silent())
    assert not floaters.known_free_space(gone)
    json.dumps(figures)
