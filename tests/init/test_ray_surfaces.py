"""First Gaussians for training along rays."""

from __future__ import annotations

from pathlib import Path

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.slots import DepthMap, Init, Priors, Reporter, Silent
from splat.geometry.surface_normals import normals_of_depth
from splat.init.ray_surfaces import RaySurfaces
from splat.run.arrays_io import load_init, save_init

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(20.0), planes.walk(3)


class TrueDepth:
    """Exact depths, certain on the right half of the photos, doubtful on the left."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i, view in enumerate(capture.views):
            depth = SCENE.depth(view.camera, view.pose).float()
            confidence = torch.full_like(depth, 0.95)
            confidence[:, : depth.shape[1] // 2] = 0.3
            others = tuple(j for j in range(len(capture.views)) if j != i)
            maps.append(DepthMap(depth, confidence, "metric", normals_of_depth(view.camera, depth), others))
        return maps


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Capture, Init]:
    capture = planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("rays"))
    return capture, RaySurfaces(budget=1500)(capture, 1, 0, Silent(), Priors(TrueDepth()))


def test_every_gaussian_lies_on_the_ray_of_its_pixel(made: tuple[Capture, Init]) -> None:
    capture, init = made
    assert init.view_ids is not None and init.pixels is not None and len(init.gaussians) > 800
    for i, view in enumerate(capture.views):
        mine = init.view_ids == i
        found = CAMERA.project(view.pose.inverse().apply(init.gaussians.means[mine].double()))
        assert float((found - init.pixels[mine]).norm(dim=1).max()) < 1e-3
    assert set(init.view_ids.unique().tolist()) <= {0, 1, 2}


def test_a_probable_depth_may_slide_little_and_a_doubtful_one_far(made: tuple[Capture, Init]) -> None:
    init = made[1]
    assert init.rays is not None
    rays = init.rays
    sure, doubtful = rays.probability > 0.9, (rays.probability < 0.5) & (rays.probability > 0)
    assert int(sure.sum()) > 100 and int(doubtful.sum()) > 100
    assert float(rays.farthest[sure].median()) < 1.25 < float(rays.farthest[doubtful].median())
    assert bool((rays.nearest <= 1).all()) and bool((rays.farthest >= 1).all())


def test_nothing_may_slide_to_where_another_photo_sees_past_it(made: tuple[Capture, Init]) -> None:
    """The other photos know the plane: nearer than it by a tenth is free space for them."""
    capture, init = made
    assert init.rays is not None and init.view_ids is not None
    for i, view in enumerate(capture.views):
        mine = (init.view_ids == i).nonzero()[:, 0]
        nearest = view.pose.translation + init.rays.nearest[mine, None] * (
            init.gaussians.means[mine].double() - view.pose.translation
        )
        for other in capture.views:
            inside = other.pose.inverse().apply(nearest)
            pixels = CAMERA.project(inside)
            seen = CAMERA.contains(pixels) & (inside[:, 2] > 0)
            if other is view or not bool(seen.any()):
                continue
            truth = SCENE.depth(CAMERA, other.pose)
            column, row = pixels[seen].floor().long().unbind(1)
            assert float((truth[row, column] / inside[seen, 2]).max()) < 1.1


def test_what_was_learned_of_depth_is_kept_on_disk(made: tuple[Capture, Init], tmp_path: Path) -> None:
    init = made[1]
    save_init(tmp_path / "init.npz", init)
    again = load_init(tmp_path / "init.npz")
    assert init.rays is not None and again.rays is not None and len(again.depths) == len(init.depths) == 3
    for a, b in zip(vars(init.rays).values(), vars(again.rays).values()):
        assert torch.equal(a, b)
    for one, other in zip(init.depths, again.depths):
        assert torch.allclose(one.depth, other.depth, rtol=1e-5)
        assert float((one.confidence - other.confidence).abs().max()) < 1 / 255
        assert other.normals_cam is not None and float((one.normals_cam * other.normals_cam).sum(2).min()) > 0.999
    part = again.rows(torch.arange(5))
    assert part.rays is not None and len(part.rays) == 5 and len(part.depths) == 3
