"""Frames made steady by their neighbours: exact motion, known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from flights import CAMERA, disc, flight, softened, with_floater

from splat.core.slots import RenderedView
from splat.geometry.pixel_warp import smooth
from splat.geometry.temporal_filter import RaySurface, Steadied, steadied, surface_on_rays

FRAMES = flight(9)
MIDDLE = FRAMES[4]
AROUND = FRAMES[:4] + FRAMES[5:]


def halved(view: RenderedView, neighbours: list[RenderedView], added: list[np.ndarray] | None = None) -> Steadied:
    """With half of the neighbours before and half after it."""
    half = len(neighbours) // 2
    return steadied(view, neighbours[:half], neighbours[half:], added or ())


def change(view: RenderedView, neighbours: list[RenderedView], truth: RenderedView) -> np.ndarray:
    """Largest difference from the truth over the channels, 1/255, [h w]."""
    return 255 * np.abs(halved(view, neighbours).rgb - truth.rgb.numpy()).max(-1)


def colours_of(found: RaySurface, other: RenderedView) -> np.ndarray:
    return smooth(other.rgb.numpy(), *found.pixels)


@pytest.mark.parametrize("card", [False, True])
def test_frames_without_mistakes_stay_as_they_are(card: bool) -> None:
    """Also at the edges of what stands before the wall: within one level, but for a handful of pixels."""
    frames = flight(9, card=card)
    off = change(frames[4], frames[:4] + frames[5:], frames[4])
    assert off.max() < 3 and (off > 1).mean() < 1e-3


def test_the_surface_of_a_neighbour_is_found_on_the_rays() -> None:
    found = surface_on_rays(MIDDLE, FRAMES[0])
    assert found.known.mean() > 0.9
    assert np.abs(found.depth / MIDDLE.depth.numpy() - 1)[found.known].max() < 0.005
    assert 255 * np.abs(colours_of(found, FRAMES[0]) - MIDDLE.rgb.numpy())[found.known].mean() < 2


def test_what_a_neighbour_cannot_see_is_not_taken_from_it() -> None:
    """The card hides another part of the wall from each frame."""
    frames = flight(9, step=0.1, card=True)
    found, alone = surface_on_rays(frames[4], frames[0]), surface_on_rays(frames[4], frames[4])
    assert alone.known[2:-2, 2:-2].all()
    hidden = ~found.known[10:-10, 30:-30]
    assert 0.01 < hidden.mean() < 0.5
    assert 255 * np.abs(colours_of(found, frames[0]) - frames[4].rgb.numpy())[found.known].mean() < 3


@pytest.mark.parametrize("z", [0.5, 2.0])
def test_a_floater_of_one_frame_goes_and_the_wall_behind_it_comes(z: float) -> None:
    where = disc(80, 60, 7)
    before = with_floater(MIDDLE, where, z)
    off = change(before, AROUND, MIDDLE)
    assert (255 * (before.rgb - MIDDLE.rgb).abs().max(-1).values[where]).min() > 30
    assert off[where.numpy()].max() < 3 and off[~where.numpy()].max() < 1.5


def test_a_translucent_floater_and_a_flash_fade_though_the_depth_is_right() -> None:
    where = disc(60, 50, 8)
    red = torch.tensor([1.0, 0.0, 0.0])
    spoilt = replace(MIDDLE, rgb=torch.where(where[..., None], 0.6 * MIDDLE.rgb + 0.4 * red, MIDDLE.rgb))
    off, before = change(spoilt, AROUND, MIDDLE), 255 * (spoilt.rgb - MIDDLE.rgb).abs().max(-1).values
    assert before[where].mean() > 50
    assert off[where.numpy()].mean() < 0.2 * before[where].mean() and off[~where.numpy()].max() < 1.5


def test_a_floater_of_one_frame_does_not_spread_to_the_frames_around_it() -> None:
    spoilt = with_floater(MIDDLE, disc(80, 60, 7))
    off = change(FRAMES[3], [*FRAMES[:3], spoilt, *FRAMES[5:]], FRAMES[3])
    assert off.max() < 1.5


def test_a_hole_of_one_frame_closes_with_what_its_neighbours_agree_on() -> None:
    where = disc(80, 60, 6)
    empty = torch.zeros(CAMERA.height, CAMERA.width)
    hole = replace(
        MIDDLE,
        rgb=torch.where(where[..., None], 0, MIDDLE.rgb),
        alpha=torch.where(where, empty, MIDDLE.alpha),
        depth=torch.where(where, empty, MIDDLE.depth),
    )
    assert change(hole, AROUND, MIDDLE)[where.numpy()].max() < 30
    assert change(hole, AROUND, MIDDLE)[where.numpy()].mean() < 3


def test_a_thing_that_every_frame_shows_is_not_taken_for_a_floater() -> None:
    frames = flight(9, card=True)
    card = frames[4].depth < 2.6
    assert int(card.sum()) > 100
    assert change(frames[4], frames[:4] + frames[5:], frames[4])[card.numpy()].max() < 2


def test_soft_edges_of_things_are_not_eaten() -> None:
    """Their depth is between two surfaces, and another one in each frame."""
    frames = [softened(f) for f in flight(9, card=True)]
    off = change(frames[4], frames[:4] + frames[5:], frames[4])
    assert off.max() < 6


def test_the_edge_of_what_hides_a_distant_wall_is_not_replaced() -> None:
    """Frames on one side look past it, those on the other cannot."""
    frames = []
    for f in flight(9, card=True):
        far = f.depth > 2.6
        rgb = torch.where(far[..., None], torch.tensor([0.1, 0.1, 0.15]), f.rgb)
        frames.append(softened(replace(f, rgb=rgb, depth=torch.where(far, 20.0, f.depth)), 1.0))
    assert change(frames[4], frames[:4] + frames[5:], frames[4]).max() < 6


def test_a_floater_at_the_end_of_a_flight_stays_as_nobody_has_seen_past_it_later() -> None:
    spoilt = with_floater(MIDDLE, disc(80, 60, 7))
    assert np.array_equal(steadied(spoilt, AROUND, []).rgb[60, 80], spoilt.rgb.numpy()[60, 80])


def test_flicker_between_frames_falls() -> None:
    rng = np.random.default_rng(0)
    flickering = [replace(f, rgb=(f.rgb * float(rng.uniform(0.94, 1.06))).clamp(0, 1)) for f in FRAMES]
    mean = torch.stack([f.rgb.mean() for f in flickering])
    steady = [
        float(steadied(f, flickering[max(0, i - 4) : i], flickering[i + 1 : i + 5]).rgb.mean())
        for i, f in enumerate(flickering)
    ]
    assert np.abs(np.diff(steady)).mean() < 0.5 * float(mean.diff().abs().mean())


def test_nothing_changes_where_no_frame_shows_the_place() -> None:
    elsewhere = [replace(f, depth=0.6 * f.depth) for f in AROUND]  # occluders in every direction
    assert np.array_equal(halved(MIDDLE, elsewhere).rgb, MIDDLE.rgb.numpy())
    unknown = [replace(f, alpha=0 * f.alpha, depth=0 * f.depth) for f in AROUND]
    for neighbours in (unknown, []):
        found = halved(MIDDLE, neighbours)
        assert np.array_equal(found.rgb, MIDDLE.rgb.numpy()) and found.used == ()


def test_frames_of_different_colours_are_not_averaged() -> None:
    """The same surface, but another light: the view keeps its own."""
    others = [replace(f, rgb=1 - f.rgb) for f in AROUND[:1]]
    off = change(MIDDLE, others, MIDDLE)
    assert np.median(off) < 1.5


def test_what_is_added_to_frames_becomes_their_mean_and_stays_where_they_agree() -> None:
    """Whatever is added to every frame at the same places of the wall stays; what blinks is spread over the frames."""
    shade = [0.1 * (f.rgb.numpy() - 0.5) for f in (MIDDLE, *AROUND)]
    agreed = halved(MIDDLE, AROUND, shade).rgb - halved(MIDDLE, AROUND).rgb
    inside = np.abs(agreed - shade[0])[8:-8, 20:-20]
    assert 255 * inside.mean() < 0.5
    none = [np.zeros_like(s) for s in shade]
    blinks = halved(MIDDLE, AROUND, [none[0] + np.float32(0.09), *none[1:]]).rgb - halved(MIDDLE, AROUND).rgb
    assert np.median(blinks) == pytest.approx(0.09 / 9, abs=1e-3)
    alone = halved(MIDDLE, [], [none[0] + np.float32(0.09)]).rgb
    assert np.allclose(alone, np.clip(MIDDLE.rgb.numpy() + 0.09, 0, 1))
