"""Holes of renders, and closing them for presentation."""

from __future__ import annotations

import numpy as np

from splat.geometry.holes import hole_mask, with_holes_filled

GREEN, BLUE = np.array([40, 200, 40]), np.array([40, 40, 200])
BLACK = (0.0, 0.0, 0.0)


def street() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A near green half and a far blue half, with a hole between them: picture, alpha, depth."""
    rgb = np.where(np.arange(120)[None, :, None] < 60, GREEN, BLUE).repeat(80, 0).astype(np.uint8)
    alpha, depth = np.ones((80, 120), np.float32), np.where(np.arange(120) < 60, 1.0, 4.0)[None].repeat(80, 0)
    alpha[20:60, 50:80] = 0
    rgb[20:60, 50:80] = 0
    return rgb, alpha, np.where(alpha > 0, depth, 0).astype(np.float32)


def test_less_than_half_a_pixel_is_a_hole() -> None:
    assert hole_mask(np.array([[0.0, 0.49, 0.5, 1.0]])).tolist() == [[255, 255, 0, 0]]


def test_a_hole_is_closed_from_the_farther_side_and_nothing_else_changes() -> None:
    rgb, alpha, depth = street()
    filled = with_holes_filled(rgb, alpha, depth, BLACK)
    assert np.abs(filled[20:60, 50:80].astype(int) - BLUE).max() <= 2
    rim = np.zeros((80, 120), bool)
    rim[16:64, 46:84] = True
    assert np.array_equal(filled[~rim], rgb[~rim])


def test_on_one_surface_colours_run_smoothly_across() -> None:
    rgb, alpha, _ = street()
    filled = with_holes_filled(rgb, alpha, np.where(alpha > 0, np.float32(2), 0), BLACK)
    assert filled[40, 51, 1] > 150 and filled[40, 78, 2] > 150
    middle = filled[40, 50:80, 2].astype(int)
    assert np.abs(np.diff(middle)).max() < 60 and middle[0] < middle[15] < middle[-1]


def test_the_background_is_taken_out_of_half_covered_pixels() -> None:
    rgb, alpha, depth = street()
    red = (1.0, 0.0, 0.0)
    rgb[20:60, 50:80] = (255, 0, 0)
    alpha[20:60, 80:82] = 0.6
    rgb[20:60, 80:82] = (0.6 * BLUE + 0.4 * np.array([255, 0, 0])).round()
    filled = with_holes_filled(rgb, alpha, depth, red)
    assert np.abs(filled[22:58, 52:84].astype(int) - BLUE).max() <= 3


def test_without_holes_or_without_anything_else_the_picture_stays() -> None:
    rgb, _, depth = street()
    assert np.array_equal(with_holes_filled(rgb, np.ones((80, 120), np.float32), depth, BLACK), rgb)
    assert np.array_equal(with_holes_filled(rgb, np.zeros((80, 120), np.float32), depth, BLACK), rgb)
