"""Dense initialization puts Gaussians on surfaces, once, in the right size, shape and colour."""

from dataclasses import dataclass, replace

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud
from splat.core.errors import SplatError
from splat.core.geometry import Similarity, matrix_from_quat, rotation_from_axis_angle
from splat.core.slots import DepthMap, Priors, Silent
from splat.init.dense_surfaces import PIXELS_PER_GAUSSIAN, DenseSurfaces, initial_budget
from splat.init.sampling import stratified
from splat.init.view_surfaces import gains, log_ratio, smoothed_normals

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)


@dataclass(frozen=True)
class Known:
    """The plane's own depth, as a depth prior."""

    scene: planes.PlaneScene
    scale: float = 1.0
    confidence: float = 1.0
    neighbours: bool = True

    def __call__(self, capture: Capture, report, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i, v in enumerate(capture.views):
            pose = planes.walk(len(capture.views))[i]
            depth = self.scene.depth(v.camera, pose).float()
            normal = pose.rotation.T.float() @ self.scene.normal.float()
            others = tuple(j for j in range(len(capture.views)) if j != i and self.neighbours)
            sure = torch.full_like(depth, self.confidence)
            maps.append(DepthMap(self.scale * depth, sure, "metric", normal.expand(*depth.shape, 3), others))
        return maps


def initialized(capture: Capture, depth, **settings):
    settings.setdefault("margin", 0.0)
    return DenseSurfaces(keep_points=0.0, **settings)(capture, 2, 0, Silent(), Priors(depth))


@pytest.mark.parametrize("tilt", [0.0, 40.0])
def test_gaussians_lie_on_the_plane_flat_against_it(tmp_path, tilt):
    scene = planes.PlaneScene.make(tilt)
    result = initialized(planes.capture_of(scene, CAMERA, planes.walk(3), tmp_path), Known(scene))
    g = result.gaussians
    off = ((g.means.double() - scene.origin) @ scene.normal).abs()
    assert float((off / g.means[:, 2]).max()) < 1e-5
    turn = matrix_from_quat(g.quats_wxyz)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(len(g)), atol=1e-4)
    shortest = turn.gather(2, g.log_scales.argmin(1)[:, None, None].expand(-1, 3, 1))[..., 0]
    assert float((shortest.double() @ scene.normal).abs().min()) > 0.985  # 10 degrees
    assert result.view_ids is not None and result.pixels is not None


def test_where_only_some_photos_are_matched_they_are_spread_and_stand_for_all(tmp_path):
    """And Gaussians know the numbers of their photos among all."""
    scene = planes.PlaneScene.make(20.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(9), tmp_path)
    asked = []

    class Noted(Known):
        def __call__(self, capture: Capture, report, seed: int = 0) -> list[DepthMap]:
            asked.append([v.name for v in capture.views])
            poses = [v.pose for v in capture.views]
            maps = []
            for i, v in enumerate(capture.views):
                depth = self.scene.depth(v.camera, poses[i]).float()
                normal = (poses[i].rotation.T.float() @ self.scene.normal.float()).expand(*depth.shape, 3)
                others = tuple(j for j in range(len(poses)) if j != i)
                maps.append(DepthMap(depth, torch.ones_like(depth), "metric", normal, others))
            return maps

    result = initialized(capture, Noted(scene), max_photos=3)
    used = [[v.name for v in capture.views].index(name) for name in asked[0]]
    assert len(used) == 3 and used[0] <= 2 and 2 < used[1] < 6 and used[2] >= 6
    assert set(result.view_ids.tolist()) <= set(used) and result.view_ids.unique().numel() > 1
    off = ((result.gaussians.means.double() - scene.origin) @ scene.normal).abs()
    assert float(off.max()) < 1e-4
    for i in used:
        mine = result.view_ids == i
        view = capture.views[i]
        pixels = view.camera.project(view.pose.inverse().apply(result.gaussians.means[mine].double()))
        assert float((pixels - result.pixels[mine].double()).abs().max()) < 0.01


def test_surfaces_go_on_beyond_the_frame_of_the_photos(tmp_path):
    """Where somebody who walks will look: on the plane still, in the colours of the border, and nowhere else."""
    scene = planes.PlaneScene.make(20.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(3), tmp_path)
    plain, wider = initialized(capture, Known(scene)), initialized(capture, Known(scene), margin=0.15)
    outside = torch.ones(len(wider.gaussians), dtype=torch.bool)
    around = torch.zeros_like(outside)
    for v in capture.views:
        pixels = v.camera.project(v.pose.inverse().apply(wider.gaussians.means.double()))
        outside &= ~v.camera.contains(pixels)
        reach = pixels.new_tensor([0.16 * CAMERA.width, 0.16 * CAMERA.height])
        size = pixels.new_tensor([CAMERA.width, CAMERA.height])
        around |= ((pixels > -reach) & (pixels < size + reach)).all(1)
    assert int(outside.sum()) > 0.05 * len(plain.gaussians) and bool(around.all())
    assert len(wider.gaussians) - int(outside.sum()) == pytest.approx(len(plain.gaussians), rel=0.02)
    g = wider.gaussians[outside]
    off = ((g.means.double() - scene.origin) @ scene.normal).abs() / g.means[:, 2]
    assert float(off.median()) < 1e-3 and float(off.max()) < 0.02


def test_what_several_photos_see_is_sampled_once(tmp_path):
    scene = planes.PlaneScene.make(0.0)
    poses = planes.walk(4, step=0.05)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)

    @dataclass(frozen=True)
    class Close(Known):
        def __call__(self, capture, report, seed=0):
            maps = []
            for i, (v, pose) in enumerate(zip(capture.views, poses, strict=True)):
                depth = self.scene.depth(v.camera, pose).float()
                normal = pose.rotation.T.float() @ self.scene.normal.float()
                others = tuple(j for j in range(4) if j != i)
                maps.append(DepthMap(depth, torch.ones_like(depth), "metric", normal.expand(*depth.shape, 3), others))
            return maps

    result = initialized(capture, Close(scene), detail=1.0)
    ids = result.view_ids
    assert ids is not None
    share = (ids == ids.mode().values).float().mean()
    assert float(share) > 0.85, "photos from nearly one place: one of them has nearly all of the surface"
    budget = 4 * CAMERA.width * CAMERA.height / PIXELS_PER_GAUSSIAN
    assert len(result.gaussians) == pytest.approx(budget, rel=0.1)


@pytest.mark.parametrize("focal", [100.0, 200.0])
def test_a_gaussian_is_as_large_as_its_spacing_at_any_focal_length(tmp_path, focal):
    """Across the surface, the given share of the distance to its neighbours: of samples spread evenly over a photo, the
    root of the pixels per sample. Along the normal, the given share of that."""
    scene, camera = planes.PlaneScene.make(0.0), replace(CAMERA, fx=focal, fy=focal)
    prior = Known(scene, neighbours=False)  # each photo samples all that it sees
    capture = planes.capture_of(scene, camera, planes.walk(2), tmp_path)
    result = initialized(capture, prior, detail=1.0, overlap=0.7, thickness=0.2, budget=500)
    assert result.view_ids is not None
    for i in range(2):
        g = result.gaussians[result.view_ids == i]
        spacing = (camera.width * camera.height / len(g)) ** 0.5
        pixels = g.log_scales.exp().sort(1).values * focal / g.means[:, 2:]
        thin, across, along = (float(s.median()) / spacing for s in pixels.unbind(1))
        assert across == pytest.approx(0.7, rel=0.03)
        assert across <= along < 1.2 * across, "towards the sides the wall is seen at an angle"
        assert thin == pytest.approx(0.2 * 0.7, rel=0.03)


def test_colours_are_those_of_the_pixels_centre(tmp_path):
    """On a ramp half a pixel would be seen."""
    from splat.core.image import write_png

    scene, poses = planes.PlaneScene.make(0.0), planes.walk(2)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    ramp = torch.arange(CAMERA.width).byte()[None, :, None].expand(CAMERA.height, -1, 3).contiguous()
    for v in capture.views:
        write_png(v.image_path, ramp.numpy())
    result = initialized(capture, Known(scene, neighbours=False))
    assert result.pixels is not None
    inner = (result.pixels[:, 0] > 16) & (result.pixels[:, 0] < CAMERA.width - 16)
    rgb = result.gaussians.base_rgb[inner]
    assert float((rgb[:, 0] - (result.pixels[inner, 0] - 0.5) / 255).abs().max()) < 1 / 255
    assert not bool(result.gaussians.sh[:, 1:].any())


def test_colours_are_at_the_mean_exposure_and_one_photos_intruder_is_outvoted(tmp_path):
    from splat.core.image import read_pixels, write_png

    scene, poses = planes.PlaneScene.make(0.0), planes.walk(4, step=0.1)
    capture = planes.capture_of(scene, CAMERA, poses, tmp_path)
    truth = initialized(capture, Known(scene), budget=2560, detail=1.0)
    for i, v in enumerate(capture.views):
        pixels = read_pixels(v.image_path) * (0.9, 1.1, 0.8, 1 / (0.9 * 1.1 * 0.8))[i]
        if i == 2:
            pixels[40:80, 60:100] = 250
        write_png(v.image_path, pixels.clip(0, 255).round().astype("uint8"))
    again = initialized(capture, Known(scene), budget=2560, detail=1.0)
    assert torch.equal(again.gaussians.means, truth.gaussians.means)
    off = (again.gaussians.base_rgb - truth.gaussians.base_rgb).abs().amax(1)
    assert float(off.median()) < 0.03 and float((off < 0.15).float().mean()) > 0.95


def test_gains_are_found_from_ratios_between_photos():
    true = torch.tensor([[1.2, 1.0, 0.9], [0.8, 1.1, 1.0], [1.0, 0.9, 1.1]]).log()
    true -= true.mean(0)
    pairs = [(i, j, true[i] - true[j]) for i in range(3) for j in range(3) if i != j]
    assert torch.allclose(gains(3, pairs), true.exp(), atol=0.01)
    assert torch.equal(gains(2, []), torch.ones(2, 3))
    assert log_ratio(torch.full((500, 3), 0.4), torch.full((500, 3), 0.2)) is not None
    assert log_ratio(torch.full((500, 3), 0.99), torch.full((500, 3), 0.2)) is None


def test_the_budget_leaves_density_control_its_share_of_the_cap(tmp_path):
    capture = planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, planes.walk(2), tmp_path)
    assert initial_budget(capture) == 2 * 160 * 120 // PIXELS_PER_GAUSSIAN
    assert initial_budget(capture, cap=100) == 30 and initial_budget(capture, cap=10**6) == initial_budget(capture)


def test_it_does_not_depend_on_the_worlds_frame(tmp_path):
    scene = planes.PlaneScene.make(25.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(3), tmp_path)
    move = Similarity(
        7.0, rotation_from_axis_angle(torch.tensor([0.3, 1.0, -0.2]).double()), torch.tensor([1.0, 2, 3]).double()
    )
    one = initialized(capture, Known(scene)).gaussians
    two = initialized(capture.transformed(move), Known(scene, scale=7.0)).gaussians
    assert len(one) == len(two)
    assert torch.allclose(move.apply(one.means.double()).float(), two.means, atol=1e-3)
    assert torch.allclose(one.log_scales + torch.log(torch.tensor(7.0)), two.log_scales, atol=1e-4)


def test_sparse_points_are_kept_where_nothing_dense_is(tmp_path):
    scene = planes.PlaneScene.make(0.0)
    capture = planes.capture_of(scene, CAMERA, planes.walk(2), tmp_path)
    assert capture.points is not None
    lonely = torch.tensor([[0.0, 0.0, 1.5], [0.5, 0.2, 1.2]])
    points = replace(
        capture.points,
        positions=torch.cat([capture.points.positions, lonely]),
        rgb=torch.cat([capture.points.rgb, torch.full_like(lonely, 0.5)]),
    )
    result = DenseSurfaces()(replace(capture, points=points), 0, 0, Silent(), Priors(Known(scene)))
    assert result.view_ids is not None
    kept = result.gaussians.means[result.view_ids < 0]
    assert len(kept) == 2 and torch.allclose(kept.sort(0).values, lonely.sort(0).values)


def test_where_nothing_matches_it_starts_from_the_sparse_points(tmp_path):
    scene, report = planes.PlaneScene.make(0.0), Silent()
    capture = planes.capture_of(scene, CAMERA, planes.walk(2), tmp_path)
    result = DenseSurfaces()(capture, 0, 0, report, Priors(Known(scene, confidence=0.0)))
    assert capture.points is not None and len(result.gaussians) <= len(capture.points) and report.warnings
    few = replace(capture, points=PointCloud(capture.points.positions[:9], capture.points.rgb[:9]), tracks=None)
    DenseSurfaces()(few, 0, 0, report, Priors(Known(scene, confidence=0.0)))
    assert "9 sparse points" in report.warnings[-1] and "closer together" in report.warnings[-1]
    one = capture.select([True, False])
    assert len(DenseSurfaces()(one, 0, 0, Silent(), Priors(Known(scene))).gaussians) > 0
    with pytest.raises(SplatError, match="depth prior"):
        DenseSurfaces()(capture, 0, 0, Silent())
    with pytest.raises(SplatError, match="at least 1"):
        DenseSurfaces(support_views=0)(capture, 0, 0, Silent(), Priors(Known(scene)))


def test_samples_are_as_many_as_asked_and_spread_evenly():
    generator = torch.Generator().manual_seed(0)
    density = torch.zeros(64, 96)
    density[:, 48:] = 0.1
    density[:, 72:] = 0.4
    chosen = stratified(density, generator)
    assert len(chosen) == pytest.approx(float(density.sum()), abs=1) and len(set(chosen.tolist())) == len(chosen)
    counts = torch.zeros(64 * 96)
    counts[chosen] = 1
    cells = torch.nn.functional.avg_pool2d(counts.reshape(1, 1, 64, 96), 8)[0, 0] * 64
    assert not cells[:, :6].any() and (cells[:, 6:9] - 6.4).abs().max() <= 3 and (cells[:, 9:] - 25.6).abs().max() <= 4


def test_normals_are_averaged_on_each_side_of_an_edge_alone():
    depth = torch.ones(20, 30)
    depth[:, 15:] = 2
    normals = torch.zeros(20, 30, 3)
    normals[..., 2] = -1
    normals[:, 15:, 0] = 1
    normals = torch.nn.functional.normalize(normals + 0.1 * torch.randn(20, 30, 3), dim=2)
    depth[4:6, 4:9] = 0  # not known: says nothing to its neighbours, and keeps what it has
    normals[4:6, 4:9] = torch.tensor([0.0, 0.6, -0.8])
    smooth = smoothed_normals(normals, depth)
    assert torch.allclose(smooth, smoothed_normals(normals.double(), depth.double()).float(), atol=1e-5)
    assert torch.allclose(smooth[4:6, 4:9], normals[4:6, 4:9], atol=1e-5)
    smooth[4:6, 4:9] = torch.tensor([0.0, 0, -1])
    for side, truth in ((smooth[:, :15], [0.0, 0, -1]), (smooth[:, 15:], [0.7071, 0, -0.7071])):
        assert float((side @ torch.tensor(truth)).min()) > 0.99
