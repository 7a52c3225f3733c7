"""Gaussians that two photos see past are removed, and what only one sees past, or what hides, stays."""

from dataclasses import replace

import oracles
import planes
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.geometry.reproject import PosedDepth
from splat.train.density import MCMCDensity, NoDensity
from splat.train.density.free_space import FreeSpace
from splat.train.density.near_camera import NearCamera
from splat.train.density.pruning import with_innermost
from splat.train.models.free import FreeGaussians

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)


def seen(count: int) -> list[PosedDepth]:
    scene = planes.PlaneScene.make(0.0)
    return [PosedDepth(CAMERA, p, scene.depth(CAMERA, p).float()) for p in planes.walk(count)]


def on_a_ray(depths: list[PosedDepth], factors: list[float]) -> FreeGaussians:
    """Gaussians on the ray of the middle pixel of the first photo, at these multiples of the surface's depth (4)."""
    first = depths[0]
    z = 4.0 * torch.tensor(factors)
    points = first.world_from_cam.apply(first.camera.unproject(torch.tensor([[80.5, 60.5]]).expand(len(z), 2), z))
    rows = oracles.random_gaussians(len(factors), torch.Generator().manual_seed(0), dtype=torch.float32)
    return FreeGaussians(replace(rows, means=points.float()))


def pruned(depths: list[PosedDepth], factors: list[float], **settings: float) -> list[float]:
    model = on_a_ray(depths, factors)
    before = model.gaussians().means.clone()
    control = FreeSpace(NoDensity(), depths, every=0.1, **settings)(500, 1.0)
    for step in range(50):
        control.after_update(step, model, 0.01, torch.Generator().manual_seed(0))
    left = {tuple(m) for m in model.gaussians().means.tolist()}
    return [f for f, m in zip(factors, before.tolist(), strict=True) if tuple(m) not in left]


def test_what_floats_before_a_surface_that_two_photos_see_goes():
    factors = [0.5, 0.9, 0.97, 1.0, 1.2]
    assert pruned(seen(3), factors) == [0.5, 0.9]
    assert pruned(seen(3), factors, max_free_space=0.2) == [0.5]


def test_one_photo_alone_does_not_decide_and_unknown_depth_says_nothing():
    one = seen(1)
    assert pruned(one, [0.5, 1.0]) == []
    blind = [replace(d, depth=torch.zeros_like(d.depth)) for d in seen(3)]
    assert pruned([one[0], *blind[1:]], [0.5, 1.0], front=0.0) == []


def test_what_veils_the_scene_between_photos_goes_though_no_photo_with_known_depth_sees_past_it():
    """Before the first photo, where it measured nothing; the second one sees the surface behind, but not the veil."""
    depths = seen(2)
    first, second = depths
    half = first.depth.clone()
    half[:, 60:100] = 0
    away = Rigid(second.world_from_cam.rotation, first.world_from_cam.translation + torch.tensor([3.0, 0, 0]).double())
    aside = replace(second, world_from_cam=away, depth=planes.PlaneScene.make(0.0).depth(CAMERA, away).float())
    views = [replace(first, depth=half), aside]
    assert pruned(views, [0.5, 1.0], front=0.0) == []
    assert pruned(views, [0.5, 1.0]) == [0.5]


def test_what_is_near_and_hides_nothing_stays():
    """Below everything that was measured, as the ground before the feet."""
    depths = seen(2)
    upper = [replace(d, depth=torch.where(torch.arange(120)[:, None] < 30, d.depth, 0)) for d in depths]
    assert pruned(upper, [0.7, 1.0]) == []


def test_the_innermost_control_is_exchanged_and_the_removals_around_it_stay():
    balls = NearCamera(MCMCDensity(cap=9), torch.zeros(1, 3), torch.ones(1))
    both = FreeSpace(balls, seen(2), 0.1)
    other = with_innermost(both, NoDensity())
    assert isinstance(other, FreeSpace) and isinstance(other.density, NearCamera)
    assert other.density.density == NoDensity() and other.max_free_space == 0.1
    assert with_innermost(MCMCDensity(), NoDensity()) == NoDensity()


def test_several_processes_share_the_cap_of_the_control_inside():
    shared = FreeSpace(NearCamera(MCMCDensity(cap=101), torch.zeros(1, 3), torch.ones(1)), seen(2)).shard(2)
    assert isinstance(shared.density, NearCamera) and shared.density.density == MCMCDensity(cap=51)
