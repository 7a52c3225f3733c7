"""Detail of photos for blurred renders: exact geometry, known truth."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from flights import CAMERA, disc, flight, photo_of

from splat.core.metrics import psnr
from splat.core.slots import RenderedView
from splat.geometry.photo_detail import camera_weights, with_photo_detail

FRAMES = flight(9)
TRUTH = FRAMES[4]
SHARP = [photo_of(f, f"{i}.png") for i, f in enumerate(FRAMES) if i != 4]


def blurred(view: RenderedView, sigma: float = 2.0) -> RenderedView:
    return replace(view, rgb=torch.from_numpy(cv2.GaussianBlur(view.rgb.numpy(), (0, 0), sigma)))


BLURRED = blurred(TRUTH)


def test_a_blurred_render_gains_by_a_photo_that_agrees_and_more_by_several() -> None:
    before = psnr(BLURRED.rgb, TRUTH.rgb)
    one = with_photo_detail(BLURRED, SHARP[3:4])
    several = with_photo_detail(BLURRED, SHARP)
    assert psnr(torch.from_numpy(one.rgb), TRUTH.rgb) > before + 4
    assert psnr(torch.from_numpy(several.rgb), TRUTH.rgb) > before + 5
    assert one.used == ("3.png",) and set(several.used) == {p.name for p in SHARP}


def test_a_render_as_sharp_as_the_photos_stays_as_it_is() -> None:
    found = with_photo_detail(TRUTH, SHARP)
    assert 255 * np.abs(found.rgb - TRUTH.rgb.numpy()).max() < 1


@pytest.mark.parametrize("exposure", [0.6, 1.3])
def test_a_photo_of_another_exposure_gives_its_detail_and_not_its_brightness(exposure: float) -> None:
    dim = replace(BLURRED, rgb=0.7 * BLURRED.rgb)
    photos = [photo_of(replace(f, rgb=0.7 * f.rgb), str(i), exposure) for i, f in enumerate(FRAMES[3:6:2])]
    found = torch.from_numpy(with_photo_detail(dim, photos).rgb)
    assert 255 * float((found - dim.rgb).mean((0, 1)).abs().max()) < 0.3
    local = [cv2.GaussianBlur(t.numpy(), (0, 0), 8.0) for t in (found, dim.rgb)]
    assert 255 * np.abs(local[0] - local[1]).max() < 3
    assert psnr(found, 0.7 * TRUTH.rgb) > psnr(dim.rgb, 0.7 * TRUTH.rgb) + 4


def test_the_order_of_the_photos_does_not_matter() -> None:
    one, other = with_photo_detail(BLURRED, SHARP), with_photo_detail(BLURRED, SHARP[::-1])
    assert np.array_equal(one.rgb, other.rgb) and one.used == other.used


def test_nothing_changes_where_depths_do_not_agree() -> None:
    photos = [replace(p, photo=replace(p.photo, depth=1.2 * p.photo.depth)) for p in SHARP]
    found = with_photo_detail(BLURRED, photos)
    assert np.array_equal(found.rgb, BLURRED.rgb.numpy()) and found.used == ()


def test_nothing_changes_where_a_photo_shows_something_else() -> None:
    """The same depth, but another picture on the wall."""
    photos = [replace(p, photo=replace(p.photo, rgb=p.photo.rgb.flip(0))) for p in SHARP]
    found = with_photo_detail(BLURRED, photos)
    assert 255 * np.abs(found.rgb - BLURRED.rgb.numpy()).mean() < 0.5


def test_masked_pixels_of_a_photo_are_not_copied() -> None:
    masked = [replace(p, usable=np.zeros((CAMERA.height, CAMERA.width), np.float32)) for p in SHARP]
    assert np.array_equal(with_photo_detail(BLURRED, masked).rgb, BLURRED.rgb.numpy())


def test_photos_that_contradict_each_other_add_less_than_ones_that_agree() -> None:
    """A thing that stood there for one photo alone."""
    where = disc(80, 60, 9)[..., None]
    stripes = 0.15 * ((torch.arange(CAMERA.width) % 4 < 2).float() - 0.5)[None, :, None]
    odd = replace(FRAMES[3], rgb=torch.where(where, (FRAMES[3].rgb + stripes).clamp(0, 1), FRAMES[3].rgb))
    alone = with_photo_detail(TRUTH, [photo_of(odd, "3.png")])
    among = with_photo_detail(TRUTH, [photo_of(odd, "3.png"), *SHARP[4:6], SHARP[2]])
    off = [np.abs(d.rgb - TRUTH.rgb.numpy())[where[..., 0].numpy()].mean() for d in (alone, among)]
    assert off[1] < 0.5 * off[0]


def test_nothing_is_added_where_nothing_was_drawn() -> None:
    hole = disc(80, 60, 12)
    view = replace(BLURRED, alpha=torch.where(hole, 0.0, 1.0), depth=torch.where(hole, 0.0, BLURRED.depth))
    found = with_photo_detail(view, SHARP)
    assert np.array_equal(found.rgb[hole.numpy()], view.rgb.numpy()[hole.numpy()])


def test_photos_count_less_the_farther_they_are_and_nothing_at_the_next_one() -> None:
    weights = camera_weights(TRUTH, [0.1, 0.5, 1.0, 2.0], None)
    assert weights == sorted(weights, reverse=True) and weights[0] > 0.9 and weights[-1] > 0
    assert camera_weights(TRUTH, [0.1, 1.0], 1.0)[1] == 0
    assert camera_weights(TRUTH, [0.0], 0.0) == [0.0] or camera_weights(TRUTH, [0.0], 0.0)[0] <= 1
