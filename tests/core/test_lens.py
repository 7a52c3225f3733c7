"""Removing the lens: straight lines become straight, and pixels land where pycolmap's projection says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from splat.core.camera import Camera, Lens
from splat.core.image import load_photo
from splat.core.lens import pinhole_for

W, H = 480, 360
LENSES = {
    "OPENCV": Lens("OPENCV", (400.0, 410.0, 236.0, 183.0, -0.25, 0.08, 0.002, -0.001), W, H),
    "SIMPLE_RADIAL": Lens("SIMPLE_RADIAL", (400.0, 240.0, 180.0, 0.12), W, H),
    "OPENCV_FISHEYE": Lens("OPENCV_FISHEYE", (260.0, 262.0, 241.0, 178.0, 0.03, -0.01, 0.004, 0.0), W, H),
}


def lens_project(lens: Lens, points_cam: np.ndarray) -> np.ndarray:
    camera = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    return np.asarray(camera.img_from_cam(points_cam))


def dots(points_cam: np.ndarray, lens: Lens, radius: float = 2.0) -> np.ndarray:
    """A photo through the lens of soft dots, drawn exactly where the lens sees the points."""
    x, y = np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5)
    image = np.zeros((H, W))
    for u, v in lens_project(lens, points_cam):
        image = np.maximum(image, np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * radius**2)))
    return np.repeat((image * 255).round().astype(np.uint8)[..., None], 3, 2)


def centroid(image: np.ndarray, near: np.ndarray, radius: int = 10) -> np.ndarray:
    """Centre of brightness around a place, in pixels with centres at .5."""
    x0, y0 = (int(c) - radius for c in near)
    assert x0 >= 0 and y0 >= 0
    patch = image[y0 : y0 + 2 * radius, x0 : x0 + 2 * radius, 0].astype(float)
    assert patch.shape == (2 * radius, 2 * radius)
    y, x = np.mgrid[: 2 * radius, : 2 * radius]
    return np.array([(patch * (x + x0 + 0.5)).sum(), (patch * (y + y0 + 0.5)).sum()]) / patch.sum()


def grid_points(camera: Camera, step: int = 60) -> np.ndarray:
    x, y = np.meshgrid(np.arange(30, camera.width - 30, step), np.arange(30, camera.height - 30, step))
    pixels = torch.from_numpy(np.stack([x.ravel(), y.ravel()], 1).astype(float))
    return camera.unproject(pixels, torch.full((len(pixels),), 2.0, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_undistorted_points_are_where_the_pinhole_projects_them(tmp_path: Path, name: str, scale: float) -> None:
    lens = LENSES[name]
    camera = pinhole_for(lens)
    points = grid_points(camera)
    Image.fromarray(dots(points, lens)).save(tmp_path / "a.png")
    camera = camera.scaled(scale)
    rgb = load_photo(tmp_path / "a.png", camera).rgb
    assert rgb.shape == (camera.height, camera.width, 3)
    expected = camera.project(torch.from_numpy(points)).numpy()
    found = np.array([centroid(rgb, p, radius=round(14 * scale)) for p in expected])
    assert np.abs(found - expected).max() < 0.15


def test_a_straight_line_is_straight_again(tmp_path: Path) -> None:
    lens = LENSES["OPENCV"]
    t = np.linspace(-1, 1, 400)
    line = np.stack([-0.42 + 0.03 * t, 0.3 * t, np.ones_like(t)], 1)
    through = lens_project(lens, line)
    photo = np.zeros((H, W, 3), np.uint8)
    cv2.polylines(photo, [np.round((through - 0.5) * 16).astype(np.int32)], False, (255, 255, 255), 3, cv2.LINE_AA, 4)
    Image.fromarray(photo).save(tmp_path / "a.png")

    def bend(image: np.ndarray) -> float:
        """Largest distance in pixels of the line's centre from a straight fit, row by row."""
        rows = [r for r in range(60, image.shape[0] - 60) if image[r, :, 0].max() > 128]
        x = np.arange(image.shape[1])
        centres = [(image[r, :, 0] * x).sum() / image[r, :, 0].astype(float).sum() for r in rows]
        return float(np.abs(np.polyval(np.polyfit(rows, centres, 1), rows) - centres).max())

    assert bend(photo) > 2
    assert bend(load_photo(tmp_path / "a.png", pinhole_for(lens)).rgb) < 0.25


@pytest.mark.parametrize("name", LENSES)
def test_the_default_pinhole_shows_only_what_the_lens_saw(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(tmp_path / "a.png")
    loaded = load_photo(tmp_path / "a.png", pinhole_for(LENSES[name]))
    assert loaded.weight is None or (loaded.weight == 0).mean() < 0.01
    assert np.ptp(loaded.rgb) == 0


def test_what_the_lens_did_not_see_has_no_weight(tmp_path: Path) -> None:
    Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(tmp_path / "a.png")
    wide = replace(pinhole_for(LENSES["OPENCV"]), fx=150.0, fy=150.0)
    loaded = load_photo(tmp_path / "a.png", wide)
    assert loaded.weight is not None
    assert loaded.weight[H // 2, W // 2] == 255
    edges = [loaded.weight[0], loaded.weight[-1], loaded.weight[:, 0], loaded.weight[:, -1]]
    assert not any(edge.any() for edge in edges)


def test_shrinking_through_a_lens_averages(tmp_path: Path) -> None:
    """Stripes finer than the target's pixels become grey, not a coarse pattern."""
    stripes = np.zeros((H, W, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    small = load_photo(tmp_path / "a.png", pinhole_for(LENSES["OPENCV"]).scaled(0.25)).rgb
    assert np.ptp(small) < 20


def test_transparency_and_masks_go_through_the_lens_with_the_colour(tmp_path: Path) -> None:
    """Outside the disc the photo is transparent black: the rim keeps the disc's colour."""
    lens = LENSES["SIMPLE_RADIAL"]
    x, y = np.meshgrid(np.arange(W), np.arange(H))
    disc = (((x - 300) ** 2 + (y - 200) ** 2) < 80**2).astype(np.uint8) * 255
    rgba = np.dstack([np.where(disc[..., None] > 0, np.uint8([220, 120, 60]), 0), disc]).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    Image.fromarray(disc).save(tmp_path / "mask.png")
    camera = pinhole_for(lens)
    loaded = load_photo(tmp_path / "a.png", camera, tmp_path / "mask.png")
    solid = loaded.alpha > 40
    assert np.abs(loaded.rgb[solid].astype(int) - [220, 120, 60]).max() <= 2
    assert np.abs(loaded.weight.astype(int) - loaded.alpha).max() < 60
    away = cv2.erode((loaded.weight > 250).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    np.testing.assert_array_equal(loaded.alpha[away], 255)


def test_a_photo_of_another_size_than_its_calibration_is_scaled_to_it(tmp_path: Path) -> None:
    """A lens calibrated on the full photo serves its thumbnails."""
    lens = LENSES["OPENCV"]
    camera = pinhole_for(lens)
    points = grid_points(camera)
    photo = dots(points, lens, radius=4.0)
    Image.fromarray(cv2.resize(photo, (W // 2, H // 2), interpolation=cv2.INTER_AREA)).save(tmp_path / "half.png")
    half = camera.scaled(0.5)
    rgb = load_photo(tmp_path / "half.png", half).rgb
    expected = half.project(torch.from_numpy(points)).numpy()
    found = np.array([centroid(rgb, p) for p in expected])
    assert np.abs(found - expected).max() < 0.15


def test_a_pinhole_needs_no_undistortion() -> None:
    lens = Lens("PINHOLE", (400.0, 410.0, 236.0, 183.0), W, H)
    assert pinhole_for(lens) == Camera(400.0, 410.0, 236.0, 183.0, W, H)
