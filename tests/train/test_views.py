"""Photos as targets, and what is learned per photo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.geometry import rotation_from_axis_angle
from splat.core.image import Photo
from splat.core.schedules import ResolutionSchedule
from splat.core.slots import RasterSettings
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.views import PhotoSource, Posed, shrink


def flat(value: int, width: int = 40, height: int = 30) -> Posed:
    camera = Camera(30.0, 30.0, width / 2, height / 2, width, height)
    return Posed(Photo(rgb=np.full((height, width, 3), value, np.uint8)), camera, torch.eye(4))


def take(source: PhotoSource, steps: range) -> list[int]:
    return [int(item.view_id) for s in steps for item in source.items(s, 100)]


def test_every_view_comes_once_per_epoch() -> None:
    source = PhotoSource([flat(i) for i in range(7)])
    order = take(source, range(70))
    epochs = [order[i : i + 7] for i in range(0, 70, 7)]
    assert all(sorted(e) == list(range(7)) for e in epochs)
    assert len({tuple(e) for e in epochs}) > 5


def test_the_order_goes_on_from_its_state() -> None:
    views = [flat(i) for i in range(7)]
    source = PhotoSource(views, seed=4)
    take(source, range(10))
    state = source.state()
    rest = take(source, range(10, 60))
    other = PhotoSource(views, seed=99)
    other.load_state(state)
    assert take(other, range(10, 60)) == rest


def test_photos_of_mixed_sizes_keep_camera_and_pixels_together() -> None:
    source = PhotoSource([flat(10), flat(20, 64, 48), flat(30, 30, 80)], ResolutionSchedule(0.25, 0.5, 20))
    seen = set()
    for step in range(100):
        for item in source.items(step, 100):
            assert item.rgb.shape == (item.camera.height, item.camera.width, 3)
            seen.add((item.view_id, item.camera.width))
    assert (1, 64) in seen and (1, 32) in seen and (1, 20) in seen
    assert source.memory_bytes() == sum(i.rgb.numel() for i in {id(i): i for v in source.levels for i in v}.values())


def test_photos_that_are_coarser_than_the_schedule_is_at_are_given_up() -> None:
    schedule = ResolutionSchedule(0.25, 0.5, 20)
    source = PhotoSource([flat(i, 80, 60) for i in range(3)], schedule)
    bytes_at = []
    for step in range(100):
        size = {item.rgb.shape[0] for item in source.items(step, 100)}
        assert size == {round(60 * schedule.factors()[source.level])}
        bytes_at.append(source.memory_bytes())
    assert bytes_at == sorted(bytes_at, reverse=True)
    assert bytes_at[0] > 1.8 * bytes_at[-1] and bytes_at[-1] == 3 * 80 * 60 * 3
    again = PhotoSource([flat(i, 80, 60) for i in range(3)], schedule)
    again.load_state(source.state())
    assert again.memory_bytes() == bytes_at[-1]
    begun = PhotoSource([flat(0)], schedule).state()
    with pytest.raises(ValueError, match="given up"):
        again.load_state(begun)


def test_neither_masked_nor_transparent_pixels_lend_colour() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:, 1::2] = 200
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 1::2] = 255
    small = shrink(Photo(rgb=rgb, weight=mask), 4, 4)
    assert (small.rgb == 200).all() and (small.weight == 128).all()
    small = shrink(Photo(rgb=rgb, alpha=mask), 4, 4)
    assert (small.rgb == 200).all() and (small.alpha == 128).all()


def test_no_photo_is_said_in_one_sentence() -> None:
    with pytest.raises(SplatError, match="no training photo"):
        PhotoSource([])


# ---------------------------------------------------------------------------------------------------------- per photo


def test_exposure_drift_is_recovered_and_averages_to_nothing(world) -> None:
    gains = [0.8, 1.15, 1.2, 0.85, 1.1, 0.9]  # their mean is 1, so the truth is the neutral scene
    photos = world.photos(gains)
    model = ViewModel(6, ViewSettings(exposure=True))
    result = world.train(400, photos=photos, view_model=model)
    exposures = result.view_model.exposures()
    assert torch.allclose(exposures.mean(0), torch.eye(3, 4), atol=1e-6)
    grey = torch.full((3,), 0.4)
    learned = ((exposures[:, :, :3] @ grey + exposures[:, :, 3]) / grey).mean(1)
    assert torch.allclose(learned, torch.tensor(gains), atol=0.01)
    assert world.psnr(result.gaussians) > world.psnr(world.train(400, photos=photos).gaussians) + 3


def test_a_virtual_view_is_drawn_as_it_is(world) -> None:
    from dataclasses import replace

    model = ViewModel(6, ViewSettings(exposure=True, poses=True, poses_from=0.0), torch.randn(6, 3))
    model.exposure.values += torch.randn(6, 12)
    model.poses.values += 0.1
    item = next(PhotoSource(world.photos()).items(0, 10))
    virtual = model.begin(replace(item, view_id=None), 0.5)
    render = world.raster(world.truth, world.camera, item.cam_from_world, torch.zeros(3), RasterSettings())
    image, affine = virtual.expose(render, torch.zeros(3))
    assert affine is None and torch.equal(image, render.rgb)
    assert torch.equal(virtual.cam_from_world(), item.cam_from_world)
    assert model.begin(item, 0.5).expose(render, torch.zeros(3))[1] is not None


def test_the_background_of_a_photo_with_alpha_is_not_exposed(world) -> None:
    from dataclasses import replace

    item = next(PhotoSource(world.photos()).items(0, 10))
    item = replace(item, alpha=torch.zeros(36, 48, dtype=torch.uint8))
    model = ViewModel(6, ViewSettings(exposure=True))
    model.exposure.values += 0.3
    background = torch.tensor([0.2, 0.9, 0.4])
    nothing = world.truth[:1].clone()
    nothing.logit_opacities[:] = -20
    render = world.raster(nothing, world.camera, item.cam_from_world, background, RasterSettings())
    exposed, affine = model.begin(item, 0.5).expose(render, background)
    assert affine is None and torch.allclose(exposed, background.expand(36, 48, 3), atol=1e-6)


def test_a_wrong_pose_is_recovered(world) -> None:
    photos = world.photos()
    turn = rotation_from_axis_angle(torch.tensor([0.01, -0.015, 0.02]))
    wrong = photos[2].cam_from_world.clone()
    wrong[:3] = turn @ wrong[:3]
    wrong[:3, 3] += torch.tensor([0.03, -0.02, 0.02])
    photos[2] = Posed(photos[2].photo, photos[2].camera, wrong)
    centres = torch.stack([-p.cam_from_world[:3, :3].T @ p.cam_from_world[:3, 3] for p in photos])
    settings = ViewSettings(exposure=False, poses=True, rotation_lr=2e-3, translation_lr=1e-3, pose_lr_final=0.1)
    model = ViewModel(6, settings, centres, 4.0)
    world.train(400, init=world.start(0.02), photos=photos, view_model=model)

    def pixels_off(cam_from_world: Tensor) -> float:
        """Mean distance of the truth's points from where the true camera sees them."""
        a, b = (world.truth.means @ p[:3, :3].T + p[:3, 3] for p in (cam_from_world, world.poses[2]))
        return float((world.camera.project(a) - world.camera.project(b)).norm(dim=1).mean())

    assert pixels_off(model.corrected_pose(2, wrong)) < 0.3 * pixels_off(wrong)
    values = model.poses.values
    assert float(values.mean(0).abs().max()) < 1e-6
    assert abs(float((values[:, 3:] * (centres - centres.mean(0))).sum())) < 1e-4
