"""Method `lm`: its published weights and schedules, and what its phases train on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import planes
import pytest
import torch
from torch import Tensor

from splat.cli import parse
from splat.commands.reconstruct import Reconstruct
from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import Budget, Init, InitPlan, Priors, RasterSettings, Silent, Step
from splat.geometry.drawing import draw
from splat.init.background import BackgroundSurfaces
from splat.losses import Losses
from splat.losses.correlation import pearson_distance
from splat.losses.normals import normal_errors
from splat.methods import Lm
from splat.methods.lm import LAYOUTS
from splat.priors.diffusion_refiner import DiffusionRefiner
from splat.priors.refiner import FeedbackWeight, SceneRefiner
from splat.priors.refiner.fitting import Recipe
from splat.raster import choose
from splat.train.loop import TrainSettings, train
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.point_views import PointSource, PointViews
from splat.train.refined_views import RefinedViews
from splat.train.settings import Training, photo_phase
from splat.train.views import PhotoSource, load_views

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(20.0), planes.walk(3)
PUBLISHED = Losses(pearson=0.1, pearson_patches=0.1, normal_l1=0.01, normal_cosine=0.01)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Capture, Init]:
    capture = planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("lm"))
    init = replace(Lm().init, budget=1500)(capture, 1, 0, Silent(), Priors(planes.TrueDepth(SCENE, 1.03, 0.7)))
    return capture, init


def phases_of(prepared: tuple[Capture, Init], method: Lm | None = None, losses: Losses = PUBLISHED, steps: int = 40):  # type: ignore[no-untyped-def]
    capture, init = prepared
    phase = photo_phase(Training(), losses, load_views(capture.views), steps, 4000, RasterSettings())
    return (method or Lm()).phases(capture, init, Budget(steps, 4000, phase))


@pytest.mark.parametrize(
    ("layout", "point_views", "rounds"),
    [("360", 0.6, [12_000, 18_000, 24_000, 30_000]), ("forward", 0.3, [3_000, 9_000, 12_000])],
)
def test_weights_and_schedules_are_the_published_ones_and_recorded(
    layout: str, point_views: float, rounds: list[int]
) -> None:
    settled, _ = parse(Reconstruct, ["p", "--method", "lm", "--lm.layout", layout], "splat").resolved(30)
    recorded = settled.as_json()
    weights = ("l1", "dssim", "pearson", "pearson_patches", "pearson_patch", "normal_l1", "normal_cosine")
    expected = (0.8, 0.2, 0.1, 0.1, 128, 0.01, 0.01)
    assert tuple(recorded["losses"][w] for w in weights) == expected
    published = recorded["published"]
    assert tuple(published[w] for w in weights) == expected
    assert (published["layout"], published["point_views"], list(published["rounds"])) == (layout, point_views, rounds)
    assert (published["strength"], published["control"]) == (0.2, 0.8)


def test_a_weight_that_was_given_wins() -> None:
    settled, _ = parse(Reconstruct, ["p", "--method", "lm", "--losses.pearson", "0"], "splat").resolved(3)
    assert settled.losses.pearson == 0 and settled.losses.pearson_patches == 0.1


def test_renders_of_points_stand_beside_the_photos_until_the_first_stage_ends(prepared: tuple[Capture, Init]) -> None:
    for layout, last in (("360", 16), ("forward", 10)):
        method = replace(Lm(), layout=layout, refiner="none")
        source = phases_of(prepared, method)[0].source
        assert isinstance(source, PointSource)
        weight = LAYOUTS[layout].point_views
        assert all(i.loss_weight * 0.8 == pytest.approx(weight) for i in source.virtual)
        assert [len(list(source.items(s, 40))) for s in range(40)] == [2] * last + [1] * (40 - last)
    off = replace(Lm(), points=replace(Lm().points, every=0), refiner="none")
    assert isinstance(phases_of(prepared, off)[0].source, PhotoSource)


def test_photos_carry_depth_and_normals_where_a_loss_reads_them(prepared: tuple[Capture, Init]) -> None:
    first = phases_of(prepared, replace(Lm(), refiner="none"))[0]
    assert first.raster.normals
    item = first.source.source.levels[0][-1]
    assert item.inverse_depth is not None and item.normals_cam is not None
    plain = phases_of(prepared, replace(Lm(), refiner="none"), losses=Losses())[0]
    assert not plain.raster.normals and plain.source.source.levels[0][-1].normals_cam is None


def test_few_photos_are_bound_to_rays_first_and_many_are_free(prepared: tuple[Capture, Init]) -> None:
    capture, _ = prepared
    assert [p.name for p in phases_of(prepared)] == ["rays", "free"]
    many = replace(Lm(), max_bound_photos=2)
    plan = InitPlan(4000, 120, 3)
    few_init, many_init = (m.initializer(capture, plan) for m in (Lm(), many))
    assert isinstance(few_init, BackgroundSurfaces) and isinstance(many_init, BackgroundSurfaces)
    assert few_init.along_rays and not many_init.along_rays and many_init.keep_points > 0
    free = many_init(capture, 1, 0, Silent(), Priors(planes.TrueDepth(SCENE)))
    assert len(phases_of((capture, free), many)) == 1


def test_normals_of_every_fourth_step_are_drawn_then_and_count_fourfold(prepared: tuple[Capture, Init]) -> None:
    seen = []

    @dataclass(frozen=True)
    class Noting(Losses):
        def __call__(self, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
            total, figures = super().__call__(step)
            errors = normal_errors(step)
            added = None if errors is None else float((total - Losses()(step)[0]).detach()) / float(errors[0].detach())
            seen.append((step.number, step.item.normals_cam is not None, added))
            return total, figures

    phases = phases_of(prepared, losses=Noting(normal_l1=0.01, normal_every=4), steps=10)
    model = ViewModel(3, ViewSettings(exposure=False), prepared[0].camera_centres().float(), 1.0)
    train(prepared[1], phases, choose(torch.device("cpu"), "auto"), model, TrainSettings(), Silent())
    for number, photo, added in seen:
        assert added == (pytest.approx(0.04, rel=0.05) if photo and number % 4 == 0 else None)
    assert {n for n, photo, _ in seen if photo} == set(range(10)) and not all(photo for _, photo, _ in seen)


def test_training_lowers_the_new_terms(prepared: tuple[Capture, Init]) -> None:
    """With the terms the depth of a wrong start correlates better with the maps in the end than without."""
    capture, init = prepared
    noisy = replace(
        init.gaussians, means=init.gaussians.means * (1 + 0.05 * torch.sin(7 * init.gaussians.means[:, :1]))
    )
    raster = choose(torch.device("cpu"), "auto")
    found = []
    for losses in (replace(PUBLISHED, pearson=1.0, pearson_patches=1.0), Losses()):
        start = Init(noisy, depths=init.depths)
        phases = phases_of((capture, start), replace(Lm(), refiner="none"), losses=losses, steps=60)
        model = ViewModel(3, ViewSettings(exposure=False), capture.camera_centres().float(), 1.0)
        trained = train(start, phases, raster, model, TrainSettings(), Silent()).gaussians
        total = 0.0
        for view, pose in zip(capture.views, POSES, strict=True):
            matrix = pose.inverse().matrix().float()
            render = draw(trained, view.camera, matrix, raster, RasterSettings(), torch.zeros(3))
            z = render.depth / render.alpha.clamp_min(0.2)
            total += float(pearson_distance(z, SCENE.depth(CAMERA, pose).float(), (render.alpha > 0.2).float()))
        found.append(total)
    assert found[0] < found[1]


@pytest.mark.parametrize(
    ("method", "flag"),
    [
        (Lm(points=PointViews(per_pair=0)), "--lm.points.per-pair 0"),
        (Lm(points=PointViews(size=0)), "--lm.points.size 0"),
        (Lm(refiner="scene", refined=RefinedViews(size=8)), "--lm.refined.size 8"),
        (Lm(refined=RefinedViews(per_pair=1)), "--lm.refined.per-pair 1"),
        (Lm(scene=SceneRefiner(Recipe(batch=0))), "--lm.scene.recipe.batch 0"),
        (Lm(scene=SceneRefiner(Recipe(crop=0))), "--lm.scene.recipe.crop 0"),
        (Lm(feedback=FeedbackWeight(max_change=math.nan)), "--lm.feedback.max-change nan"),
        (Lm(diffusion=DiffusionRefiner(strength=0.0)), "--lm.diffusion.strength 0.0"),
        (Lm(diffusion=DiffusionRefiner(steps=0)), "--lm.diffusion.steps 0"),
    ],
)
def test_cameras_between_the_photos_that_cannot_be_are_named(method: Lm, flag: str) -> None:
    with pytest.raises(SplatError, match=flag):
        method.check()
