"""What floats before surfaces, as a share of what is drawn."""

from __future__ import annotations

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings
from splat.geometry.floaters import floating, floating_weights, seen_past, share_of
from splat.geometry.reproject import PosedDepth
from splat.raster import choose

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(10.0), planes.walk(3)
DEPTHS = [PosedDepth(CAMERA, p, SCENE.depth(CAMERA, p).float()) for p in POSES]


def on_the_plane(factor: float = 1.0, opacity: float = 0.95) -> Gaussians:
    """Covers what the middle camera sees, at `factor` times the plane's depth."""
    depth = factor * SCENE.depth(CAMERA, POSES[1])[::3, ::3]
    pixels = CAMERA.pixel_centres().double()[::3, ::3]
    means = POSES[1].apply(CAMERA.unproject(pixels, depth)).reshape(-1, 3).float()
    n = len(means)
    return Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        torch.full((n, 3), 0.06 * factor).log(),
        torch.logit(torch.full((n,), opacity)),
        torch.zeros(n, 1, 3),
    )


def share(gaussians: Gaussians, cameras: int = 3) -> float | None:
    raster = choose(torch.device("cpu"), "auto")
    cams = [(CAMERA, p) for p in POSES[:cameras]]
    return share_of(floating_weights(gaussians, DEPTHS, cams, raster, RasterSettings()))


def test_a_scene_on_its_surfaces_has_none() -> None:
    found = share(on_the_plane())
    assert found is not None and found < 1e-6


def test_a_scene_half_as_far_is_all_floaters() -> None:
    found = share(on_the_plane(0.5), 2)
    assert found is not None and found > 0.9


def test_a_veil_counts_by_what_it_hides() -> None:
    """Blended before the surface with opacity a, a veil has about the share a of all weight."""
    veil = on_the_plane(0.5, opacity=0.3)
    mixed = share(Gaussians.cat([on_the_plane(), veil]))
    assert mixed is not None and 0.15 < mixed < 0.9
    fainter = share(Gaussians.cat([on_the_plane(), on_the_plane(0.5, opacity=0.05)]))
    assert fainter is not None and fainter < 0.5 * mixed


def test_two_photos_must_see_past_a_point() -> None:
    point = POSES[1].apply(torch.tensor([0.0, 0.0, 2.0]).double()).float()[None]
    assert bool(floating(point, DEPTHS[:2]).all()) and not bool(floating(point, DEPTHS[:1]).any())
    behind = POSES[1].apply(torch.tensor([0.0, 0.0, 8.0]).double()).float()[None]
    assert not bool(floating(behind, DEPTHS).any()), "what is behind a surface is not seen past"


def test_where_no_depth_is_known_nothing_floats() -> None:
    blind = [PosedDepth(CAMERA, p, torch.zeros(90, 120)) for p in POSES]
    assert not bool(floating(on_the_plane(0.5).means, blind).any())


def test_nothing_drawn_has_no_share() -> None:
    assert share(on_the_plane()[:0]) is None


@pytest.mark.parametrize("order", [1, 7])
def test_the_order_of_gaussians_does_not_matter(order: int) -> None:
    scene = Gaussians.cat([on_the_plane(), on_the_plane(0.6, opacity=0.2)])
    shuffled = scene[torch.randperm(len(scene), generator=torch.Generator().manual_seed(order))]
    assert share(shuffled) == pytest.approx(share(scene), rel=1e-4)


def test_how_far_photos_see_past_a_point_says_whether_it_floats() -> None:
    scene = Gaussians.cat([on_the_plane(), on_the_plane(0.98), on_the_plane(0.7), on_the_plane(0.5)])
    past = seen_past(scene.means, DEPTHS)
    assert torch.equal(past > 0.05 / 1.05, floating(scene.means, DEPTHS)), "one measure, as a number and as a mask"
    n = len(past) // 4
    middle = past[3 * n :][past[3 * n :] > 0]
    assert float(past[:n].max()) < 0.01 and abs(float(middle.median()) - 0.5) < 0.05
    assert bool((past < 1).all()) and len(seen_past(scene.means[:0], DEPTHS)) == 0
    assert not bool(seen_past(scene.means, DEPTHS[:1]).any()), "one photo is not enough"


def test_the_share_of_all_places_is_made_of_those_of_each() -> None:
    scene = Gaussians.cat([on_the_plane(), on_the_plane(0.6, opacity=0.4)])
    raster = choose(torch.device("cpu"), "auto")
    found = floating_weights(scene, DEPTHS, [(CAMERA, p) for p in POSES], raster, RasterSettings())
    assert len(found) == 3 and all(0 < f.share < 1 for f in found)
    assert share_of(found) == pytest.approx(share(scene)) and share_of([]) is None
