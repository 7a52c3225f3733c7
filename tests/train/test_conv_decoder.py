"""The decoder of CoherentGS."""

from __future__ import annotations

import pytest
import torch

from splat.train.models.conv_decoder import DEPTH_WIDTHS, OPACITY_WIDTHS, ConvDecoder, width_for


@pytest.mark.parametrize(
    "photos, depth, opacity", [(2, 743_085, 269_597), (3, 1_665_425, 743_085), (4, 2_395_085, 1_067_957)]
)
def test_parameters_are_as_many_as_published(photos: int, depth: int, opacity: int) -> None:
    for table, count in ((DEPTH_WIDTHS, depth), (OPACITY_WIDTHS, opacity)):
        decoder = ConvDecoder(photos, 5, 378, 504, width_for(table, photos))
        assert sum(p.numel() for p in decoder.parameters()) == count


SIZES = [(378, 504), (377, 505), (256, 256), (94, 126), (90, 504), (31, 17), (3, 2), (2, 2), (1, 7), (1, 1)]


@pytest.mark.parametrize("height, width", SIZES)
def test_maps_have_exactly_the_size_of_the_photos(height: int, width: int) -> None:
    out = ConvDecoder(3, 5, height, width, 1)()
    assert out.shape == (3, 5, height, width) and bool(out.isfinite().all())


def test_it_starts_near_nothing_and_differs_from_photo_to_photo() -> None:
    for table, reach in ((DEPTH_WIDTHS, 50), (OPACITY_WIDTHS, 100)):
        maps = ConvDecoder(3, 5, 94, 126, width_for(table, 3))()
        assert 0 < float((reach * maps.tanh()).abs().max().detach()) < 0.1
        assert not torch.equal(maps[0], maps[1])


def test_a_seed_decides_the_weights() -> None:
    a, b, c = (ConvDecoder(2, 3, 20, 30, 2, seed)() for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_widths_grow_beyond_the_table() -> None:
    widths = [width_for(DEPTH_WIDTHS, n) for n in range(2, 12)]
    assert widths[:3] == [10, 15, 18] and widths == sorted(widths) and widths[-1] < 40
