"""Cameras: resizing keeps rays, projection and its inverse, pixel centres."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splat.core.camera import Camera

CAMERA = Camera(fx=612.0, fy=598.5, cx=311.2, cy=247.9, width=640, height=480)


@given(st.integers(1, 2000), st.integers(1, 2000))
@settings(max_examples=40, deadline=None)
def test_resizing_keeps_the_ray_through_every_place_of_the_image(width: int, height: int) -> None:
    resized = CAMERA.resized(width, height)
    places = torch.rand(10, 2, dtype=torch.float64)  # fractions of the image
    one = torch.ones(10, dtype=torch.float64)
    before = CAMERA.unproject(places * torch.tensor([640.0, 480.0], dtype=torch.float64), one)
    after = resized.unproject(places * torch.tensor([width, height], dtype=torch.float64), one)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)
    assert (resized.width, resized.height) == (width, height)


def test_averaging_two_by_two_pixels_is_halving_the_camera() -> None:
    """The convention that centres are at .5: the centre of a coarse pixel is the middle of the four it covers."""
    half = CAMERA.scaled(0.5)
    fine = CAMERA.pixel_centres().reshape(240, 2, 320, 2, 2).mean((1, 3))
    one = torch.ones(240, 320)
    torch.testing.assert_close(half.unproject(half.pixel_centres(), one), CAMERA.unproject(fine, one))


def test_a_camera_never_shrinks_to_nothing() -> None:
    tiny = CAMERA.scaled(1e-6)
    assert (tiny.width, tiny.height) == (1, 1)


def test_projection_undoes_unprojection() -> None:
    pixels = torch.rand(50, 2, dtype=torch.float64) * 500
    depth = torch.rand(50, dtype=torch.float64) * 10 + 0.1
    points = CAMERA.unproject(pixels, depth)
    torch.testing.assert_close(points[:, 2], depth)
    torch.testing.assert_close(CAMERA.project(points), pixels)


def test_projection_is_the_intrinsic_matrix() -> None:
    points = torch.rand(50, 3, dtype=torch.float64) + 0.5
    homogeneous = points @ CAMERA.matrix().T
    torch.testing.assert_close(CAMERA.project(points), homogeneous[:, :2] / homogeneous[:, 2:])


def test_the_first_pixel_centre_is_half_half() -> None:
    centres = CAMERA.pixel_centres()
    assert centres.shape == (480, 640, 2)
    assert centres[0, 0].tolist() == [0.5, 0.5]
    assert centres[-1, -1].tolist() == [639.5, 479.5]


@pytest.mark.parametrize("axis,sign", [(0, 1), (1, 1)])
def test_right_is_plus_x_and_down_is_plus_y(axis: int, sign: int) -> None:
    point = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    moved = point.clone()
    moved[axis] += 0.1
    assert sign * float(CAMERA.project(moved)[axis] - CAMERA.project(point)[axis]) > 0
