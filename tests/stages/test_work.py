"""What a run has to do is counted from what drives it, stage by stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.geometry import Rigid
from splat.core.schedules import ResolutionSchedule
from splat.losses import Losses
from splat.methods import METHODS
from splat.stages import forecast
from splat.stages.forecast import Choices, Expected, Limits
from splat.stages.perceptual import Networks, expected_networks
from splat.stages.timing import REFERENCE_SPEED, Speed, stage_seconds
from splat.stages.work import Sizes, stage_work

LIMITS = Limits("fast", 1000, 480, cap=20_000)


def photos(n: int, width: int = 960, height: int = 720, test_every: int = 0) -> Capture:
    camera = Camera(float(width), float(width), width / 2, height / 2, width, height)
    views = [View(f"{i:03}.jpg", Path(f"{i:03}.jpg"), (width, height), camera) for i in range(n)]
    if test_every:
        views = [replace(v, role="test") if i % test_every == 0 else v for i, v in enumerate(views)]
    return Capture(tuple(views))


CHOICES = Choices()


def expect(capture: Capture, method: str = "points", choices: Choices = CHOICES, **more: object) -> Expected:
    return forecast.expect(capture, LIMITS, METHODS[method](), choices, budget=None, threads=1, **more)  # type: ignore[arg-type]


def seconds(*args: object, **more: object) -> dict[str, float]:
    return dict(expect(*args, **more).seconds)  # type: ignore[arg-type]


def test_every_kind_of_work_has_a_speed_and_every_speed_some_work() -> None:
    held_out = photos(2).resized(320).views
    networks = Networks(("vgg", "alex", "stlpips"), ())
    sizes = Sizes(photos(8), photos(8), 10, 100, True, 1e6, 8, True, held_out=held_out, normals=1.0, networks=networks)
    named = {name for work in stage_work(sizes).values() for name in work}
    assert named == set(vars(REFERENCE_SPEED))


def test_twice_the_cores_take_half_the_seconds_and_a_machine_twice_as_slow_twice() -> None:
    sizes = Sizes(photos(8), photos(8), 100, 1000, True)
    one, two = (sum(stage_seconds(sizes, n).values()) for n in (1, 2))
    slow = Speed(**{n: 2 * v for n, v in vars(REFERENCE_SPEED).items()})
    assert one == pytest.approx(2 * two) and sum(stage_seconds(sizes, 1, slow).values()) == pytest.approx(2 * one)


def test_photos_placed_in_the_finished_scene_take_their_time_by_pixels_and_by_the_features_of_all() -> None:
    train, held_out = photos(12), photos(3).views
    usual = seconds(train)
    strict = seconds(train, held_out=held_out)
    assert strict["evaluate"] > usual["evaluate"] + 20
    assert {s: strict[s] for s in ("poses", "init", "train")} == {s: usual[s] for s in ("poses", "init", "train")}
    twice = seconds(train, held_out=photos(6).views)
    assert twice["evaluate"] > strict["evaluate"] + 15
    posed = tuple(replace(v, world_from_cam=Rigid.identity()) for v in held_out)
    given = seconds(train, held_out=posed)
    assert usual["evaluate"] < given["evaluate"] < strict["evaluate"], "no features where poses are given"


def test_few_photos_take_longer_to_match_a_pixel() -> None:
    few, many = seconds(photos(8), "edgs"), seconds(photos(9), "edgs")
    assert few["init"] > 1.3 * many["init"] and few["evaluate"] > 1.2 * many["evaluate"]
    ground = seconds(photos(9), "edgs", Choices(ground=True))
    assert ground["init"] > many["init"]
    assert seconds(photos(9))["init"] < 1, "sparse points are there"


def test_steps_cost_what_the_photos_have_at_the_sizes_of_the_schedule() -> None:
    full = Choices()
    late = replace(full, training=replace(full.training, resolution=ResolutionSchedule(full_at=0.9)))
    plain = replace(full, training=replace(full.training, resolution=ResolutionSchedule(start=1.0)))
    took = [seconds(photos(20), "points", c)["train"] for c in (late, full, plain)]
    assert took == sorted(took) and took[2] > 1.2 * took[0]


def test_normals_cost_time_where_depth_maps_are_kept_for_training() -> None:
    normals = Choices(losses=Losses(normal_l1=0.01))
    assert seconds(photos(20), "lm", normals)["train"] > 1.3 * seconds(photos(20), "lm")["train"]
    rare = replace(normals, losses=replace(normals.losses, normal_every=4))
    assert seconds(photos(20), "lm", rare)["train"] < seconds(photos(20), "lm", normals)["train"]
    assert seconds(photos(60), "lm", normals)["train"] == seconds(photos(60), "lm")["train"]


def test_of_fewer_photos_only_the_poses_cost_what_all_of_them_cost() -> None:
    everything = photos(40, test_every=8)
    all_of_them, few = expect(everything, "edgs"), expect(everything, "edgs", Choices(train_photos=4))
    alone = expect(photos(9), "edgs")
    assert few.seconds["poses"] >= all_of_them.seconds["poses"] > 3 * alone.seconds["poses"]
    assert few.seconds["evaluate"] < all_of_them.seconds["evaluate"]
    assert few.memory.stages["train"] < all_of_them.memory.stages["train"]


def test_networks_that_compare_pictures_count_where_their_weights_are(tmp_path: Path) -> None:
    figures = ("psnr-8bit", "lpips-vgg-01", "lpips-alex")
    assert expected_networks(tmp_path, figures) == Networks()
    for name in ("vgg16-397923af.pth", "vgg.pth"):
        (tmp_path / name).touch()
    assert expected_networks(tmp_path, figures) == Networks(("vgg", "vgg"), ("vgg",))
    for name in ("alexnet-owt-7be5be79.pth", "alex.pth"):
        (tmp_path / name).touch()
    assert expected_networks(tmp_path, figures).test == ("vgg", "vgg", "alex")
    capture = photos(16, test_every=8)
    without = seconds(capture, "points", Choices(lpips=tmp_path / "none"))
    reported = seconds(capture, "points", Choices(lpips=tmp_path))
    more = seconds(capture, "points", Choices(lpips=tmp_path, figures=figures))
    assert without["evaluate"] < reported["evaluate"] < more["evaluate"]
