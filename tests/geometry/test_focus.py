"""The point that cameras look at and the direction that is up, from poses alone."""

import math

import pytest
import torch

from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.geometry.focus import (
    camera_centres,
    camera_spread,
    distances_to_axes,
    nearest_point_to_axes,
    nearest_point_to_axes_damped,
    optical_axes,
    up_direction,
)

FOCUS = torch.tensor([1.0, -2.0, 0.5]).double()
UP = torch.tensor([0.0, 0.0, 1.0]).double()


def ring(degrees: float = 360.0, n: int = 8, height: float = 1.0) -> list[Rigid]:
    """Cameras around FOCUS that look at it, level."""
    poses = []
    for i in range(n):
        a = math.radians(degrees) * i / n
        eye = FOCUS + torch.tensor([3 * math.cos(a), 3 * math.sin(a), height]).double()
        poses.append(Rigid.look_at(eye, FOCUS, UP))
    return poses


def test_all_axes_meet_in_the_focus_and_the_damped_point_is_almost_there() -> None:
    centres, axes = camera_centres(ring()), optical_axes(ring())
    focus = nearest_point_to_axes(centres, axes, min_spread=1e-3)
    assert focus is not None and torch.allclose(focus, FOCUS)
    assert torch.allclose(nearest_point_to_axes_damped(centres, axes), FOCUS, atol=1e-4)
    assert torch.allclose(distances_to_axes(FOCUS, centres, axes), torch.zeros(8).double(), atol=1e-9)


def test_parallel_axes_have_no_focus_and_the_damped_point_stays_near_the_cameras() -> None:
    poses = [Rigid(torch.eye(3).double(), torch.tensor([x, 0.0, 0.0]).double()) for x in (0.0, 1.0, 2.0)]
    centres, axes = camera_centres(poses), optical_axes(poses)
    assert nearest_point_to_axes(centres, axes, min_spread=1e-3) is None
    damped = nearest_point_to_axes_damped(centres, axes)
    assert torch.allclose(damped, centres.mean(0))
    assert torch.allclose(distances_to_axes(damped, centres, axes), torch.tensor([1.0, 0.0, 1.0]).double())


@pytest.mark.parametrize(("degrees", "enough"), [(2.0, False), (40.0, True)])
def test_the_least_spread_of_axes_is_the_callers(degrees: float, enough: bool) -> None:
    poses = ring(degrees, height=0.0)
    assert (nearest_point_to_axes(camera_centres(poses), optical_axes(poses), min_spread=0.005) is not None) == enough


def test_up_is_perpendicular_to_level_cameras_even_where_all_look_down() -> None:
    assert float(up_direction(ring(height=6.0)) @ UP) > 1 - 1e-9
    one_photo = ring()[0]
    assert torch.allclose(up_direction([one_photo]), -one_photo.rotation[:, 1])
    turn = rotation_from_axis_angle(torch.tensor([0.4, -1.0, 0.3]).double())
    turned = [Rigid(turn @ p.rotation, turn @ p.translation) for p in ring(height=6.0)]
    assert torch.allclose(up_direction(turned), turn @ UP)


def test_the_spread_of_cameras_in_one_place_is_a_unit() -> None:
    assert camera_spread(camera_centres(ring())) == pytest.approx(3.0)
    assert camera_spread(FOCUS.repeat(3, 1)) == 1.0
