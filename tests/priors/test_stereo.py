"""Dense stereo finds planes where they are, and says where it does not know."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.core.slots import Silent
from splat.geometry.reproject import project_points
from splat.native import build
from splat.priors.neighbours import overlap
from splat.priors.stereo import Stereo
from splat.priors.stereo_search import StereoView, grey_of, texels_of

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")
CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)
FEW = Stereo(rounds=(3, 2, 2))


def views_of(scene: planes.PlaneScene, poses: list[Rigid], camera: Camera = CAMERA) -> list[StereoView]:
    greys = [grey_of(scene.photo(camera, p).float() / 255) for p in poses]
    return [StereoView(camera, p, g, (1.5, 12.0)) for p, g in zip(poses, greys, strict=True)]


def everyone_else(count: int) -> list[list[int]]:
    return [[j for j in range(count) if j != i] for i in range(count)]


def test_a_texel_holds_a_pixel_and_its_three_neighbours():
    grey = torch.tensor([[1.0, 2, 250], [4, 5, 6]])
    word = texels_of(grey).long() & 0xFFFFFFFF
    assert [int(word[0, 1]) >> s & 255 for s in (0, 8, 16, 24)] == [2, 250, 5, 6]
    assert [int(word[1, 2]) >> s & 255 for s in (0, 8, 16, 24)] == [6, 6, 6, 6]


@pytest.mark.parametrize("tilt", [0.0, 35.0, -50.0])
def test_depth_and_normal_of_a_tilted_plane(tilt):
    scene, poses = planes.PlaneScene.make(tilt), planes.walk(4)
    maps = FEW.match(views_of(scene, poses), everyone_else(4), Silent())
    for pose, found in zip(poses, maps, strict=True):
        sure = found.measured
        error = (found.depth / scene.depth(CAMERA, pose) - 1).abs()[sure]
        assert float(sure.float().mean()) > 0.6
        assert float(error.median()) < 0.005 and float((error < 0.02).float().mean()) > 0.97
        assert found.normals_cam is not None
        truth = pose.rotation.T.float() @ scene.normal.float()
        degrees = (found.normals_cam[sure] @ truth).clamp(-1, 1).arccos().rad2deg()
        assert float(degrees.median()) < 12


def test_it_does_not_depend_on_the_worlds_frame_or_unit():
    scene, poses = planes.PlaneScene.make(20.0), planes.walk(3)
    views = views_of(scene, poses)
    turn = Rigid(rotation_from_axis_angle(torch.tensor([0.4, -1.0, 0.3]).double()), torch.tensor([5.0, -7, 2]).double())
    moved = [
        StereoView(
            v.camera, turn @ Rigid(v.world_from_cam.rotation, 8 * v.world_from_cam.translation), v.grey, (12.0, 96.0)
        )
        for v in views
    ]
    one, two = (FEW.match(v, everyone_else(3), Silent()) for v in (views, moved))
    for a, b in zip(one, two, strict=True):
        assert (a.measured == b.measured).float().mean() > 0.97
        both = a.measured & b.measured
        assert ((8 * a.depth / b.depth - 1).abs()[both] < 0.01).float().mean() > 0.98


def test_the_same_seed_gives_the_same_bits():
    views = views_of(planes.PlaneScene.make(10.0), planes.walk(2))
    one, two = (FEW.match(views, everyone_else(2), Silent(), seed=3) for _ in range(2))
    assert all(torch.equal(a.depth, b.depth) and torch.equal(a.confidence, b.confidence) for a, b in zip(one, two))


def test_a_blank_wall_a_lone_photo_and_a_photo_of_something_else_are_rejected():
    scene, other = planes.PlaneScene.make(0.0), planes.PlaneScene.make(0.0, seed=5)
    blank = replace(scene, texture=torch.full_like(scene.texture, 0.5))
    poses = planes.walk(2)
    for views, pairs in [
        (views_of(blank, poses), everyone_else(2)),
        (views_of(scene, poses), [[], []]),
        ([views_of(scene, poses)[0], views_of(other, poses)[1]], everyone_else(2)),
    ]:
        for found in FEW.match(views, pairs, Silent()):
            assert float(found.measured.float().mean()) < 0.03
            assert bool(found.depth.isfinite().all())


def test_the_confidence_is_the_probability_that_a_depth_is_right():
    """On photos of ray-traced scenes that the model was not fitted on, degraded, with poses that are a little wrong."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from fit_stereo import RIGHT, pairs_of, subset
    from stereo_scenes import photograph

    said, right = [], []
    for number in (1002, 1006):
        scene = photograph(number, photos=3, width=288)
        views, chosen = subset(scene, number)
        for found, i in zip(Stereo().match(views, pairs_of(views, 4), Silent()), chosen, strict=True):
            depth = scene.depth[i]
            said.append(found.confidence.reshape(-1))
            right.append(((found.depth - depth).abs() < RIGHT * depth).reshape(-1))
    p, y = torch.cat(said), torch.cat(right).float()
    sure, unsure = p >= 0.9, p < 0.3
    assert float(sure.float().mean()) > 0.2 and float(unsure.float().mean()) > 0.05
    assert float(y[sure].mean()) > 0.9 and float(y[unsure].mean()) < 0.3
    assert abs(float(p.mean() - y.mean())) < 0.1


def test_what_only_one_source_sees_is_found():
    """Out of the other's frame, a plane must not lose to one that both see and neither likes."""
    scene, up = planes.PlaneScene.make(0.0), torch.tensor([0.0, -1, 0])
    poses = [Rigid.look_at(torch.tensor([x, 0, 0]), torch.tensor([x, 0, 4]), up) for x in (0.0, 0.5, 2.0)]
    found = FEW.match(views_of(scene, poses), everyone_else(3), Silent())[0]
    truth = scene.depth(CAMERA, poses[0])
    points = poses[0].apply(CAMERA.unproject(CAMERA.pixel_centres().double(), truth))
    near, far = (project_points(CAMERA, p, points).in_frame for p in poses[1:])
    one = near & ~far
    assert float(one.float().mean()) > 0.2
    assert float(((found.depth / truth - 1).abs()[one] < 0.02).float().mean()) > 0.8


def test_exposure_does_not_matter():
    scene, poses = planes.PlaneScene.make(0.0), planes.walk(3)
    views = views_of(scene, poses)
    views[1] = replace(views[1], grey=(0.6 * views[1].grey + 30).clamp(0, 255))
    found = FEW.match(views, everyone_else(3), Silent())[0]
    assert float(found.measured.float().mean()) > 0.6


def test_neighbours_are_those_that_share_the_view_at_a_useful_angle(tmp_path):
    scene, poses = planes.PlaneScene.make(0.0), planes.walk(5, step=0.8)
    away = Rigid.look_at(torch.tensor([0.0, 0, 0]), torch.tensor([0.0, 0, -4]), torch.tensor([0.0, -1, 0]))
    capture = planes.capture_of(scene, CAMERA, [*poses, poses[2], away], tmp_path)
    found = overlap(capture)
    assert found.neighbours(2, 2) == [1, 3] or found.neighbours(2, 2) == [3, 1]
    assert 6 not in found.neighbours(2, 6) and found.neighbours(6, 6) == []
    assert found.score[2, 5] < 0.2 * found.score[2, 1], "a photo from the same place has no parallax"
    near, far = found.depths[2]
    truth = scene.depth(CAMERA, poses[2])
    assert near < truth.min() and far > truth.max()


@pytest.mark.data
def test_the_motorcycle_pair(data_root: Path):
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from bench_stereo import motorcycle

    if not (data_root / "stereo_motorcycle").is_dir():
        pytest.skip(f"no stereo_motorcycle in {data_root}")
    figures = motorcycle(data_root / "stereo_motorcycle", Stereo())
    ours, sgbm = figures["ours"], figures["sgbm"]
    assert ours["bad_2_percent"] <= 5 and ours["kept_percent"] >= 80, os.linesep.join(map(str, (ours, sgbm)))
    assert ours["bad_2_percent"] < sgbm["bad_2_percent"]
