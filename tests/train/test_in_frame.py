"""Gaussians that no training photo has in its frame are removed, and nothing else is."""

from __future__ import annotations

import math
from dataclasses import replace

import oracles
import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.train.density import NoDensity
from splat.train.density.in_frame import Frame, InFrame
from splat.train.density.pruning import without_photos
from splat.train.models.free import FreeGaussians

CAMERA = Camera(100.0, 100.0, 50.0, 40.0, 100, 80)
UP = torch.tensor([0.0, -1.0, 0.0])


def frame(eye: tuple[float, float, float], target: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Frame:
    pose = Rigid.look_at(torch.tensor(eye), torch.tensor(target), UP).inverse()
    return Frame(CAMERA, pose.matrix().float())


def gaussians_at(means: torch.Tensor, sigma: float) -> Gaussians:
    rows = oracles.random_gaussians(len(means), torch.Generator().manual_seed(0), dtype=torch.float32)
    return replace(rows, means=means, log_scales=torch.full_like(means, math.log(sigma)))


def test_a_frame_shows_what_is_before_it_up_to_the_margin() -> None:
    f = Frame(CAMERA, torch.eye(4))
    x = torch.tensor([0.0, 0.99, 1.01, 1.03, 1.05, 0.0])  # px 50, 99.5, 100.5, 101.5, 102.5 of 100 at z = 2
    means = torch.stack([x, torch.zeros(6), torch.tensor([2.0, 2, 2, 2, 2, -2])], 1)
    small = gaussians_at(means, 1e-6)
    assert f.shows(small, 0.0).tolist() == [True, True, False, False, False, False]
    assert f.shows(small, 0.02).tolist() == [True, True, True, True, False, False]


def test_a_large_gaussian_has_no_margin_and_stays_where_its_centre_is_in_the_frame() -> None:
    f = Frame(CAMERA, torch.eye(4))
    means = torch.tensor([[0.99, 0, 2.0], [1.1, 0, 2.0], [1.4, 0, 2.0]])  # in it; 5 and 20 px beside it
    shown = [f.shows(gaussians_at(means, sigma), 0.15).tolist() for sigma in (0.02, 0.15, 0.25)]  # 1, 7.5, 12.5 px
    assert shown == [[True, True, False], [True, True, False], [True, False, False]]


def test_what_one_photo_shows_stays_and_what_none_shows_goes() -> None:
    rows = oracles.random_gaussians(4, torch.Generator().manual_seed(0), dtype=torch.float32)
    rows.means[:] = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [-3.0, 0, 0], [0.0, 5.0, 0]])
    frames = frame((0, 0, -4)), frame((3, 0, -4), (3, 0, 0))
    model = FreeGaussians(rows)
    control = InFrame(NoDensity(), frames, every=0.5)(100, 1.0)
    assert control.after_update(0, model, 0.01, torch.Generator()) is None and len(model) == 4
    assert control.after_update(49, model, 0.01, torch.Generator()) == "pruned 2 outside all photos"
    assert model.gaussians().means[:, 0].tolist() == [0.0, 3.0]


def test_the_frame_of_a_photo_that_is_left_out_does_not_count() -> None:
    settings = InFrame(NoDensity(), (frame((0, 0, -4)), frame((3, 0, -4))))
    left = without_photos(settings, [0])
    assert isinstance(left, InFrame) and left.frames == settings.frames[1:]
    assert settings.shard(2).frames == settings.frames
