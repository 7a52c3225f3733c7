"""Method `coherent_published`: CoherentGS as its paper and code have it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest
import street
import torch
from methods.test_coherent import Stops

from splat.commands.reconstruct import Reconstruct
from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.gaussians import Gaussians
from splat.core.slots import Budget, DepthMap, Init, Phase, Priors, RasterSettings, Reporter, Silent
from splat.export import read_splat
from splat.init import PublishedCoherent
from splat.losses import Losses
from splat.methods import Coherent, CoherentPublished
from splat.methods.presets import PRESETS
from splat.raster import choose
from splat.train.loop import TrainSettings, train
from splat.train.models.free import FreeGaussians
from splat.train.models.pixel_rays import PixelRays, PixelSettings
from splat.train.models.ray_bound import RayBound
from splat.train.models.ray_fields import FieldSettings
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.settings import Training, photo_phase
from splat.train.supersampling import SupersampledSource, Supersampling
from splat.train.views import load_views

CAMERA = Camera(44.0, 44.0, 24.0, 18.0, 48, 36)
SCENE, POSES = planes.PlaneScene.make(20.0), planes.walk(3)
SMALL = PixelSettings(FieldSettings(depth_width=2, opacity_width=2))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Capture, Init]:
    capture = planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("published"))
    return capture, PublishedCoherent(alignment="robust")(capture, 1, 0, Silent(), Priors(planes.TrueDepth(SCENE)))


@pytest.fixture(scope="module")
def surfaces(prepared: tuple[Capture, Init]) -> tuple[Capture, Init]:
    """First Gaussians of the default method: those of doubtful depth may slide."""
    capture = prepared[0]
    return capture, replace(Coherent().init, budget=800)(capture, 1, 0, Silent(), Priors(planes.TrueDepth(SCENE)))


def phases_of(
    capture: Capture, init: Init, steps: int, method: CoherentPublished | Coherent, settings: Reconstruct | None = None
) -> tuple[Phase, ...]:
    training, losses = (Training(), Losses()) if settings is None else (settings.train, settings.losses)
    centres = capture.camera_centres().float()
    phase = photo_phase(training, losses, load_views(capture.views), steps, 10**6, RasterSettings(), centres=centres)
    return method.phases(capture, init, Budget(steps, 10**6, phase))


def trained(
    capture: Capture, init: Init, phases: tuple[Phase, ...], folder: Path | None = None, stops: tuple[Stops, ...] = ()
) -> Gaussians:
    model = ViewModel(3, ViewSettings(exposure=False), capture.camera_centres().float(), 1.0)
    raster = choose(torch.device("cpu"), "auto")
    return train(init, phases, raster, model, TrainSettings(checkpoint_every=5), Silent(), folder, stops).gaussians


def resolved(method: CoherentPublished) -> Reconstruct:
    return Reconstruct(Path("p"), method=method).resolved(3)[0]


def test_it_is_one_phase_of_pixels_on_rays(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared
    (phase,) = phases_of(capture, init, 130, CoherentPublished(pixels=SMALL))
    assert phase.steps == 130 and isinstance(phase.source, SupersampledSource)
    model = phase.parameterize(FreeGaussians(init.gaussians), init)  # type: ignore[misc]
    assert isinstance(model, PixelRays) and len(model) == 3 * 48 * 36
    items = [next(iter(phase.source.items(step, 130))) for step in range(130)]
    for item in items[:10]:
        assert item.layers.shape == (36, 48) and int(item.layers.min()) >= 0 and item.depth_unit > 0
    assert {i.supersample for i in items[:50]} == {1} and {i.supersample for i in items[50:]} == {1, 2, 3, 4}


def test_settings_are_the_published_ones_in_fractions_of_the_run() -> None:
    made = resolved(CoherentPublished())
    t, losses = made.train, made.losses
    assert (losses.l1, losses.coarse, losses.dssim, losses.layered) == (0.8, 0.8, 0.2, 5.0)
    assert (losses.layered_from, losses.layered_to) == (0.35, 1.0)
    assert [t.sh.degree(k / 13_000, 3) for k in (0, 7_999, 8_000, 8_999, 9_000, 10_000, 12_999)] == [
        0,
        0,
        1,
        1,
        2,
        3,
        3,
    ]
    rates = t.rates.at(0.5, 1.0)
    assert (rates.sh_rest, rates.scales, rates.quats) == (5e-5, 1e-4, 1e-5)
    assert t.density == "none" and t.none.prune_opacity == 0 and t.dropout.rate == 0 and not t.views.exposure
    assert t.background.rgb == (1.0, 1.0, 1.0) and t.resolution.start == 1.0
    assert made.max_resolution == 504
    quality = Reconstruct(Path("p"), preset="quality", method="coherent_published").resolved(3)[0]
    assert quality.iterations == 13_000
    for preset in PRESETS:
        assert CoherentPublished().defaults(preset)["max_resolution"] <= 504


def test_the_cap_is_one_for_every_pixel(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared
    assert CoherentPublished().max_gaussians(capture) == len(init.gaussians) == 3 * 48 * 36


@pytest.mark.parametrize("at", [12])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    prepared: tuple[Capture, Init], tmp_path: Path, at: int
) -> None:
    capture, init = prepared
    method = CoherentPublished(pixels=SMALL)
    settings = resolved(method)

    def run(folder: Path | None, stops: tuple[Stops, ...] = ()) -> Gaussians:
        return trained(capture, init, phases_of(capture, init, 18, method, settings), folder, stops)

    whole = run(None)
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path, (Stops(at),))
    for a, b in zip(vars(whole).values(), vars(run(tmp_path)).values(), strict=True):
        assert torch.equal(a, b)


def test_training_makes_photos_look_more_like_themselves_and_moves_nothing_off_its_ray(
    prepared: tuple[Capture, Init],
) -> None:
    capture, init = prepared
    method = CoherentPublished(pixels=SMALL)
    phases = phases_of(capture, init, 40, method, resolved(method))
    background, raster = torch.ones(3), choose(torch.device("cpu"), "auto")

    def error(gaussians: Gaussians) -> float:
        total = 0.0
        for view in capture.views:
            pose = view.pose.inverse().matrix().float()
            with torch.no_grad():
                rgb = raster(gaussians, CAMERA, pose, background, RasterSettings()).rgb
            total += float((rgb - view.rgb()).abs().mean())
        return total

    made = trained(capture, init, phases)
    assert error(made) < 0.95 * error(init.gaussians)
    assert all(bool(t.isfinite().all()) for t in vars(made).values())
    if len(made) == len(init.gaussians):  # none has become invisible
        for i, view in enumerate(capture.views):
            mine = init.view_ids == i
            found = CAMERA.project(view.pose.inverse().apply(made.means[mine].double()))
            assert float((found - init.pixels[mine]).abs().max()) < 1e-3


def test_first_gaussians_of_another_kind_are_trained_as_settings_have_it(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared
    (phase,) = phases_of(capture, Init(init.gaussians), 10, CoherentPublished())
    assert phase.parameterize is None


def test_the_default_method_takes_supersampling_and_matches_by_settings(surfaces: tuple[Capture, Init]) -> None:
    capture, init = surfaces
    plain = phases_of(capture, init, 100, Coherent())
    assert not any(isinstance(p.source, SupersampledSource) for p in plain)
    assert Coherent().rays.reprojection == 0
    on = replace(Coherent(), supersampling=Supersampling(4), rays=replace(Coherent().rays, reprojection=0.1), bound=1.0)
    (phase,) = phases_of(capture, init, 20, on)
    assert isinstance(phase.source, SupersampledSource)
    model = phase.parameterize(FreeGaussians(init.gaussians), init)  # type: ignore[misc]
    assert isinstance(model, RayBound) and model.matches is not None and len(model.matches.rows) > 500
    matched = replace(Coherent(), rays=on.rays)
    larger = replace(Coherent(), supersampling=Supersampling(4, start=0.0))
    means = [
        trained(capture, init, phases_of(capture, init, 10, replace(m, bound=1.0))).means
        for m in (Coherent(), matched, larger)
    ]
    assert not torch.equal(means[0], means[1]) and not torch.equal(means[0], means[2])
    assert all(bool(m.isfinite().all()) for m in means)


@pytest.mark.parametrize("at", [12])
def test_the_default_method_with_both_goes_on_bit_for_bit(
    surfaces: tuple[Capture, Init], tmp_path: Path, at: int
) -> None:
    capture, init = surfaces
    method = replace(
        Coherent(), supersampling=Supersampling(3, start=0.0), rays=replace(Coherent().rays, reprojection=0.1)
    )

    def run(folder: Path | None, stops: tuple[Stops, ...] = ()) -> Gaussians:
        return trained(capture, init, phases_of(capture, init, 16, method), folder, stops)

    whole = run(None)
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path, (Stops(at),))
    for a, b in zip(vars(whole).values(), vars(run(tmp_path)).values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_late_supersampled_steps_close_the_gaps_between_gaussians(tmp_path: Path) -> None:
    """As many as hide 0.99 of a plane at the size of the photos, at four times the size."""
    capture = planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, POSES, tmp_path)

    class Facing(planes.TrueDepth):
        def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
            maps = super().__call__(capture, report, seed)
            scene = planes.PlaneScene.make(0.0)
            return [replace(m, depth=scene.depth(v.camera, v.pose).float()) for m, v in zip(maps, capture.views)]

    init = PublishedCoherent(alignment="none")(capture, 1, 0, Silent(), Priors(Facing(SCENE)))
    raster = choose(torch.device("cpu"), "auto")

    def covered(gaussians: Gaussians, k: int) -> float:
        pose = POSES[1].inverse().matrix().float()
        with torch.no_grad():
            render = raster(gaussians, CAMERA.resized(48 * k, 36 * k), pose, torch.ones(3), RasterSettings())
        return float(render.alpha[6 * k : -6 * k, 6 * k : -6 * k].mean())

    method = CoherentPublished()
    made = trained(capture, init, phases_of(capture, init, 200, method, resolved(method)))
    assert covered(init.gaussians, 4) < 0.99 < covered(made, 4) <= covered(made, 1)


@pytest.mark.slow
def test_a_whole_run_ends_in_a_splat_without_holes_in_its_numbers(tmp_path: Path) -> None:
    photos = street.write_transforms(tmp_path / "photos").parent
    metrics = Reconstruct(
        *(photos, tmp_path / "run"),
        method=CoherentPublished(pixels=SMALL),
        train_photos=3,
        max_resolution=96,
        iterations=13,
        renders=False,
        threads=1,
        quiet=True,
    )(Silent())
    assert metrics["method"] == "coherent_published" and metrics["num_gaussians"] > 0.9 * 3 * 96 * 72
    assert all(0 <= v["holes_percent"] <= 100 for v in metrics["views"])
    made = read_splat(tmp_path / "run" / "export" / "splat.ply").gaussians
    assert all(bool(t.isfinite().all()) for t in vars(made).values())
