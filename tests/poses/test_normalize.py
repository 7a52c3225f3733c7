"""The normalized frame: what it promises, and that it can be undone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pycolmap
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid, Similarity, rotation_between, rotation_from_axis_angle
from splat.core.slots import Silent
from splat.poses.gps import enu_positions
from splat.poses.metric import Frame, framed, gps_alignment
from splat.poses.normalize import normalize, scene_centre
from splat.poses.upright import estimate_up, parse_up, snapped

UP = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)


def ring(n: int = 12, radius: float = 3.0, height: float = 2.0, part: float = 1.0) -> Capture:
    """Level cameras on a (part of a) ring about the origin, looking down at it; up is -y."""
    views = []
    for i in range(n):
        angle = torch.tensor(2 * torch.pi * part * i / n)
        eye = torch.stack([radius * torch.cos(angle), torch.tensor(-height), radius * torch.sin(angle)])
        pose = Rigid.look_at(eye, torch.zeros(3), UP)
        views.append(View(f"{i}.png", Path(f"{i}.png"), (40, 30), Camera(50.0, 50.0, 20.0, 15.0, 40, 30), pose))
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(1)) * 0.3
    return Capture(tuple(views), points=PointCloud(points, torch.rand(200, 3)))


def moved(capture: Capture, seed: int) -> tuple[Capture, Similarity]:
    """The capture as a dataset in an arbitrary frame would bring it."""
    g = torch.Generator().manual_seed(seed)
    rotation = rotation_from_axis_angle(3 * torch.randn(3, generator=g, dtype=torch.float64))
    s = Similarity(float(10 ** torch.randn(1, generator=g)), rotation, torch.randn(3, generator=g).double() * 100)
    return replace(capture.transformed(s), world_from_source=Similarity.identity()), s


@given(st.integers(0, 10_000), st.floats(0.0, 4.0), st.floats(0.3, 1.0))
@settings(max_examples=25, deadline=None)
def test_up_centre_and_scale_do_not_depend_on_the_source_frame(seed: int, height: float, part: float) -> None:
    capture, _ = moved(ring(height=height, part=part), seed)
    normal = normalize(capture)
    assert float(estimate_up(normal) @ UP) > 0.99
    assert float(normal.camera_centres().norm(dim=1).median()) == pytest.approx(1.0, rel=1e-5)
    assert float(scene_centre(normal).norm()) < 1e-3


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_normalization_is_undone_by_the_inverse_of_world_from_source(seed: int) -> None:
    capture, _ = moved(ring(), seed)
    normal = normalize(capture)
    back = normal.transformed(normal.world_from_source.inverse())
    size = capture.camera_centres().abs().max()
    assert torch.allclose(back.camera_centres(), capture.camera_centres(), atol=1e-9 * float(size))
    for a, b in zip(back.views, capture.views):
        assert torch.allclose(a.world_from_cam.rotation, b.world_from_cam.rotation, atol=1e-9)
    assert torch.allclose(back.points.positions, capture.points.positions, atol=2e-5 * float(size))
    assert back.world_from_source.scale == pytest.approx(1.0)


def test_normalizing_twice_changes_nothing_more() -> None:
    once = normalize(moved(ring(), 3)[0])
    twice = normalize(once)
    assert torch.allclose(once.camera_centres(), twice.camera_centres(), atol=1e-5)


def test_what_photos_show_does_not_change() -> None:
    capture, _ = moved(ring(), 5)
    normal = normalize(capture)
    for a, b in zip(capture.views, normal.views):
        before = a.camera.project(a.world_from_cam.inverse().apply(capture.points.positions.double()))
        after = b.camera.project(b.world_from_cam.inverse().apply(normal.points.positions.double()))
        assert torch.allclose(before, after, atol=2e-2)


def test_up_survives_photos_taken_on_their_side() -> None:
    capture = ring(n=12)
    quarter = rotation_from_axis_angle(torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64))
    views = list(capture.views)
    for i in (1, 5, 8):  # roll
        pose = views[i].world_from_cam
        views[i] = replace(views[i], world_from_cam=Rigid(pose.rotation @ quarter, pose.translation))
    assert float(estimate_up(replace(capture, views=tuple(views))) @ UP) > 0.999


def test_up_of_forward_facing_photos_is_that_of_their_images() -> None:
    views = []
    for i in range(9):
        eye = torch.tensor([0.3 * (i % 3), 0.3 * (i // 3), 0.0])
        pose = Rigid.look_at(eye, eye + torch.tensor([0.0, 0.0, 1.0]), UP)
        views.append(View(f"{i}", Path("x"), (40, 30), Camera(50.0, 50.0, 20.0, 15.0, 40, 30), pose))
    assert float(estimate_up(Capture(tuple(views))) @ UP) > 0.9999


def test_an_explicit_up_wins_and_axes_are_snapped_only_when_near() -> None:
    normal = normalize(ring(), up="x")
    assert torch.allclose(normal.world_from_source.rotation @ torch.tensor([1.0, 0, 0]).double(), UP, atol=1e-12)
    near = torch.nn.functional.normalize(torch.tensor([0.05, -1.0, 0.0], dtype=torch.float64), dim=0)
    far = torch.nn.functional.normalize(torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64), dim=0)
    assert torch.equal(snapped(near), UP) and torch.equal(snapped(far), far)


@pytest.mark.parametrize(("text", "vector"), [("-y", [0, -1, 0]), ("Z", [0, 0, 1]), ("+x", [1, 0, 0]),
                                              ("0, 0,-2", [0, 0, -1]), ("0 3 0", [0, 1, 0])])  # fmt: skip
def test_up_is_read_as_an_axis_or_three_numbers(text: str, vector: list[float]) -> None:
    assert torch.allclose(parse_up(text), torch.tensor(vector, dtype=torch.float64))


@pytest.mark.parametrize("text", ["w", "0,0,0", "1,2", "up", "nan,0,1"])
def test_a_direction_that_is_none_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(SplatError, match="not a direction"):
        parse_up(text)


@pytest.mark.parametrize("b", [[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0], [0.6, -0.8, 0], [-1 + 1e-9, 1e-5, 0]])
def test_rotation_between_is_a_rotation_that_does_it(b: list[float]) -> None:
    a = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    target = torch.nn.functional.normalize(torch.tensor(b, dtype=torch.float64), dim=0)
    rotation = rotation_between(a, target)
    assert torch.allclose(rotation @ a, target, atol=1e-6)
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-6)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0)


def test_captures_without_points_are_centred_on_what_the_cameras_look_at() -> None:
    capture = replace(ring(height=1.0), points=None)
    assert float(scene_centre(capture).norm()) < 1e-6
    assert float(normalize(capture).camera_centres().norm(dim=1).median()) == pytest.approx(1.0)


def test_far_points_do_not_pull_the_centre() -> None:
    capture = ring()
    far = capture.points.positions.clone()
    far[:20] += torch.tensor([500.0, -300.0, 80.0])
    pulled = replace(capture, points=replace(capture.points, positions=far))
    assert float((scene_centre(pulled) - scene_centre(capture)).norm()) < 0.1


def test_the_centre_is_where_the_points_are_that_most_photos_show() -> None:
    """A point counts as often as it is observed."""
    rare, common = torch.tensor([0.0, 0.0, 9.0]), torch.tensor([1.0, 0.0, 0.0])
    points = PointCloud(torch.stack([rare] * 12 + [common] * 8), torch.ones(20, 3))
    seen = torch.tensor([*range(12), *(list(range(12, 20)) * 5)])
    tracks = Tracks(torch.arange(len(seen)) % 5, seen, torch.zeros(len(seen), 2))
    capture = replace(ring(), points=points)
    assert torch.allclose(scene_centre(replace(capture, tracks=tracks)), common.double(), atol=1e-6)
    assert torch.allclose(scene_centre(capture), rare.double(), atol=1e-6), "without observations, the most points"


def test_one_camera_and_no_points_still_gives_a_finite_frame() -> None:
    capture = ring()
    single = Capture(capture.views[:1])
    normal = normalize(single)
    assert bool(torch.isfinite(normal.camera_centres()).all()) and normal.world_from_source.scale > 0


# ------------------------------------------------------------------------------------------------- size of the scene


def test_structure_from_motion_is_turned_upright_in_its_own_source_frame() -> None:
    capture, _ = moved(ring(), 9)
    upright, details = framed(capture, Frame(), Silent())
    assert float(estimate_up(upright) @ UP) > 0.999
    assert upright.world_from_source.scale == 1.0
    assert details["scale_from"] == "arbitrary"


def test_scale_and_a_measured_distance_set_the_size() -> None:
    capture = ring()
    doubled, _ = framed(capture, Frame(scale=2.0), Silent())
    assert torch.allclose(doubled.camera_centres().norm(dim=1), 2 * capture.camera_centres().norm(dim=1))
    _, details = framed(capture, Frame(measured=(0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 2.5)), Silent())
    assert details["scale"] == pytest.approx(0.5)
    with pytest.raises(SplatError):
        framed(capture, Frame(scale=-1.0), Silent())
    with pytest.raises(SplatError):
        framed(capture, Frame(measured=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0)), Silent())


def located(capture: Capture, noise: float, wrong: int, seed: int = 0) -> tuple[Capture, float]:
    """GPS positions for a capture whose frame is 40 times too small, some of them far off."""
    g = torch.Generator().manual_seed(seed)
    enu = capture.camera_centres()[:, [0, 2, 1]] * torch.tensor([1.0, 1.0, -1.0])
    enu = 40 * enu + noise * torch.randn(enu.shape, generator=g, dtype=torch.float64)
    enu[:wrong] += 300
    wgs84 = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    gps = wgs84.enu_to_ellipsoid(enu.numpy(), -33.85, -70.6, 500.0)
    views = tuple(replace(v, gps=tuple(float(x) for x in p)) for v, p in zip(capture.views, gps))
    return replace(capture, views=views), 40.0


@pytest.mark.parametrize("n", [9, 30])
def test_gps_gives_metres_despite_wrong_positions(n: int) -> None:
    capture, scale = located(ring(n=n), noise=2.0, wrong=2)
    metric, details = framed(capture, Frame(), Silent())
    assert details["scale_from"] == "gps"
    assert details["scale"] == pytest.approx(scale, rel=0.03)
    assert float(metric.camera_centres().norm(dim=1).median()) == pytest.approx(scale * 13**0.5, rel=0.03)


def test_exact_positions_give_the_similarity_despite_outliers() -> None:
    capture, scale = located(ring(n=20), noise=0.0, wrong=4)
    found = gps_alignment(capture, 5.0)
    assert not isinstance(found, str)
    enu_from_world, inliers = found
    assert inliers == 16 and enu_from_world.scale == pytest.approx(scale, rel=1e-6)
    enu = torch.from_numpy(enu_positions(capture.views))[4:]
    assert torch.allclose(enu_from_world.apply(capture.camera_centres()[4:]), enu, atol=1e-3)


def test_the_same_seed_gives_the_same_similarity() -> None:
    capture, _ = located(ring(n=30), noise=3.0, wrong=10)
    first, second = (gps_alignment(capture, 5.0, seed=7) for _ in range(2))
    assert not isinstance(first, str) and not isinstance(second, str)
    assert torch.equal(first[0].matrix(), second[0].matrix())


def test_cameras_on_one_line_still_give_the_scale() -> None:
    views = []
    for i in range(8):
        pose = Rigid(torch.eye(3, dtype=torch.float64), torch.tensor([0.5 * i, 0.1 * i, 0.0], dtype=torch.float64))
        views.append(View(f"{i}", Path("x"), (40, 30), Camera(50.0, 50.0, 20.0, 15.0, 40, 30), pose))
    capture, scale = located(Capture(tuple(views)), noise=0.0, wrong=0)
    found = gps_alignment(capture, 5.0)
    assert not isinstance(found, str) and found[0].scale == pytest.approx(scale, rel=1e-6)


def test_gps_is_not_used_where_photos_lie_too_near_together_or_disagree() -> None:
    near, _ = located(ring(radius=0.1, height=0.05), noise=0.1, wrong=0)
    assert isinstance(gps_alignment(near, 5.0), str)
    torn, _ = located(ring(), noise=60.0, wrong=5)
    assert isinstance(gps_alignment(torn, 5.0), str)
    assert gps_alignment(ring(), 5.0) == ""
