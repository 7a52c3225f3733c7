"""Dense initialization, real matching included, where captures are not what one would wish."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.image import read_pixels, write_png
from splat.core.slots import Init, Priors, Silent
from splat.init import DenseSurfaces, PublishedEdgs
from splat.priors import Stereo
from splat.priors.matching import StereoMatcher

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)
SCENE = planes.PlaneScene.make(15.0)


def initialized(capture: Capture, report: Silent | None = None, published: bool = False) -> Init:
    dense = DenseSurfaces(keep_points=0.0, budget=len(capture.views) * 240)
    priors = Priors(Stereo(), StereoMatcher())
    return (PublishedEdgs() if published else dense)(capture, 1, 0, report or Silent(), priors)


def off_the_plane(init: Init) -> torch.Tensor:
    """Relative to the distance of the plane."""
    means = init.gaussians.means.double()
    return ((means - SCENE.origin) @ SCENE.normal).abs() / SCENE.origin.norm()


def captured(folder: Path, count: int, step: float = 0.3, camera: Camera = CAMERA) -> Capture:
    return planes.capture_of(SCENE, camera, planes.walk(count, step), folder)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("published", [False, True])
def test_two_or_three_photos_are_enough(tmp_path, count, published) -> None:
    init = initialized(captured(tmp_path, count), published=published)
    assert len(init.gaussians) > 300
    assert float((off_the_plane(init) < 0.02).float().mean()) > 0.95


def test_two_photos_from_one_place_say_nothing_of_depth(tmp_path) -> None:
    pose = planes.walk(2)[0]
    capture = planes.capture_of(SCENE, CAMERA, [pose, pose], tmp_path)
    for published in (False, True):
        report = Silent()
        init = initialized(capture, report, published=published)
        assert report.warnings and init.view_ids is None  # the sparse points


def test_a_blank_wall_starts_from_the_sparse_points(tmp_path) -> None:
    capture, report = captured(tmp_path, 3), Silent()
    generator = torch.Generator().manual_seed(0)
    for v in capture.views:
        noise = torch.randint(-1, 2, (CAMERA.height, CAMERA.width, 3), generator=generator)
        write_png(v.image_path, (180 + noise).byte().numpy())
    init = initialized(capture, report)
    assert capture.points is not None
    dense = 0 if init.view_ids is None else int((init.view_ids >= 0).sum())
    assert dense < 0.05 * 3 * 240
    assert bool(init.gaussians.means.isfinite().all())


def test_what_moved_between_photos_is_not_built(tmp_path) -> None:
    capture = captured(tmp_path, 5, step=0.2)
    generator = torch.Generator().manual_seed(1)
    patch = (
        torch.randint(0, 256, (12, 10, 3), generator=generator).byte().repeat_interleave(3, 0).repeat_interleave(3, 1)
    )
    walker = (torch.tensor([255, 0, 0]) * 0.5 + 0.5 * patch).byte()
    for i, v in enumerate(capture.views):  # walks the other way than parallax would carry it
        pixels = read_pixels(v.image_path).copy()
        x = 15 + 22 * i
        pixels[50:86, x : x + 30] = walker.numpy()
        write_png(v.image_path, pixels)
    init = initialized(capture)
    assert float((off_the_plane(init) > 0.05).float().mean()) < 0.02
    empty = initialized(captured(tmp_path / "empty", 5, step=0.2))
    assert reddish(init) < reddish(empty) + 0.03


def reddish(init: Init) -> float:
    """Share of the Gaussians."""
    r, g, b = init.gaussians.base_rgb.unbind(1)
    return float(((r > 0.45) & (r > 1.6 * g.clamp_min(0.05)) & (r > 1.6 * b.clamp_min(0.05))).float().mean())


def test_nothing_is_sampled_where_a_mask_says_no(tmp_path) -> None:
    capture = captured(tmp_path, 3)
    mask = torch.full((CAMERA.height, CAMERA.width), 255, dtype=torch.uint8)
    mask[:, :60] = 0
    write_png(tmp_path / "mask.png", mask[..., None].expand(-1, -1, 3).contiguous().numpy())
    masked = replace(capture, views=tuple(replace(v, mask_path=tmp_path / "mask.png") for v in capture.views))
    init = initialized(masked)
    assert init.pixels is not None and len(init.gaussians) > 200
    assert float(init.pixels[:, 0].min()) > 59


def test_photos_of_different_sizes_and_brightness_see_one_surface(tmp_path) -> None:
    poses = planes.walk(3, 0.3)
    cameras = [CAMERA, CAMERA.scaled(1.5), replace(CAMERA.scaled(0.75), fx=100.0, fy=103.0)]
    views = []
    for i, (camera, pose) in enumerate(zip(cameras, poses, strict=True)):
        one = planes.capture_of(SCENE, camera, [pose], tmp_path / str(i))
        (view,) = one.views
        pixels = read_pixels(view.image_path) * (1.0, 0.7, 1.2)[i]
        write_png(view.image_path, pixels.clip(0, 255).round().astype("uint8"))
        views.append(replace(view, name=f"{i}.png"))
    capture = replace(captured(tmp_path / "points", 3), views=tuple(views))
    for published in (False, True):
        init = initialized(capture, published=published)
        assert len(init.gaussians) > 300
        assert float((off_the_plane(init) < 0.03).float().mean()) > 0.95


def test_sky_does_not_come_before_what_stands_before_it(tmp_path) -> None:
    """Featureless pixels around the surface: what is guessed there never hides it."""
    capture = captured(tmp_path, 4, step=0.25)
    for v in capture.views:
        pixels = read_pixels(v.image_path).copy()
        pixels[:45] = (120, 170, 250)
        write_png(v.image_path, pixels)
    init = initialized(capture)
    for v in capture.views:
        assert v.world_from_cam is not None
        inside = v.world_from_cam.inverse().apply(init.gaussians.means.double())
        pixels = CAMERA.project(inside)
        below = CAMERA.contains(pixels) & (inside[:, 2] > 0) & (pixels[:, 1] > 60)
        truth = SCENE.depth(CAMERA, v.world_from_cam)
        column, row = (t[below].long() for t in pixels.unbind(1))
        assert float((inside[below, 2] / truth[row, column] < 0.9).double().mean()) < 0.01
