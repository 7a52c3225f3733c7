"""The edge filter of CoherentGS."""

from __future__ import annotations

import torch

from splat.geometry.depth_edges import WINDOWS, normalized_disparity, on_edges, sharpen_edges


def step_edge(ramp: bool) -> torch.Tensor:
    """Near on the left, far on the right; with `ramp` the column between them mixes both."""
    d = torch.full((40, 60), 1.2)
    d[:, 30:] = 0.4
    if ramp:
        d[:, 30] = 0.8
    return d


def test_a_constant_map_stays() -> None:
    flat = torch.full((30, 40), 0.7)
    assert torch.equal(sharpen_edges(flat), flat)


def test_pixels_whose_window_has_no_edge_stay() -> None:
    d = step_edge(ramp=True) + 0.001 * torch.rand(40, 60, generator=torch.Generator().manual_seed(0))
    near = torch.nn.functional.max_pool2d(on_edges(d).float()[None], max(WINDOWS), 1, max(WINDOWS) // 2)[0] > 0
    out = sharpen_edges(d, windows=(7,))
    assert bool(near.any()) and torch.equal(out[~near], d[~near])
    assert torch.equal(sharpen_edges(d)[:, :20], d[:, :20]), "frame included"


def test_a_mixed_column_at_a_step_is_removed() -> None:
    out = sharpen_edges(step_edge(ramp=True))
    assert set(out.unique().tolist()) <= set(step_edge(ramp=False).unique().tolist())
    assert torch.equal(out[:, :30], step_edge(ramp=False)[:, :30]) and torch.equal(
        out[:, 31:], step_edge(ramp=False)[:, 31:]
    )


def test_a_sharp_step_stays_where_it_is() -> None:
    assert torch.equal(sharpen_edges(step_edge(ramp=False)), step_edge(ramp=False))


def test_four_rounds_take_effect() -> None:
    assert WINDOWS == (7, 7, 5, 5)
    noisy = 0.3 + 0.9 * torch.rand(40, 50, generator=torch.Generator().manual_seed(1))
    by_hand = noisy
    for window in WINDOWS:
        by_hand = sharpen_edges(by_hand, windows=(window,))
    assert torch.equal(sharpen_edges(noisy), by_hand)
    assert not torch.equal(by_hand, sharpen_edges(noisy, windows=WINDOWS[:3]))


def test_disparity_is_normalized_to_between_a_fifth_and_six_fifths() -> None:
    d = normalized_disparity(torch.tensor([[0.0, 2.0], [5.0, 10.0]]))
    assert torch.allclose(d, torch.tensor([[0.2, 0.4], [0.7, 1.2]]))
