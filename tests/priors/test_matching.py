"""Dense matchers lead to where the other photo shows the same thing, and are sure of nothing where they cannot know."""

from dataclasses import dataclass, replace
from pathlib import Path

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.core.image import write_png
from splat.core.slots import DenseMatch, DenseMatcher, DepthMap, Silent
from splat.native import build
from splat.priors.matching import FlowMatcher, StereoMatcher, coarse_inverse_depths, sampled, upsampled
from splat.priors.stereo import Stereo

CAMERA = Camera(300.0, 310.0, 166.0, 114.0, 320, 240)
FEW = Stereo(rounds=(3, 2, 2))
MATCHERS = {"stereo": StereoMatcher(FEW), "flow": FlowMatcher()}
PAIRS = [(0, 1), (1, 2), (2, 0)]


@pytest.fixture(params=list(MATCHERS))
def matcher(request) -> DenseMatcher:
    if request.param == "stereo" and build.unavailable():
        pytest.skip(f"no kernels: {build.unavailable()}")
    return MATCHERS[request.param]


def truth(scene: planes.PlaneScene, a: Camera, pose_a: Rigid, b: Camera, pose_b: Rigid) -> Tensor:
    """Pixels of b [h w 2], float64."""
    points = pose_a.apply(a.unproject(a.pixel_centres().double(), scene.depth(a, pose_a)))
    return b.project(pose_b.inverse().apply(points))


def rolled(count: int = 3) -> list[Rigid]:
    """Side by side, each turned about its own axis a little more than the one before."""
    turn = [rotation_from_axis_angle(torch.tensor([0.0, 0.0, 0.12 * i]).double()) for i in range(count)]
    still = torch.zeros(3).double()
    return [p @ Rigid(r, still) for p, r in zip(planes.walk(count), turn, strict=True)]


@pytest.mark.parametrize("tilt", [0.0, 35.0])
def test_certain_pixels_lead_to_what_they_show(tmp_path: Path, matcher: DenseMatcher, tilt: float):
    scene, poses = planes.PlaneScene.make(tilt), rolled()
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    found = list(matcher(capture, PAIRS, Silent()))
    assert [(m.view_a, m.view_b) for m in found] == PAIRS
    for m in found:
        true = truth(scene, CAMERA, poses[m.view_a], CAMERA, poses[m.view_b])
        visible, certain = CAMERA.contains(true), m.certainty > 0
        error = (m.pixels_b - true).norm(dim=2)[certain]
        most = 0.5 if isinstance(matcher, StereoMatcher) else 1.0
        assert float(error.median()) < most and float((error < 3).float().mean()) > 0.98
        assert float(certain[visible].float().mean()) >= 0.4
        assert float(m.certainty.min()) >= 0 and float(m.certainty.max()) <= 1


def test_a_target_outside_the_other_photo_is_no_match(tmp_path: Path, matcher: DenseMatcher):
    scene, poses = planes.PlaneScene.make(0.0), planes.walk(2, step=1.2)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    for m in matcher(capture, [(0, 1), (1, 0)], Silent()):
        true = truth(scene, CAMERA, poses[m.view_a], CAMERA, poses[m.view_b])
        outside = ~CAMERA.contains(true)
        assert int(outside.sum()) > 3000
        far = ((true < -2) | (true > torch.tensor([CAMERA.width + 2, CAMERA.height + 2]))).any(2)
        assert float((m.certainty[far] > 0).float().mean()) < 0.02, "but for mistaken depths"
        assert bool(CAMERA.contains(m.pixels_b[m.certainty > 0]).all())


def test_a_blank_wall_matches_nothing(tmp_path: Path, matcher: DenseMatcher):
    """With the noise of a camera, in which there is always something to find."""
    scene, poses = planes.PlaneScene.make(0.0), planes.walk(3)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    for i, v in enumerate(capture.views):
        noise = torch.randn(CAMERA.height, CAMERA.width, 1, generator=torch.Generator().manual_seed(i))
        write_png(v.image_path, (150 + 1.5 * noise).round().byte().expand(-1, -1, 3).contiguous().numpy())
    for m in matcher(capture, PAIRS, Silent()):
        assert float((m.certainty > 0).float().mean()) < 0.005


def test_photos_of_other_sizes_match_at_their_own(tmp_path: Path, matcher: DenseMatcher):
    """At half the size that they have, each of its own shape; the principal point is anywhere."""
    scene, poses = planes.PlaneScene.make(20.0), planes.walk(2)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    other = Camera(280.0, 285.0, 120.0, 130.0, 260, 250)
    write_png(capture.views[1].image_path, scene.photo(other, poses[1]).numpy())
    views = (capture.views[0], replace(capture.views[1], camera=other, photo_size=(260, 250)))
    capture = capture.with_views(views)
    for m in replace(matcher, matching_size=200)(capture, [(0, 1), (1, 0)], Silent()):  # type: ignore[type-var]
        a, b = (capture.views[i].camera for i in (m.view_a, m.view_b))
        assert m.certainty.shape == (a.height, a.width) and m.pixels_b.shape == (a.height, a.width, 2)
        true = truth(scene, a, poses[m.view_a], b, poses[m.view_b])
        certain = m.certainty > 0
        assert float((m.pixels_b - true).norm(dim=2)[certain].median()) < 1.0
        assert float(certain[b.contains(true)].float().mean()) >= 0.4


def test_what_is_hidden_in_the_other_photo_is_no_match(tmp_path: Path, matcher: DenseMatcher):
    """A poster before half of one photo's scene: nothing there leads back to where it came from."""
    scene, poses = planes.PlaneScene.make(0.0), planes.walk(3)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    poster = planes.PlaneScene.make(0.0, seed=5).photo(CAMERA, poses[1])
    photo = scene.photo(CAMERA, poses[1])
    photo[60:180, 80:240] = poster[60:180, 80:240]
    write_png(capture.views[1].image_path, photo.numpy())
    (m,) = matcher(capture, [(0, 1)], Silent())
    x, y = truth(scene, CAMERA, poses[0], CAMERA, poses[1]).unbind(2)
    hidden = (x > 90) & (x < 230) & (y > 70) & (y < 170)
    assert float((m.certainty > 0)[hidden].float().mean()) < 0.1
    assert float((m.certainty > 0)[~hidden & CAMERA.contains(torch.stack([x, y], 2))].float().mean()) > 0.5


def test_photos_from_one_place_have_no_epipolar_lines(tmp_path: Path):
    scene, pose = planes.PlaneScene.make(0.0), planes.walk(1)[0]
    capture = planes.capture_of(scene, CAMERA, [pose, pose], tmp_path)
    (m,) = FlowMatcher()(capture, [(0, 1)], Silent())
    assert not bool(m.certainty.any())


def test_an_edge_along_the_epipolar_line_is_no_texture(tmp_path: Path):
    """Photos side by side of horizontal stripes: nothing tells one column from the next."""
    scene = planes.PlaneScene.make(0.0)
    poses = [Rigid(torch.eye(3).double(), torch.tensor([x, 0.0, 0.0]).double()) for x in (0.0, 0.3)]
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    rows = (127 + 100 * torch.sin(torch.arange(CAMERA.height) / 4.0)).byte()
    stripes = rows[:, None, None].expand(-1, CAMERA.width, 3).contiguous()
    for v in capture.views:
        write_png(v.image_path, stripes.numpy())
    (m,) = FlowMatcher()(capture, [(0, 1)], Silent())
    assert float((m.certainty > 0).float().mean()) < 0.005


def test_depth_maps_are_made_once_and_lead_into_the_frame_alone(tmp_path: Path):
    calls = []

    @dataclass(frozen=True)
    class Counted(Stereo):
        def __call__(self, capture, report, seed: int = 0) -> list[DepthMap]:
            calls.append(seed)
            sizes = [(v.camera.height, v.camera.width) for v in capture.views]
            return [DepthMap(torch.full(s, 4.0), torch.full(s, 0.8)) for s in sizes]

    scene, poses = planes.PlaneScene.make(0.0), [Rigid(torch.eye(3).double(), p.translation) for p in planes.walk(3)]
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    found = list(StereoMatcher(Counted())(capture, [*PAIRS, (1, 0)], Silent(), 5))
    assert calls == [5] and len(found) == 4
    certain = found[0].certainty
    assert bool(certain.any()) and bool(((certain == 0) | (certain == 0.8)).all()), "the map's own confidence, or none"
    inside = CAMERA.contains(truth(scene, CAMERA, poses[0], CAMERA, poses[1]))
    assert torch.equal(certain > 0, inside) and not bool(inside.all())


def test_the_coarse_depth_of_a_plane_is_near_its_own(tmp_path: Path):
    scene, poses = planes.PlaneScene.make(35.0), planes.walk(3)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    guess, blind = coarse_inverse_depths(capture), coarse_inverse_depths(replace(capture, points=None))
    for i, pose in enumerate(poses):
        assert float((guess(i) * scene.depth(CAMERA, pose) - 1).abs().quantile(0.9)) < 0.15
        assert bool((blind(i) > 0).all())


def test_the_coarse_depth_does_not_depend_on_how_much_is_done_at_a_time(tmp_path: Path, monkeypatch):
    capture = planes.capture_of(planes.PlaneScene.make(35.0), CAMERA, planes.walk(2), tmp_path)
    whole = coarse_inverse_depths(capture)(0)
    monkeypatch.setattr("splat.priors.matching.MAX_DISTANCES", 1000)
    assert torch.allclose(coarse_inverse_depths(capture)(0), whole, rtol=1e-12)


def test_photos_need_poses(tmp_path: Path, matcher: DenseMatcher):
    capture = planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, planes.walk(2), tmp_path)
    lost = capture.with_views(tuple(replace(v, world_from_cam=None) for v in capture.views))
    with pytest.raises(SplatError, match="poses"):
        list(matcher(lost, [(0, 1)], Silent()))


# ------------------------------------------------------------------------------------------------- enlarging, sampling


def sized(tmp_path: Path, *cameras: Camera) -> Capture:
    capture = planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, planes.walk(len(cameras)), tmp_path)
    return capture.with_views(tuple(replace(v, camera=c) for v, c in zip(capture.views, cameras, strict=True)))


def test_enlarging_keeps_an_affine_match(tmp_path: Path):
    """Half pixels included: the border's too."""
    big_a, big_b = CAMERA, CAMERA.resized(640, 300)
    small_a, small_b = big_a.resized(80, 60), big_b.resized(128, 50)
    matrix, shift = torch.tensor([[0.7, 0.1], [-0.1, 0.8]]), torch.tensor([90.0, 60.0])

    def true(pixels_a: Tensor) -> Tensor:
        return pixels_a @ matrix.T + shift

    pixels_b = true(small_a.pixel_centres() * 4) / torch.tensor([640 / 128, 300 / 50])
    match = DenseMatch(0, 1, pixels_b, torch.full((60, 80), 0.5))
    large = upsampled(match, small_b, sized(tmp_path, big_a, big_b))
    assert float((large.pixels_b - true(big_a.pixel_centres())).abs().max()) < 1e-3
    assert torch.allclose(large.certainty, torch.full((240, 320), 0.5) * big_b.contains(large.pixels_b))


def test_enlarging_invents_nothing_at_an_edge_or_a_hole(tmp_path: Path):
    small = CAMERA.resized(80, 60)
    pixels_b = small.pixel_centres().clone()
    pixels_b[:, 40:, 0] -= 9
    certainty = torch.ones(60, 80)
    certainty[10:20, 10:20] = 0
    pixels_b[10:20, 10:20] = torch.nan
    large = upsampled(DenseMatch(0, 1, pixels_b, certainty), small, sized(tmp_path, CAMERA, CAMERA))
    offset = (large.pixels_b - CAMERA.pixel_centres())[..., 0]
    sure = large.certainty > 0
    assert bool(((offset.abs() < 4) | ((offset + 36).abs() < 4))[sure].all())
    assert not bool(sure[40:80, 40:80].any()) and bool(large.pixels_b[sure].isfinite().all())
    assert float(sure.float().mean()) > 0.9


def test_sampling_is_exact_at_pixel_centres():
    image = torch.randn(5, 7, 2)
    y, x = torch.meshgrid(torch.arange(5) + 0.5, torch.arange(7) + 0.5, indexing="ij")
    assert torch.allclose(sampled(image, torch.stack([x, y], 2)), image, atol=1e-5)
    half = sampled(image, torch.tensor([[2.0, 1.5]]))
    assert torch.allclose(half[0], (image[1, 1] + image[1, 2]) / 2, atol=1e-5)
