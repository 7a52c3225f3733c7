"""Method `coherent`: bound to rays first, then free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.gaussians import Gaussians
from splat.core.slots import Budget, Init, Priors, RasterSettings, Silent, Snapshot
from splat.losses import Losses
from splat.methods import Coherent, Edgs
from splat.raster import choose
from splat.train.loop import TrainSettings, train
from splat.train.models.free import FreeGaussians
from splat.train.models.ray_bound import RayBound
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.settings import Training, photo_phase
from splat.train.views import PhotoSource, load_views
from splat.train.virtual_views import VirtualSource

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(20.0), planes.walk(3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Capture, Init]:
    capture = planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("coherent"))
    method = Coherent()
    return capture, replace(method.init, budget=1500)(
        capture, 1, 0, Silent(), Priors(planes.TrueDepth(SCENE, 1.03, 0.7))
    )


def phases_of(  # type: ignore[no-untyped-def]
    capture: Capture, init: Init, steps: int = 100, method: Coherent | Edgs | None = None, losses: Losses | None = None
):
    photos = load_views(capture.views)
    centres = capture.camera_centres().float()
    phase = photo_phase(Training(), losses or Losses(), photos, steps, 4000, RasterSettings(), centres=centres)
    return (method or Coherent()).phases(capture, init, Budget(steps, 4000, phase))


def test_gaussians_are_bound_first_and_free_after(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared
    first, second = phases_of(capture, init)
    assert (first.steps, second.steps) == (70, 30)
    bound = first.parameterize(FreeGaussians(init.gaussians), init)
    assert isinstance(bound, RayBound) and len(bound) == len(init.gaussians)
    free = second.parameterize(bound, init)
    assert type(free) is FreeGaussians and torch.equal(free.gaussians().means, bound.gaussians().means)


def test_virtual_views_stand_beside_the_photos_in_both_phases(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared
    for phase in phases_of(capture, init):
        assert isinstance(phase.source, VirtualSource) and phase.round_every == 10
    off = replace(Coherent(), virtual=replace(Coherent().virtual, every=0))
    assert all(isinstance(p.source, PhotoSource) for p in phases_of(capture, init, method=off))


def test_items_carry_the_depth_of_their_photo_at_every_size_where_a_loss_reads_it(
    prepared: tuple[Capture, Init],
) -> None:
    capture, init = prepared
    unread = phases_of(capture, init)[0].source.photos
    assert all(item.inverse_depth is None for items in unread.levels for item in items)
    source = phases_of(capture, init, losses=Losses(depth=0.1))[0].source.photos
    for items in source.levels:
        for item in items:
            assert item.inverse_depth.shape == item.rgb.shape[:2] == item.probability.shape
            i = item.view_id
            truth = 1.03 * SCENE.depth(item.camera, POSES[i]).float()
            assert float((item.inverse_depth * truth - 1).abs().median()) < 0.01


def test_edgs_too_gives_photos_the_depth_that_a_loss_reads(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared
    (unread,) = phases_of(capture, init, method=Edgs())
    assert all(item.inverse_depth is None for items in unread.source.levels for item in items)
    (phase,) = phases_of(capture, init, method=Edgs(), losses=Losses(depth=0.1))
    assert all(item.inverse_depth is not None for items in phase.source.levels for item in items)


def test_gaussians_of_no_pixels_are_trained_free_from_the_start(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared
    assert len(phases_of(capture, Init(init.gaussians))) == 1


def test_photos_pull_a_scene_that_starts_too_far_to_where_it_is(prepared: tuple[Capture, Init]) -> None:
    capture, init = prepared

    def off(gaussians: Gaussians) -> float:
        away = (gaussians.means.double() - SCENE.origin) @ SCENE.normal
        return float(away.abs().median())

    method = replace(Coherent(), bound=1.0)
    phases = phases_of(capture, init, 300, method)
    model = ViewModel(3, ViewSettings(exposure=False), capture.camera_centres().float(), 1.0)
    raster = choose(torch.device("cpu"), "auto")
    trained = train(init, phases, raster, model, TrainSettings(), Silent())
    assert off(trained.gaussians) < 0.6 * off(init.gaussians)


class Stops:
    """Ends a run as a crash does."""

    def __init__(self, at: int) -> None:
        self.at = at

    def wants_gaussians(self, step: int, total: int) -> bool:
        return False

    def __call__(self, snapshot: Snapshot) -> None:
        if snapshot.step == self.at:
            raise RuntimeError("stopped")


@pytest.mark.parametrize("at", [23, 86])
def test_a_run_that_was_stopped_in_either_phase_ends_as_one_that_was_not(
    prepared: tuple[Capture, Init], tmp_path: Path, at: int
) -> None:
    capture, init = prepared
    raster = choose(torch.device("cpu"), "auto")

    def run(folder: Path | None, observers: tuple[Stops, ...] = ()) -> Gaussians:
        model = ViewModel(3, ViewSettings(exposure=True), capture.camera_centres().float(), 1.0)
        settings = TrainSettings(checkpoint_every=10)
        return train(init, phases_of(capture, init), raster, model, settings, Silent(), folder, observers).gaussians

    whole = run(None)
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path, (Stops(at),))
    for a, b in zip(vars(whole).values(), vars(run(tmp_path)).values(), strict=True):
        assert torch.equal(a, b)
