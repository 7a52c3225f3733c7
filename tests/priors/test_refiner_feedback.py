"""How much of a corrected render is fed back."""

from __future__ import annotations

import math

import refining
import torch

from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.core.slots import RefinedView
from splat.priors.refiner import FeedbackWeight

WEIGHT = FeedbackWeight()


def at(*centre: float, turn: float = 0.0) -> Rigid:
    rotation = rotation_from_axis_angle(torch.tensor([0.0, turn, 0.0], dtype=torch.float64))
    return Rigid(rotation, torch.tensor(centre, dtype=torch.float64))


def orbit(count: int, origin: tuple[float, float, float] = (0, 0, 0)) -> list[Rigid]:
    x, y, z = origin
    angles = [2 * math.pi * k / count for k in range(count)]
    return [at(x + math.cos(a), y, z + math.sin(a), turn=a) for a in angles]


def test_nothing_is_fed_back_at_a_photos_camera() -> None:
    for count in (1, 2, 3, 8):
        cameras = orbit(count)
        assert all(WEIGHT.of_camera(c, cameras) == 0 for c in cameras)


def test_the_distance_counts_as_published() -> None:
    cameras = [at(0, 0, 0), at(1, 0, 0), at(2, 0, 0), at(3, 0, 0)]  # second-farthest of the first: 2
    assert math.isclose(WEIGHT.of_camera(at(0.05, 0, 0), cameras), 16 * 0.05 / (1.2 * 2))
    assert WEIGHT.of_camera(at(0.5, 0, 0), cameras) == 1


def test_two_photos_and_an_orbit_have_finite_weights() -> None:
    for cameras in (orbit(2), orbit(12), [at(1, 1, 1)], [at(1, 1, 1)] * 3):
        assert 0 <= WEIGHT.of_camera(at(1, 0.03, 0.02), cameras) <= 1


def test_the_worlds_origin_does_not_matter() -> None:
    here = WEIGHT.of_camera(at(1.02, 0, 0.01), orbit(6))
    far = WEIGHT.of_camera(at(501.02, -300, 90.01), orbit(6, (500, -300, 90)))
    assert 0 < here < 1 and math.isclose(here, far, rel_tol=1e-6)


def test_holes_and_large_changes_do_not_count() -> None:
    view = refining.pairs(3)[1].view
    sure = torch.ones_like(view.alpha)
    gentle = WEIGHT.of_pixels(view, RefinedView(view.rgb, sure))
    assert torch.equal(gentle > 0, view.alpha > 0.5)
    noise = torch.rand(view.rgb.shape, generator=torch.Generator().manual_seed(0))
    assert float(WEIGHT.of_pixels(view, RefinedView(noise, sure)).mean()) < 0.3 * float(gentle.mean())
    assert not WEIGHT.of_pixels(view, RefinedView(view.rgb, 0 * sure)).any()
