"""Depth layers: regions of a photo that deform together."""

from __future__ import annotations

import torch

from splat.geometry.depth_layers import depth_layers, disparity_layers


def test_a_step_divides_and_a_slope_does_not() -> None:
    floor = torch.linspace(2.0, 6.0, 60)[:, None].expand(60, 80).clone()
    assert len(depth_layers(floor).unique()) == 1
    floor[20:50, 30:60] = 1.5
    layers = depth_layers(floor)
    assert layers[35, 45] != layers[35, 10] and layers[5, 5] == layers[55, 75]


def test_every_pixel_has_a_layer_and_numbers_have_no_gap() -> None:
    noise = 1 + 9 * torch.rand(50, 70, generator=torch.Generator().manual_seed(0))
    noise[:10] = 0  # unknown: sky
    layers = depth_layers(noise)
    assert layers.shape == noise.shape and layers.unique().tolist() == list(range(int(layers.max()) + 1))
    assert int(layers.max()) < 8, "what is too small to be a layer shares one with what is as far"


def test_thin_things_share_a_layer_with_what_is_as_far() -> None:
    depth = torch.full((60, 80), 8.0)
    for x in (10, 30, 50):
        depth[:, x : x + 2] = 2.0
    layers = depth_layers(depth, min_share=0.05, bands=2)
    assert layers[30, 10] == layers[30, 51] != layers[30, 5]


def test_nothing_known_is_one_layer() -> None:
    assert not depth_layers(torch.zeros(8, 9)).any()


def test_layers_of_disparity_are_intervals_that_cover_everything() -> None:
    generator = torch.Generator().manual_seed(0)
    disparity = torch.rand(94, 126, generator=generator)
    disparity[:20] = 0  # sky
    for count in (2, 5):
        layers = disparity_layers(disparity, count)
        assert layers.shape == disparity.shape
        masks = torch.stack([layers == c for c in range(count)])
        assert torch.equal(masks.sum(0), torch.ones(94, 126, dtype=torch.int64)), "disjoint, and the sky too"
        last = -1.0
        for c in range(count):
            mine = disparity[layers == c]
            assert len(mine) and float(mine.min()) >= last
            last = float(mine.max())


def test_layers_of_disparity_find_the_surfaces() -> None:
    disparity = torch.full((60, 80), 0.1)
    disparity[20:40, 10:30], disparity[20:40, 50:60] = 1.0, 0.5
    layers = disparity_layers(disparity + 1e-3 * torch.rand(60, 80, generator=torch.Generator().manual_seed(0)), 3)
    assert layers[0, 0] == 0 and layers[30, 20] == 2 and layers[30, 55] == 1
    assert len(disparity_layers(torch.full((9, 7), 0.5), 5).unique()) == 1
