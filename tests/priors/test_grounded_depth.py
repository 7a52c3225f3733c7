"""The ground that a scene stands on: found where photos agree about it, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.geometry import Rigid, Similarity
from splat.core.image import write_png
from splat.core.slots import DepthMap, Reporter, Silent
from splat.priors import GroundedDepth

WIDTH, HEIGHT = 64, 48
CAMERA = Camera(59.0, 59.0, 32.0, 21.5, WIDTH, HEIGHT)
POSES = planes.walk(3)
DOWN = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


@dataclass(frozen=True)
class Yard:
    """A wall 4 ahead, and ground `height` below the cameras (y points down), tilted about the viewing direction."""

    height: float = 0.8
    tilt: float = 0.08
    post: Tensor | None = None
    """Pixels, of a photo four times as large, before which something red stands: the same in every photo, where no
    ground can be."""

    def depths(self, pose: Rigid, camera: Camera = CAMERA) -> tuple[Tensor, Tensor]:
        """z of wall and ground at pixel centres, infinite where the ray does not meet them."""
        pixels = camera.pixel_centres().double()
        rays = camera.unproject(pixels, pixels.new_ones(pixels.shape[:2])) @ pose.rotation.T
        wall = (4 - pose.translation[2]) / rays[..., 2]
        normal = self.normal
        rate = rays @ normal
        ground = torch.where(rate > 1e-6, (self.height * normal[1] - pose.translation @ normal) / rate, torch.inf)
        return wall, ground

    @property
    def normal(self) -> Tensor:
        normal = torch.tensor([self.tilt, 1.0, 0.0], dtype=torch.float64)
        return normal / normal.norm()

    def view(self, pose: Rigid) -> tuple[Tensor, Tensor, Tensor]:
        """Photo (uint8; the mean of 16 rays a pixel), depth, and where it shows ground."""
        fine = CAMERA.resized(4 * WIDTH, 4 * HEIGHT)
        wall, ground = self.depths(pose, fine)
        depth = torch.minimum(wall, ground)
        x, y, z = pose.apply(fine.unproject(fine.pixel_centres().double(), depth)).unbind(-1)
        blots = 0.5 + 0.3 * (9 * x).sin() * (7 * y + 1).cos()  # of the wall
        # with edges, and nothing between them
        shadows = 0.6 - 0.25 * torch.sigmoid(30 * ((3 * x + z).sin() + (3 * z - x).cos() - 0.3))
        grey = torch.where(ground < wall, shadows, blots)
        rgb = torch.stack([grey, grey, 0.9 * grey], -1)
        if self.post is not None:
            rgb = torch.where(self.post.to(rgb).bool()[..., None], rgb.new_tensor([0.9, 0.1, 0.1]), rgb)
        photo = torch.nn.functional.avg_pool2d(rgb.permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0)
        wall, ground = self.depths(pose)
        return (255 * photo).round().byte(), torch.minimum(wall, ground), ground < wall

    def capture(self, folder: Path, poses: list[Rigid] = POSES) -> Capture:
        views, points = [], []
        generator = torch.Generator().manual_seed(1)
        for i, pose in enumerate(poses):
            photo, depth, on_ground = self.view(pose)
            path = folder / f"{i}.png"
            write_png(path, photo.numpy())
            views.append(View(path.name, path, (WIDTH, HEIGHT), CAMERA, pose))
            world = pose.apply(CAMERA.unproject(CAMERA.pixel_centres().double(), depth))
            wall, ground = world[~on_ground], world[on_ground]
            points += [wall[torch.randperm(len(wall), generator=generator)[:200]]]
            points += [ground[torch.randperm(len(ground), generator=generator)[:25]]]
        cloud = torch.cat(points).float()
        return Capture(tuple(views), PointCloud(cloud, torch.full_like(cloud, 0.5)))


YARD = Yard()


@dataclass(frozen=True)
class WallMatched:
    """True depth of the wall; of the ground a doubtful one, twice as far."""

    yard: Yard

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i, view in enumerate(capture.views):
            _, depth, on_ground = self.yard.view(view.pose)
            depth, confidence = torch.where(on_ground, 2 * depth, depth).float(), torch.where(on_ground, 0.3, 0.95)
            normals = torch.tensor([0.0, 0.0, -1.0]).expand(HEIGHT, WIDTH, 3)
            others = tuple(j for j in range(len(capture.views)) if j != i)
            maps.append(DepthMap(depth, confidence, "metric", normals, others, 0.8))
        return maps


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return YARD.capture(tmp_path_factory.mktemp("yard"))


@pytest.fixture(scope="module")
def maps(capture: Capture) -> list[DepthMap]:
    return grounded(YARD, capture)


def grounded(yard: Yard, capture: Capture) -> list[DepthMap]:
    return GroundedDepth(WallMatched(yard))(capture, Silent())


def test_the_ground_stands_in_where_matching_was_in_doubt(capture: Capture, maps: list[DepthMap]) -> None:
    for view, found in zip(capture.views, maps, strict=True):
        _, depth, on_ground = YARD.view(view.pose)
        assert found.predicted is not None
        assert float((found.predicted & on_ground).sum() / on_ground.sum()) > 0.8
        # half a pixel's blur at a grazing angle is worth a percent or two
        error = (found.depth / depth - 1).abs()[found.predicted & on_ground]
        assert float(error.median()) < 0.03 and float(error.quantile(0.9)) < 0.06
        assert not bool((found.predicted & found.measured).any())
        up = found.normals_cam[found.predicted] @ view.pose.rotation.float().T  # type: ignore[index]
        assert float((up + YARD.normal.float()).norm(dim=1).max()) < 0.1


def test_what_was_measured_stays(capture: Capture, maps: list[DepthMap]) -> None:
    for was, found in zip(WallMatched(YARD)(capture, Silent()), maps, strict=True):
        kept = was.measured & ~(found.predicted & (found.depth < was.depth))  # type: ignore[operator]
        assert float(kept.sum() / was.measured.sum()) > 0.99
        assert torch.equal(found.depth[kept], was.depth[kept])
        assert torch.equal(found.confidence[kept], was.confidence[kept])


def test_a_scene_without_ground_is_left_as_it_is(capture: Capture, tmp_path: Path) -> None:
    """The points lie where the photos contradict a ground."""
    points = Yard(height=0.5, tilt=-0.1).capture(tmp_path).points
    after = grounded(YARD, replace(capture, points=points))
    before = WallMatched(YARD)(capture, Silent())
    assert all(torch.equal(a.depth, b.depth) and a.predicted is None for a, b in zip(after, before, strict=True))


def test_no_sparse_points_and_no_depth_is_no_ground(capture: Capture) -> None:
    class Nothing(WallMatched):
        def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
            maps = super().__call__(capture, report, seed)
            return [replace(m, confidence=torch.zeros_like(m.confidence)) for m in maps]

    maps = GroundedDepth(Nothing(YARD))(replace(capture, points=None), Silent())
    assert all(m.predicted is None for m in maps)


def test_what_another_photo_contradicts_is_not_ground(maps: list[DepthMap], tmp_path: Path) -> None:
    """Red before the same pixels of every photo cannot be painted on the ground."""
    post = torch.zeros(4 * HEIGHT, 4 * WIDTH)
    post[160:182, 106:141] = 1
    inside = (slice(41, 45), slice(28, 34))
    yard = Yard(post=post)
    for found, bare in zip(grounded(yard, yard.capture(tmp_path)), maps, strict=True):
        assert found.predicted is not None and bare.predicted is not None
        assert float(found.predicted[inside].float().mean()) < 0.3 < 0.9 < float(bare.predicted[inside].float().mean())


def test_neither_scale_nor_frame_of_the_world_matters(capture: Capture, maps: list[DepthMap]) -> None:
    turn = Rigid.look_at(torch.zeros(3).double(), torch.tensor([1.0, 2.0, 3.0]).double(), DOWN).rotation
    other = capture.transformed(Similarity(5.0, turn, torch.tensor([3.0, -2.0, 7.0]).double()))

    class Scaled(WallMatched):
        def __call__(self, _: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
            return [replace(m, depth=5 * m.depth) for m in super().__call__(capture, report, seed)]

    for one, two in zip(maps, GroundedDepth(Scaled(YARD))(other, Silent()), strict=True):
        both = one.predicted & two.predicted  # type: ignore[operator]
        assert float(both.sum() / one.predicted.sum()) > 0.95  # type: ignore[union-attr]
        assert float((two.depth[both] / (5 * one.depth[both]) - 1).abs().median()) < 0.02
