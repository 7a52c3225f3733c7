"""The published EDGS, number by number, from exact matches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle
from splat.core.image import write_png
from splat.core.slots import DenseMatch, DenseMatcher, Init, Priors, Reporter, Silent
from splat.init.published_edgs import PublishedEdgs, ndc_error, weighted_sample
from splat.init.references import nearest_views, pose_features, reference_views

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)


@dataclass(frozen=True, eq=False)
class Exact:
    """Matches by the plane's own depth, at whatever scale the capture is; `shift` [2] px are added to each."""

    scene: planes.PlaneScene
    poses: list[Rigid]
    certainty: float = 0.8
    shift: tuple[float, float] = (0.0, 0.0)
    shifted: frozenset[int] = frozenset()
    """Neighbours that the shift is for; empty: all."""

    def __call__(
        self, capture: Capture, pairs: Sequence[tuple[int, int]], report: Reporter, seed: int = 0
    ) -> Iterator[DenseMatch]:
        for a, b in pairs:
            one, two = capture.views[a].camera, capture.views[b].camera
            depth = self.scene.depth(one, self.poses[a])
            points = self.poses[a].apply(one.unproject(one.pixel_centres().double(), depth))
            inside = self.poses[b].inverse().apply(points)
            there = two.project(inside)
            if not self.shifted or b in self.shifted:
                there = there + torch.tensor(self.shift)
            sure = torch.where(two.contains(there) & (inside[..., 2] > 0), self.certainty, 0.0)
            yield DenseMatch(a, b, there.float(), sure)


def scene_of(folder: Path, poses: list[Rigid], tilt: float = 20.0) -> tuple[planes.PlaneScene, Capture]:
    scene = planes.PlaneScene.make(tilt)
    return scene, planes.capture_of(scene, CAMERA, poses, folder)


def initialized(capture: Capture, matcher: DenseMatcher, seed: int = 0, **settings) -> Init:
    return PublishedEdgs(**{"matches_per_ref": 500, **settings})(capture, 2, seed, Silent(), Priors(matches=matcher))


def test_the_published_numbers_are_the_defaults():
    d = PublishedEdgs()
    numbers = (
        d.num_refs,
        d.nns_per_ref,
        d.matches_per_ref,
        d.sample_threshold,
        d.tolerance,
        d.scaling_factor,
        d.opacity,
    )
    assert numbers == (180, 3, 15_000, 0.05, 0.01, 0.001, 0.5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_points_scales_and_opacities(tmp_path, count):
    poses = planes.walk(count)
    scene, capture = scene_of(tmp_path, poses)
    result = initialized(capture, Exact(scene, poses))
    g, ids, pixels = result.gaussians, result.view_ids, result.pixels
    assert ids is not None and pixels is not None
    assert len(g) == len(ids) == len(pixels) and 0.5 * count * 500 < len(g) <= count * 500
    assert ids.bincount(minlength=count).max() <= 500 and set(ids.tolist()) == set(range(count))
    for i, pose in enumerate(poses):
        mine, at = ids == i, pixels[ids == i].double()
        inside = pose.inverse().apply(g.means[mine].double())
        assert float((CAMERA.project(inside) - at).abs().max()) < 1e-2
        rows, columns = (at[:, 1] - 0.5).long(), (at[:, 0] - 0.5).long()
        true = scene.depth(CAMERA, pose)[rows, columns]
        assert float((inside[:, 2] / true - 1).abs().max()) < 1e-4
        distance = (g.means[mine].double() - pose.translation).norm(dim=1)
        assert torch.allclose(g.scales[mine].double(), 0.001 * distance[:, None].expand(-1, 3), rtol=1e-5)
    assert torch.equal(g.opacities, torch.full((len(g),), 0.5))
    assert torch.equal(g.quats_wxyz, torch.tensor([1.0, 0, 0, 0]).expand(len(g), 4))
    assert g.sh.shape[1] == 9 and not bool(g.sh[:, 1:].any())


def test_colours_are_those_of_the_reference_at_the_pixels_centre(tmp_path):
    """On a ramp half a pixel would be seen, and so would the other photo, which is black."""
    poses = planes.walk(2)
    scene, capture = scene_of(tmp_path, poses)
    ramp = torch.arange(CAMERA.width).byte()[None, :, None].expand(CAMERA.height, -1, 3).contiguous()
    write_png(capture.views[0].image_path, ramp.numpy())
    write_png(capture.views[1].image_path, torch.zeros_like(ramp).numpy())
    result = initialized(capture, Exact(scene, poses))
    assert result.pixels is not None and result.view_ids is not None
    mine = result.view_ids == 0
    off = result.gaussians.base_rgb[mine] - (result.pixels[mine, :1] - 0.5) / 255
    assert float(off.abs().max()) < 1e-3 / 255
    assert float(result.gaussians.base_rgb[~mine].abs().max()) < 1e-6


def test_no_more_points_than_asked_from_no_more_references_than_asked(tmp_path):
    poses = planes.walk(6, step=0.2)
    scene, capture = scene_of(tmp_path, poses)
    result = initialized(capture, Exact(scene, poses), num_refs=2, matches_per_ref=300)
    assert result.view_ids is not None
    assert len(set(result.view_ids.tolist())) == 2 and 500 < len(result.gaussians) <= 600
    asked: list[tuple[int, int]] = []

    @dataclass(frozen=True, eq=False)
    class Listening(Exact):
        def __call__(self, capture, pairs, report, seed: int = 0):
            asked.extend(pairs)
            return super().__call__(capture, pairs, report, seed)

    initialized(capture, Listening(scene, poses))
    assert len(asked) == len(set(asked)) == 18 and all(a != b for a, b in asked)


@pytest.mark.parametrize(("shift", "kept"), [(0.7, True), (0.9, True), (1.5, False), (6.0, False)])
def test_the_tolerance_is_a_hundredth_of_half_the_photo(tmp_path, shift, kept):
    """Photos side by side: two rows that miss each other by s pixels leave s / 2 in each, s / 120 in its units."""
    poses = [Rigid(torch.eye(3).double(), torch.tensor([x, 0.0, 0.0]).double()) for x in (-0.2, 0.2)]
    scene, capture = scene_of(tmp_path, poses, tilt=0.0)
    report = Silent()
    matcher = Exact(scene, poses, shift=(0.0, shift))
    result = PublishedEdgs(matches_per_ref=500)(capture, 0, 0, report, Priors(matches=matcher))
    assert (result.view_ids is not None and len(result.gaussians) > 800) == kept
    assert bool(report.warnings) != kept, "what fails is not kept: here nothing is left but the sparse points"


def test_the_tolerance_holds_in_both_photos(tmp_path):
    """The same quarter of a pixel is more of a photo of 30 rows than of one of 120."""
    poses = [Rigid(torch.eye(3).double(), torch.tensor([x, 0.0, 0.0]).double()) for x in (-0.2, 0.2)]
    scene, capture = scene_of(tmp_path, poses, tilt=0.0)
    low = replace(CAMERA, cy=15.0, height=30)
    views = (capture.views[0], replace(capture.views[1], camera=low, photo_size=(160, 30)))
    write_png(views[1].image_path, scene.photo(low, poses[1]).numpy())
    for shift, kept in ((0.2, True), (0.5, False)):
        report = Silent()
        PublishedEdgs(matches_per_ref=500)(
            capture.with_views(views), 0, 0, report, Priors(matches=Exact(scene, poses, shift=(0.0, shift)))
        )
        assert bool(report.warnings) != kept


def test_the_neighbour_with_the_least_error_gives_the_point(tmp_path):
    poses = planes.walk(3, step=0.15)
    scene, capture = scene_of(tmp_path, poses)
    good = initialized(capture, Exact(scene, poses, shift=(0.0, 0.9), shifted=frozenset({2})), num_refs=3)
    assert good.view_ids is not None
    means = good.gaussians.means[good.view_ids == 0].double()
    # where the exact one holds the pixel too, the point is on the plane
    off = ((means - scene.origin) @ scene.normal).abs()
    assert float((off < 1e-4).float().mean()) > 0.85


def test_a_point_behind_the_cameras_is_not_kept(tmp_path):
    """Two views whose rays meet behind them: matches are exact, yet nothing is there to be seen."""
    poses = planes.walk(2)
    scene, capture = scene_of(tmp_path, poses)
    crossed = [poses[1], poses[0]]

    @dataclass(frozen=True, eq=False)
    class Behind(Exact):
        def __call__(self, capture, pairs, report, seed: int = 0):
            for a, b in pairs:
                centres = CAMERA.pixel_centres().double()
                depth = torch.full(centres.shape[:2], -3.0).double()
                points = poses[a].apply(CAMERA.unproject(centres, depth))
                there = CAMERA.project(poses[b].inverse().apply(points))
                yield DenseMatch(a, b, there.float(), CAMERA.contains(there).float())

    report = Silent()
    result = PublishedEdgs(matches_per_ref=500)(capture, 0, 0, report, Priors(matches=Behind(scene, crossed)))
    assert result.view_ids is None and report.warnings


def test_certain_pixels_are_sampled_alike_and_hopeless_ones_never():
    weights = torch.zeros(4000)
    weights[1000:2000] = 0.01
    weights[2000:] = 1.0
    counts = torch.zeros(4000)
    for seed in range(40):
        chosen = weighted_sample(weights, 200, torch.Generator().manual_seed(seed))
        assert len(chosen) == 200 == len(chosen.unique())
        counts[chosen] += 1
    assert counts[:1000].sum() == 0 and 0.003 < counts[1000:2000].sum() / counts[2000:].sum() < 0.008
    assert (
        len(weighted_sample(weights, 5000, torch.Generator())) == 3000
        and len(weighted_sample(torch.zeros(3), 2, torch.Generator())) == 0
    )


def test_a_pixel_above_the_threshold_is_as_good_as_certain(tmp_path):
    poses = planes.walk(2)
    scene, capture = scene_of(tmp_path, poses)

    @dataclass(frozen=True, eq=False)
    class Halves(Exact):
        def __call__(self, capture, pairs, report, seed: int = 0):
            for m in super().__call__(capture, pairs, report, seed):
                sure = torch.where(m.certainty > 0, 0.06, 0.0)
                sure[:, 80:] *= 0.02 / 0.06  # believed less than the threshold: sampled at a fiftieth of the rate
                sure[:, 120:] *= 0.95 / 0.02
                yield replace(m, certainty=sure)

    result = initialized(capture, Halves(scene, poses), matches_per_ref=1000)
    assert result.pixels is not None
    x = result.pixels[:, 0]
    low, mid, high = ((a <= x) & (x < b) for a, b in ((0, 80), (80, 120), (120, 160)))
    assert float(mid.float().mean()) < 0.05 and 0.2 < float(high.sum() / low.sum()) < 0.8


def test_masked_pixels_are_not_sampled(tmp_path):
    poses = planes.walk(2)
    scene, capture = scene_of(tmp_path, poses)
    mask = torch.full((120, 160), 255, dtype=torch.uint8)
    mask[:, 60:] = 0
    write_png(tmp_path / "mask.png", mask.numpy())
    views = tuple(replace(v, mask_path=tmp_path / "mask.png") for v in capture.views)
    result = initialized(capture.with_views(views), Exact(scene, poses))
    assert result.pixels is not None and float(result.pixels[:, 0].max()) < 61


def test_sparse_points_are_dropped(tmp_path):
    poses = planes.walk(3)
    scene, capture = scene_of(tmp_path, poses)
    result = initialized(capture, Exact(scene, poses))
    assert result.view_ids is not None and set(result.view_ids.tolist()) == {0, 1, 2}
    away = replace(capture.points, positions=capture.points.positions + 50)  # type: ignore[type-var]
    again = initialized(replace(capture, points=away), Exact(scene, poses))
    assert torch.equal(again.gaussians.means, result.gaussians.means)


def test_the_same_seed_gives_the_same_and_another_seed_others(tmp_path):
    poses = planes.walk(5, step=0.2)
    scene, capture = scene_of(tmp_path, poses)
    one, two, three = (initialized(capture, Exact(scene, poses), s, num_refs=3).gaussians for s in (1, 1, 2))
    assert torch.equal(one.means, two.means) and torch.equal(one.sh, two.sh)
    assert len(one) != len(three) or not torch.equal(one.means, three.means)


def test_duplicate_poses_do_no_harm(tmp_path):
    poses = [p for p in planes.walk(2) for _ in range(3)]
    scene, capture = scene_of(tmp_path, poses)
    for refs in (180, 4):
        result = initialized(capture, Exact(scene, poses), num_refs=refs)
        off = ((result.gaussians.means.double() - scene.origin) @ scene.normal).abs()
        assert result.view_ids is not None and len(result.gaussians) > 500 and float(off.max()) < 1e-3
    same = [poses[0]] * 3
    report = Silent()
    result = PublishedEdgs()(capture.select([True] * 3 + [False] * 3), 0, 0, report, Priors(matches=Exact(scene, same)))
    assert result.view_ids is None and report.warnings, "nothing to triangulate from: the sparse points"


def test_it_does_not_depend_on_the_worlds_frame_when_all_views_are_references(tmp_path):
    poses = planes.walk(3)
    scene, capture = scene_of(tmp_path, poses)
    turn = rotation_from_axis_angle(torch.tensor([0.3, 1.0, -0.2]).double())
    move = Similarity(7.0, turn, torch.tensor([1.0, 2, 3]).double())
    one = initialized(capture, Exact(scene, poses)).gaussians
    two = initialized(capture.transformed(move), Exact(scene, poses)).gaussians
    assert torch.allclose(move.apply(one.means.double()).float(), two.means, atol=1e-3)
    assert torch.allclose(one.log_scales + torch.log(torch.tensor(7.0)), two.log_scales, atol=1e-4)


def test_it_needs_poses_and_a_matcher(tmp_path):
    poses = planes.walk(2)
    scene, capture = scene_of(tmp_path, poses)
    lost = capture.with_views(tuple(replace(v, world_from_cam=None) for v in capture.views))
    with pytest.raises(SplatError, match="poses"):
        initialized(lost, Exact(scene, poses))
    with pytest.raises(SplatError, match="matcher"):
        PublishedEdgs()(capture, 0, 0, Silent())


# ------------------------------------------------------------------------------------------------- views and neighbours


def clusters(sizes: Sequence[int]) -> list[Rigid]:
    """Cameras close together at places far apart."""
    generator = torch.Generator().manual_seed(0)
    poses = []
    for k, size in enumerate(sizes):
        for _ in range(size):
            away = torch.tensor([10.0 * k, 0, 0]) + 0.1 * torch.randn(3, generator=generator)
            poses.append(Rigid(torch.eye(3).double(), away.double()))
    return poses


def test_references_are_one_of_each_cluster():
    poses = clusters([7, 1, 12, 4])
    found = reference_views(poses, 4, torch.Generator().manual_seed(0))
    assert [0 <= found[0] < 7, found[1] == 7, 8 <= found[2] < 20, 20 <= found[3] < 24] == [True] * 4
    mean = pose_features(poses)[:7].mean(0)
    assert found[0] == int((pose_features(poses)[:7] - mean).norm(dim=1).argmin()), "the nearest to the centre"


def test_the_references_of_a_few_views_are_the_same_for_every_seed():
    """k-means from one start ends at one of several local minima; from twenty, at the best of them."""
    along = torch.randn(10, generator=torch.Generator().manual_seed(1)).tolist()
    poses = [Rigid(torch.eye(3).double(), torch.tensor([x, 0, 0]).double()) for x in along]
    one, twenty = (
        {tuple(reference_views(poses, 3, torch.Generator().manual_seed(s), **restarts)) for s in range(10)}
        for restarts in ({"restarts": 1}, {})
    )
    assert len(one) > 2 and len(twenty) == 1


def test_there_are_never_more_references_than_views():
    poses = clusters([2, 1])
    for count in (3, 4, 180):
        assert reference_views(poses, count, torch.Generator()) == [0, 1, 2]
    twins = [poses[0]] * 5 + [poses[2]] * 5
    found = reference_views(twins, 4, torch.Generator())
    assert len(found) == 2 and found[0] < 5 <= found[1]


def test_neighbours_are_the_nearest_features_and_never_the_view_itself():
    poses = planes.walk(6)
    features: Tensor = pose_features(poses)
    assert features.shape == (6, 16)
    assert torch.equal(features[2].reshape(4, 4), poses[2].inverse().matrix())
    for i in range(6):
        found = nearest_views(poses, i, 3)
        distance = (features - features[i]).norm(dim=1)
        rest = [j for j in range(6) if j != i and j not in found]
        assert i not in found and len(found) == 3
        assert max(distance[found]) <= min(distance[rest])
    assert nearest_views(poses[:2], 0, 3) == [1] and nearest_views(poses[:1], 0, 3) == []


def test_the_error_is_in_units_of_half_the_photo():
    pose, point = Rigid.identity(), torch.tensor([[0.3, -0.2, 2.0]]).double()
    pixel = CAMERA.project(point)
    off = pixel + torch.tensor([0.8, -0.6])
    assert ndc_error(point, pixel, CAMERA, pose).item() == 0
    assert ndc_error(point, off, CAMERA, pose).item() == pytest.approx(0.8 / 80 + 0.6 / 60)
    assert ndc_error(-point, pixel, CAMERA, pose).item() == float("inf")
