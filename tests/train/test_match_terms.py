"""Loss terms of matched pixels."""

from __future__ import annotations

from pathlib import Path

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.slots import DepthMap, Init, RayRows
from splat.train.models.match_terms import Reprojection, WorldDistance, gradient_by_depth, working_matches

CAMERA = Camera(55.0, 55.0, 30.0, 22.0, 60, 44)
SCENE = planes.PlaneScene.make(20.0)


def world(count: int = 3, shift: float = 0.0) -> tuple[Init, list[View], Tensor]:
    """A row for each pixel, of true depth, with true depth maps; `shift`: where in its pixel a row is."""
    poses = planes.walk(count)
    views = [View(f"{i}.png", Path(f"{i}.png"), (60, 44), CAMERA, p) for i, p in enumerate(poses)]
    depths = [SCENE.depth(CAMERA, p).float() for p in poses]
    n = count * 60 * 44
    pixels = CAMERA.pixel_centres().reshape(-1, 2).float().repeat(count, 1) + shift
    blank = Gaussians(torch.zeros(n, 3), torch.zeros(n, 4), torch.zeros(n, 3), torch.zeros(n), torch.zeros(n, 1, 3))
    one = torch.ones(n)
    rays = RayRows(torch.zeros(n, dtype=torch.int64), one, one, one)
    maps = tuple(DepthMap(d, torch.ones_like(d)) for d in depths)
    init = Init(blank, torch.arange(count).repeat_interleave(60 * 44), pixels, rays, maps)
    return init, views, torch.cat([d.reshape(-1) for d in depths])


def world_distance(init: Init, views: list[View]) -> WorldDistance:
    origins = torch.cat([v.pose.translation.float().expand(60 * 44, 3) for v in views])
    rays = CAMERA.unproject(CAMERA.pixel_centres().reshape(-1, 2), torch.ones(60 * 44))
    directions = torch.cat([(rays.double() @ v.pose.rotation.T).float() for v in views])
    index = [torch.arange(60 * 44).reshape(44, 60) + i * 60 * 44 for i in range(len(views))]
    return WorldDistance(working_matches(init, views), index, origins, directions, 2.0)


@pytest.mark.parametrize("count", [2, 3])
def test_true_depth_costs_nothing_and_any_other_something(count: int) -> None:
    init, views, z = world(count)
    reprojection, distance = Reprojection.of(init, views), world_distance(init, views)
    for loss, limit in ((reprojection, 0.01), (distance, 0.1)):  # X_j is read bilinearly, and depth is not linear
        assert float(loss(z)) < limit * min(float(loss(1.1 * z)), float(loss(0.9 * z)))


def test_rows_between_pixel_centres_have_matches_of_their_own() -> None:
    init, views, _ = world(shift=0.2)
    rows = []
    for d in init.depths:
        rows.append(d.depth.reshape(-1))
    assert float(Reprojection.of(init, views)(torch.cat(rows))) < 1e-3


@pytest.mark.parametrize("name", ["reprojection", "world"])
def test_gradients_are_those_of_finite_differences_and_lead_to_true_depth(name: str) -> None:
    init, views, truth = world()
    loss = Reprojection.of(init, views) if name == "reprojection" else world_distance(init, views)
    z = truth * (1 + 0.1 * torch.sin(torch.arange(len(truth)) / 7.0))
    g = gradient_by_depth(loss, z)
    direction = torch.randn(len(z), generator=torch.Generator().manual_seed(0))
    step = 1e-2 * direction
    numeric = float(loss(z + step) - loss(z - step)) / 2
    assert numeric == pytest.approx(float((g * step).sum()), rel=0.2, abs=2e-5)
    away = (z - truth).sign()
    moved = g != 0
    assert float(((g * away)[moved] > 0).float().mean()) > 0.7


def test_one_photo_at_a_time_sums_to_all() -> None:
    init, views, z = world()
    loss = world_distance(init, views)
    parts = sum(float(loss(1.05 * z, view)) for view in range(3))
    assert float(loss(1.05 * z)) == pytest.approx(parts, rel=1e-5)


def test_without_matches_there_is_no_pull() -> None:
    init, views, z = world()
    none = Reprojection.of(init, views, [])
    assert float(none(z)) == 0 and not bool(gradient_by_depth(none, z).any())


def test_matches_follow_rows_that_are_removed_or_sorted() -> None:
    init, views, z = world()
    loss = Reprojection.of(init, views)
    bent = z * (1 + 0.1 * torch.sin(torch.arange(len(z)) / 7.0))
    before = gradient_by_depth(loss, bent)
    permutation = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))
    loss.select(permutation)
    assert torch.allclose(gradient_by_depth(loss, bent[permutation]), before[permutation])
    keep = torch.rand(len(z), generator=torch.Generator().manual_seed(1)) > 0.3
    count = len(loss.rows)
    loss.select(keep)
    kept = gradient_by_depth(loss, bent[permutation][keep])
    assert torch.allclose(kept, before[permutation][keep] * count / len(loss.rows), atol=1e-9)
    again = Reprojection.of(init, views, [])
    again.load_state(loss.state())
    assert torch.equal(gradient_by_depth(again, bent[permutation][keep]), kept)
