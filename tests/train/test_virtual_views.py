"""Targets for cameras between the photos."""

from __future__ import annotations

import math
from dataclasses import replace

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.image import Photo
from splat.core.schedules import ResolutionSchedule
from splat.core.slots import Item, Render, Round, Silent
from splat.geometry.reproject import PosedDepth
from splat.train.models.free import FreeGaussians
from splat.train.views import PhotoSource, Posed
from splat.train.virtual_views import VirtualSource, VirtualViews

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(25.0), planes.walk(3)
SETTINGS = VirtualViews(count=6)


def drawn(item: Item, wrong: float = 1.0) -> Render:
    """What a right scene (or one at `wrong` times its depth) looks like: only depth and alpha matter here."""
    pose = planes.Rigid.from_matrix(torch.linalg.inv(item.cam_from_world.double()))
    depth = wrong * SCENE.depth(item.camera, pose).float()
    h, w = depth.shape
    alpha = torch.full((h, w), 0.9)
    return Render(torch.zeros(h, w, 3), alpha, alpha * depth, torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))


def source(settings: VirtualViews = SETTINGS, weight: bool = False) -> VirtualSource:
    posed = []
    for pose in POSES:
        mask = None
        if weight:
            mask = torch.full((90, 120), 255, dtype=torch.uint8).numpy()
            mask[:, :60] = 0
        photo = Photo(SCENE.photo(CAMERA, pose).numpy(), weight=mask)
        posed.append(Posed(photo, CAMERA, pose.inverse().matrix().float()))
    photos = PhotoSource(posed, ResolutionSchedule(start=1.0))
    return VirtualSource(photos, [PosedDepth(CAMERA, p, SCENE.depth(CAMERA, p).float()) for p in POSES], settings)


def renewed(made: VirtualSource, wrong: float = 1.0) -> VirtualSource:
    made.renew(Round(0, 0, FreeGaussians, lambda item: drawn(item, wrong), Silent()))  # type: ignore[arg-type]
    return made


def test_a_target_is_what_a_photo_from_there_would_show() -> None:
    made = renewed(source()).virtual
    assert len(made) == 6
    for item in made:
        pose = planes.Rigid.from_matrix(torch.linalg.inv(item.cam_from_world.double()))
        truth = SCENE.photo(CAMERA, pose).float()
        seen = item.weight > 0
        assert float(seen.float().mean()) > 0.5
        warped = float((item.rgb.float() - truth)[seen].abs().mean())
        as_it_was = SCENE.photo(CAMERA, POSES[item.view_id]).float()
        assert warped < 5 < 0.3 * float((as_it_was - truth)[seen].abs().mean()), "of 255"


def test_a_wrong_scene_gets_no_targets() -> None:
    assert renewed(source(), wrong=1.2).virtual == []


def test_cameras_stand_near_photos_and_not_where_they_stand() -> None:
    centres = torch.stack([p.translation for p in POSES]).float()
    step = float((centres[1] - centres[0]).norm())
    for item in renewed(source(VirtualViews(count=20, reach=0.5, aside=0.05))).virtual:
        centre = -item.cam_from_world[:3, :3].T @ item.cam_from_world[:3, 3]
        nearest = float((centres - centre).norm(dim=1).min())
        assert nearest < 1.3 * step and nearest > 1e-4
        assert math.isclose(float(torch.linalg.det(item.cam_from_world[:3, :3])), 1, abs_tol=1e-5)


def test_what_a_mask_hides_is_no_target() -> None:
    open_, masked = renewed(source()).virtual, renewed(source(weight=True)).virtual
    shares = [float(sum((i.weight > 0).float().mean() for i in made)) / len(made) for made in (open_, masked)]
    assert shares[1] < 0.75 * shares[0]


def test_photos_come_in_every_step_and_virtual_views_beside_them() -> None:
    made = renewed(source(replace(SETTINGS, every=3)))
    counts = [len(list(made.items(step, 12))) for step in range(12)]
    assert counts == [2, 1, 1] * 4
    photo, virtual = list(made.items(0, 12))
    assert photo.loss_weight == 1.0 and photo.terms is None
    assert virtual.loss_weight == SETTINGS.weight and not virtual.counts("depth") and virtual.counts("l1")


def test_none_are_drawn_where_none_are_asked_for() -> None:
    made = renewed(source(replace(SETTINGS, every=0)))
    assert [len(list(made.items(s, 4))) for s in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("steps", [1, 5])
def test_a_state_goes_on_with_the_same_views(steps: int) -> None:
    whole = renewed(source())
    for s in range(steps):
        list(whole.items(s, 20))
    again = source()
    again.load_state(whole.state())
    for s in range(steps, 12):
        for a, b in zip(whole.items(s, 20), again.items(s, 20), strict=True):
            assert torch.equal(a.rgb, b.rgb) and torch.equal(a.cam_from_world, b.cam_from_world)
            assert a.view_id == b.view_id and a.camera == b.camera
    for a, b in zip(renewed(whole).virtual, renewed(again).virtual, strict=True):
        assert torch.equal(a.cam_from_world, b.cam_from_world), "the next cameras too"
