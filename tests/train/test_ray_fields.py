"""Depth and opacity of the pixels of photos: what a field may express, and how it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from splat.train.models.ray_fields import ConvField, FieldRows, FieldSettings, make_field, triangular2

H, W = 24, 32


def rows_of(views: int = 2) -> FieldRows:
    """Two layers in every photo: left and right."""
    n = views * H * W
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2).repeat(views, 1)
    return FieldRows(
        torch.arange(views).repeat_interleave(H * W),
        (pixels[:, 0] > W / 2).long(),
        pixels,
        [(W, H)] * views,
        torch.full((n,), 2.0),
        torch.zeros(n),
    )


def test_the_rate_is_the_cyclic_schedule() -> None:
    """Smith's triangular2, at the published steps of 13,000."""
    rates = [triangular2(step / 13_000, 1000 / 13_000, 1e-6, 1e-4) for step in (0, 500, 1000, 2000, 3000, 4000, 5000)]
    half, quarter = 1e-6 + 0.99e-4 / 2, 1e-6 + 0.99e-4 / 4
    assert rates == pytest.approx([1e-6, half, 1e-4, 1e-6, half, 1e-6, quarter])


def test_a_field_starts_where_its_rows_are() -> None:
    for kind in ("decoder", "grid", "free"):
        depth, logit = make_field(rows_of(), FieldSettings(kind), 100).values()
        assert float((depth - 2).abs().max()) < 0.1 and float(logit.abs().max()) < 0.1


def test_a_pixel_reads_and_teaches_the_map_of_its_own_layer() -> None:
    rows = rows_of()
    field = ConvField(rows, FieldSettings(), 100)
    maps = torch.zeros(2, 2, H, W, requires_grad=True)
    read = maps.reshape(-1).index_select(0, field.places)
    read[rows.layers == 0].sum().backward()
    assert maps.grad is not None
    left = maps.grad[:, 0]
    assert float(maps.grad[:, 1].abs().max()) == 0 and torch.equal(left[:, :, : W // 2], torch.ones(2, H, W // 2))
    with torch.no_grad():
        last = field.decoders[0].convolutions[-1]
        last.bias[1] += 0.1  # the map of layer 1 alone
    before = ConvField(rows, FieldSettings(), 100).values()[0]
    change = field.values()[0] - before
    assert float(change[rows.layers == 0].abs().max()) < 1e-6
    assert float(change[rows.layers == 1].min()) > 4


def learned(kind: str, target: Tensor, steps: int = 150) -> Tensor:
    """Depth after learning a target by |depth - target|."""
    field = make_field(rows_of(), FieldSettings(kind, max_faster=10.0, free_rate=0.02), steps)  # type: ignore[arg-type]
    for step in range(steps):
        depth, logit = field.values()
        field.update((depth - target).sign() / len(target), torch.zeros_like(logit), step / steps)
    return field.values()[0]


def test_a_decoder_follows_a_smooth_target_and_is_smoother_than_pixels_by_themselves() -> None:
    torch.manual_seed(0)
    noisy = 2.5 + 0.4 * torch.randn(2 * H * W)

    def variation(depth: Tensor) -> float:
        image = depth.reshape(2, H, W)[:, :, : W // 2]
        return float((image[:, :, 1:] - image[:, :, :-1]).abs().mean() + (image[:, 1:] - image[:, :-1]).abs().mean())

    decoded, free = learned("decoder", noisy), learned("free", noisy)
    assert abs(float(decoded.mean()) - 2.5) < 0.2 and abs(float(free.mean()) - 2.5) < 0.2
    assert 5 * variation(decoded) < variation(free)


@pytest.mark.parametrize("kind", ["decoder", "grid", "free"])
def test_a_field_goes_on_bit_for_bit(kind: str) -> None:
    g = torch.Generator().manual_seed(0)
    pulls = torch.randn(6, 2, 2 * H * W, generator=g)

    def run(field, steps) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        for k in steps:
            field.values()
            field.update(pulls[k, 0], pulls[k, 1], k / 6)
        return field.values()

    settings = FieldSettings(kind)  # type: ignore[arg-type]
    whole = run(make_field(rows_of(), settings, 6), range(6))
    half = make_field(rows_of(), settings, 6)
    run(half, range(3))
    again = make_field(rows_of(), settings, 6, seed=5)
    again.load_state(half.state())
    for a, b in zip(whole, run(again, range(3, 6))):
        assert torch.equal(a, b)


def test_photos_of_other_sizes_share_the_maps() -> None:
    rows = rows_of()
    small = FieldRows(rows.views, rows.layers, rows.pixels / 2, [(W // 2, H // 2)] * 2, rows.depths, rows.logits)
    mixed = FieldRows(
        torch.cat([rows.views, small.views + 2]),
        torch.cat([rows.layers, rows.layers]),
        torch.cat([rows.pixels, small.pixels]),
        [(W, H)] * 2 + [(W // 2, H // 2)] * 2,
        torch.cat([rows.depths] * 2),
        torch.cat([rows.logits] * 2),
    )
    field = ConvField(mixed, FieldSettings(), 100)
    n = len(rows.depths)
    assert torch.equal(field.places[:n] + 2 * 2 * H * W, field.places[n:])
