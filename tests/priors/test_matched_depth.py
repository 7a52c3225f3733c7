"""Depth maps by triangulating what a matcher says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.slots import DenseMatch, Silent
from splat.priors.matched_depth import MatchedDepth, normals_from_depth

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)


@dataclass(frozen=True)
class Exact:
    """The truth about a plane, spoiled in a share of the pixels."""

    scene: planes.PlaneScene
    spoiled: float = 0.0

    def __call__(self, capture, pairs: Sequence[tuple[int, int]], report, seed: int = 0) -> Iterator[DenseMatch]:
        generator = torch.Generator().manual_seed(seed)
        for a, b in pairs:
            one, two = capture.views[a], capture.views[b]
            depth = self.scene.depth(one.camera, one.world_from_cam)
            world = one.world_from_cam.apply(one.camera.unproject(one.camera.pixel_centres().double(), depth))
            there = two.camera.project(two.world_from_cam.inverse().apply(world))
            wrong = torch.rand(depth.shape, generator=generator) < self.spoiled
            size = torch.tensor([two.camera.width, two.camera.height]).double()
            there = torch.where(wrong[..., None], size * torch.rand(there.shape, generator=generator), there)
            yield DenseMatch(a, b, there.float(), two.camera.contains(there).float())


@pytest.mark.parametrize("tilt", [0.0, 40.0])
def test_depth_and_normals_from_depth_a_plane_are_its_own(tmp_path, tilt) -> None:
    scene = planes.PlaneScene.make(tilt)
    capture = planes.capture_of(scene, CAMERA, planes.walk(3), tmp_path)
    for view, found in zip(capture.views, MatchedDepth(Exact(scene))(capture, Silent()), strict=True):
        sure = found.confidence > 0
        assert float(sure.float().mean()) > 0.7 and found.neighbours
        truth = scene.depth(CAMERA, view.world_from_cam)
        assert float((found.depth / truth - 1).abs()[sure].max()) < 1e-3
        normal = view.world_from_cam.rotation.T @ scene.normal
        cos = (found.normals_cam.double() @ normal)[1:-1, 1:-1][sure[1:-1, 1:-1]]
        assert float(cos.quantile(0.05)) > 0.98


def test_a_depth_that_fewer_photos_agree_on_is_less_certain(tmp_path) -> None:
    """All of its photos: the mean certainty of the matches; half of them: three quarters of it."""
    scene = planes.PlaneScene.make(0.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(3, step=0.8), tmp_path)
    found = MatchedDepth(Exact(scene))(capture, Silent())[0]
    one, two = (m.certainty for m in Exact(scene)(capture, [(0, 1), (0, 2)], Silent()))
    for agreeing, confidence in ((2, 1.0), (1, 0.75)):
        here = one + two == agreeing
        assert int(here.sum()) > 200 and bool((found.confidence[here] == confidence).all())


def test_matches_that_contradict_each_other_are_rejected(tmp_path) -> None:
    scene = planes.PlaneScene.make(20.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(4, step=0.15), tmp_path)
    for view, found in zip(capture.views, MatchedDepth(Exact(scene, 0.3))(capture, Silent()), strict=True):
        sure = found.confidence > 0
        off = (found.depth / scene.depth(CAMERA, view.world_from_cam) - 1).abs()
        assert float(sure.float().mean()) > 0.45
        assert float((off[sure] < 0.02).float().mean()) > 0.99


def test_a_photo_that_nobody_can_be_matched_with_knows_nothing(tmp_path) -> None:
    scene = planes.PlaneScene.make(0.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(2), tmp_path).select([True, False])
    (found,) = MatchedDepth(Exact(scene))(capture, Silent())
    assert not bool(found.confidence.any()) and found.neighbours == ()


def test_photos_without_poses_are_refused(tmp_path) -> None:
    scene = planes.PlaneScene.make(0.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(2), tmp_path)
    lost = replace(capture, views=tuple(replace(v, world_from_cam=None) for v in capture.views))
    with pytest.raises(SplatError, match="poses"):
        MatchedDepth(Exact(scene))(lost, Silent())


def test_where_depth_is_not_known_around_a_pixel_its_normal_is_its_ray() -> None:
    depth, known = torch.ones(12, 16), torch.zeros(12, 16, dtype=torch.bool)
    camera = Camera(20.0, 20.0, 8.0, 6.0, 16, 12)
    normals = normals_from_depth(depth, known, camera)
    rays = torch.nn.functional.normalize(camera.unproject(camera.pixel_centres(), depth), dim=2)
    assert torch.allclose(normals, -rays)
