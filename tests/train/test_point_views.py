"""Renders of points as targets: what they show, and that where they show nothing nothing is asked."""

from __future__ import annotations

from dataclasses import replace

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.geometry import Rigid
from splat.core.slots import DepthMap, Init, Item, Priors, RasterSettings, Silent, Step
from splat.geometry.drawing import draw
from splat.geometry.point_render import render_points
from splat.geometry.reproject import posed_depths
from splat.init import DenseSurfaces
from splat.losses import Losses
from splat.raster import choose
from splat.train.point_views import Cloud, PointSource, PointViews, point_items
from splat.train.views import PhotoSource, load_views

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(15.0), planes.walk(3)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("points"))


def with_hole(capture: Capture) -> list[DepthMap]:
    """Maps that know nothing of the left third of the plane."""
    maps = planes.TrueDepth(SCENE)(capture, Silent())
    out = []
    for view, found in zip(capture.views, maps, strict=True):
        points = view.pose.apply(CAMERA.unproject(CAMERA.pixel_centres(), found.depth.double()))
        out.append(replace(found, confidence=found.confidence * (points[..., 0] > -0.6)))
    return out


def photos_of(capture: Capture) -> list[Item]:
    return [Item(v.camera, torch.eye(4), torch.from_numpy(v.load().rgb)) for v in capture.views]


def targets(capture: Capture, maps: list[DepthMap], weight: float = 0.6) -> list[Item]:
    cloud = Cloud.of_depths(posed_depths(capture.views, maps), photos_of(capture), 400)
    return point_items(cloud, [v.camera for v in capture.views], POSES, PointViews(), weight)


def test_points_show_what_a_photo_would_and_empty_pixels_are_masked(capture: Capture) -> None:
    items = targets(capture, with_hole(capture))
    assert len(items) == 2 * 9 and all(i.terms == {"l1"} and i.loss_weight == 0.6 for i in items)
    for item in items[::5]:
        pose = torch.linalg.inv(item.cam_from_world.double())
        true = SCENE.photo(item.camera, Rigid.from_matrix(pose)).float()
        known = item.weight > 0
        assert 0.3 < float(known.float().mean()) < 0.95
        assert float((item.rgb.float() - true).abs()[known].mean()) < 8
        assert not bool(item.rgb[~known].any())


@pytest.mark.parametrize("field", ["weight", "alpha"])
def test_masked_and_transparent_pixels_give_no_points(capture: Capture, field: str) -> None:
    """Their colours are black in the photos; those of pixels beside them are mixed with it."""
    depths = posed_depths(capture.views, planes.TrueDepth(SCENE)(capture, Silent()))
    photos = photos_of(capture)
    counts = torch.full((90, 120), 255, dtype=torch.uint8)
    counts[20:50, 30:80] = 0
    masked = [replace(p, rgb=p.rgb * (counts > 0)[..., None], **{field: counts}) for p in photos]
    whole, some = (Cloud.of_depths(depths, p, 400) for p in (photos, masked))
    missing = len(whole.points) - len(some.points)
    assert 3 * 30 * 50 <= missing <= 3 * 32 * 52
    as_they_were, left = ({*map(tuple, torch.cat([c.points, c.colours], 1).tolist())} for c in (whole, some))
    assert left <= as_they_were


def test_a_surface_hides_what_is_behind_it_though_its_points_leave_gaps() -> None:
    camera = Camera(40.0, 40.0, 20.0, 20.0, 40, 40)
    pixels = camera.pixel_centres().reshape(-1, 2)
    front = camera.unproject(pixels[::2], torch.full((800,), 2.0))
    behind = camera.unproject(pixels, torch.full((1600,), 4.0))
    colours = torch.cat([torch.ones(800, 3), torch.zeros(1600, 3)])
    image, covered = render_points(camera, POSES[0].identity(), torch.cat([front, behind]), colours)
    assert float(image[covered].min()) == 1 and 0.4 < float(covered.float().mean()) < 0.6


def test_empty_pixels_ask_for_nothing_so_that_the_true_scene_is_near_the_minimum(capture: Capture) -> None:
    """Gaussians of the whole plane cost little against targets of two thirds of it; with the mask left out they would
    be pushed to black."""
    dense = replace(DenseSurfaces(), budget=6000, matching_size=120)
    true = dense(capture, 0, 0, Silent(), Priors(planes.TrueDepth(SCENE))).gaussians
    raster = choose(torch.device("cpu"), "auto")
    item = targets(capture, with_hole(capture))[4]

    def cost(item: Item, gaussians) -> float:  # type: ignore[no-untyped-def]
        render = draw(gaussians, item.camera, item.cam_from_world, raster, RasterSettings(), torch.zeros(3))
        step = Step(0, item, render, render.rgb, None, item.rgb, gaussians, None, 1.0)
        return float(Losses(l1=1.0, dssim=0.0)(step)[0])

    right = cost(item, true)
    faded = replace(true, logit_opacities=true.logit_opacities - 2.0)
    shifted = replace(true, means=true.means + torch.tensor([0.15, 0.0, 0.0]))
    assert right < 0.1 and right < cost(item, faded) and right < cost(item, shifted)
    assert cost(replace(item, weight=None), true) > 1.5 * right


def test_they_stand_beside_the_photos_until_they_end_and_a_resumed_source_goes_on(capture: Capture) -> None:
    items = targets(capture, with_hole(capture))

    def source() -> PointSource:
        return PointSource(PhotoSource(load_views(capture.views)), items, 2, 10)

    whole, counts = source(), []
    seen = []
    for step in range(20):
        found = list(whole.items(step, 20))
        counts.append(len(found))
        seen.append([i.cam_from_world for i in found])
    assert counts == [2, 1] * 5 + [1] * 10
    first = source()
    for step in range(5):
        list(first.items(step, 20))
    second = source()
    second.load_state(first.state())
    for step in range(5, 20):
        poses = [i.cam_from_world for i in second.items(step, 20)]
        assert all(torch.equal(a, b) for a, b in zip(poses, seen[step], strict=True))


def test_a_second_phase_does_not_begin_them_anew(capture: Capture) -> None:
    items = targets(capture, with_hole(capture))
    source = PointSource(PhotoSource(load_views(capture.views)), items, 1, 6)
    counts = [len(list(source.items(step, steps))) for steps in (10, 5) for step in range(steps)]
    assert counts == [2] * 6 + [1] * 9


def test_the_first_gaussians_make_a_cloud_where_there_are_no_depth_maps(capture: Capture) -> None:
    dense = replace(DenseSurfaces(), budget=4000, matching_size=120)
    init: Init = dense(capture, 1, 0, Silent(), Priors(planes.TrueDepth(SCENE)))
    cloud = Cloud.of_gaussians(init.gaussians)
    items = point_items(cloud, [v.camera for v in capture.views], POSES, PointViews(size=60), 0.3)
    assert items and max(items[0].rgb.shape) == 60
