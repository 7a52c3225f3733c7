"""Cells of the ground plane: everything is owned once, views go where they look, blocks are equally bright."""

import pytest
import torch
from torch import Tensor

from splat.core.geometry import Similarity, rotation_from_axis_angle
from splat.geometry.blocks import (
    MIN_OBSERVERS,
    Observed,
    Partition,
    balanced_partition,
    common_gains,
    partition,
    points_of_block,
    views_of_blocks,
)

UP = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)


def scattered(n: int = 2000, seed: int = 0) -> Tensor:
    """A town of 40 by 18 by 3, its streets not along the axes."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.rand(n, 3, generator=generator, dtype=torch.float64) * torch.tensor([40.0, 3.0, 18.0])
    turn = rotation_from_axis_angle(torch.tensor([0.0, 0.4, 0.0], dtype=torch.float64))
    return at @ turn.T


def cells_of(positions: Tensor, count: int, up: Tensor = UP) -> Partition:
    return partition(positions, torch.ones(len(positions)), up, count)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16])
def test_every_position_has_one_owner_however_far_out_it_is(count: int) -> None:
    positions = scattered()
    cells = cells_of(positions, count)
    edges = torch.cat([cells.low, cells.high])
    on_edges = edges[torch.isfinite(edges).all(1)] @ cells.axes  # corners of cells
    everything = torch.cat([positions, 1e6 * (positions - positions.mean(0)), on_edges])
    at = cells.coordinates(everything)
    holding = torch.stack([((at >= a) & (at < b)).all(1) for a, b in zip(cells.low, cells.high)])
    assert (holding.sum(0) == 1).all()
    assert torch.equal(holding.long().argmax(0), cells.owner(everything))
    assert cells.owner(torch.tensor([[torch.nan, 0.0, 0.0]])).tolist() == [-1]


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_cells_hold_equal_shares_of_the_weights(count: int) -> None:
    positions = scattered()
    assert torch.bincount(cells_of(positions, count).owner(positions)).sub(2000 / count).abs().max() < count
    weights = 1 + (positions[:, 0] > positions[:, 0].median()).double() * 4
    owner = partition(positions, weights, UP, count).owner(positions)
    shares = torch.bincount(owner, weights=weights) / weights.sum()
    assert (shares - 1 / count).abs().max() < 0.01


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16])
def test_blocks_that_train_on_equally_much_are_smaller_than_those_that_own_equally_much(count: int) -> None:
    positions, weights = scattered(), torch.ones(2000, dtype=torch.float64)

    def held(cells: Partition) -> list[int]:
        return sorted(int(cells.inside(k, positions).sum()) for k in range(count))

    plain, balanced = held(cells_of(positions, count)), held(balanced_partition(positions, weights, UP, count))
    assert balanced[-1] <= plain[-1]
    assert balanced[-1] <= 1.1 * balanced[0]
    if count in (3, 4, 7):
        assert balanced[-1] < 0.97 * plain[-1]
    owner = balanced_partition(positions, weights, UP, count).owner(positions)
    assert set(owner.tolist()) == set(range(count))


def test_points_along_a_line_are_cut_where_they_are_equally_many() -> None:
    x = torch.arange(100, dtype=torch.float64)
    positions = torch.stack([x, 0 * x, 0.001 * (x % 7)], 1)
    cells = cells_of(positions, 4)
    along = cells.axes[0] * cells.axes[0, 0].sign()
    assert along[0] > 0.999
    inner = sorted(abs(v) for v in cells.low[:, 0].tolist() if abs(v) < 1e9)
    assert inner == pytest.approx([24.5, 49.5, 74.5], abs=0.01)
    # the outermost percents do not count for the size, of which the margin is a fifth
    assert cells.margin[:, 0].tolist() == pytest.approx([0.2 * 24] * 4, abs=0.2)
    inside = cells.inside(int(cells.owner(positions)[30]), positions)
    assert inside.nonzero()[:, 0].tolist() == list(range(20, 55))


@pytest.mark.parametrize("count", [2, 5, 8])
def test_a_scene_that_is_turned_moved_and_scaled_is_cut_at_the_same_places(count: int) -> None:
    positions = scattered()
    turn = rotation_from_axis_angle(torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64))
    other = Similarity(0.03, turn, torch.tensor([5.0, -2.0, 9.0], dtype=torch.float64))
    a = cells_of(positions, count).owner(positions)
    b = cells_of(other.apply(positions), count, turn @ UP).owner(other.apply(positions))
    together = torch.zeros(count, count)
    together.index_put_((a, b), torch.ones(len(a)), accumulate=True)
    assert ((together > 0).sum(1) == 1).all() and ((together > 0).sum(0) == 1).all()


def test_positions_that_are_all_the_same_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="differ"):
        cells_of(torch.ones(50, 3, dtype=torch.float64), 2)


def street(views: int = 40) -> Observed:
    """Points along x; view i stands at i and sees what is from 5 to 9 ahead of it (and looks back near the end)."""
    x = torch.arange(0, 40, 0.1, dtype=torch.float64)
    positions = torch.stack([x, 0 * x, torch.sin(x)], 1)
    centres = torch.stack([torch.arange(views).double(), torch.zeros(views).double(), torch.zeros(views).double()], 1)
    seen = (x[None] - centres[:, :1] > 5) & (x[None] - centres[:, :1] < 9)
    seen[-9:] = (centres[-9:, :1] - x[None] > 5) & (centres[-9:, :1] - x[None] < 9)
    view_ids, point_ids = seen.nonzero().unbind(1)
    return Observed(positions, view_ids, point_ids, centres)


def test_views_go_to_the_blocks_that_they_look_at_not_where_they_stand() -> None:
    seen = street()
    cells = cells_of(seen.positions, 4)
    chosen = views_of_blocks(cells, seen)
    assert chosen.any(0).all(), "every view is trained on somewhere"
    owner = cells.owner(seen.positions)
    first = int(owner[0])
    stands = cells.owner(seen.centres)
    assert int(stands[8]) == first and not chosen[first, 8], "it looks at 13 to 17, beyond the margin of the first"
    second = int(owner[150])
    assert chosen[second, 8]
    assert not chosen[second, 38], "it looks back, at 29 to 33"


def test_points_of_a_core_are_seen_by_enough_of_its_views() -> None:
    seen = street()
    cells = cells_of(seen.positions, 4)
    chosen = views_of_blocks(cells, seen, min_share=0.9)
    owner = cells.owner(seen.positions)
    short, observed = 0, 0
    for k in range(4):
        everything = torch.bincount(seen.point_ids, minlength=len(owner))
        mine = torch.bincount(seen.point_ids[chosen[k][seen.view_ids]], minlength=len(owner))
        core = (owner == k) & (everything > 0)
        short += int((mine < everything.clamp_max(MIN_OBSERVERS))[core].sum())
        observed += int(core.sum())
    assert short <= 0.02 * observed + 4


def test_a_view_that_sees_no_point_goes_where_it_stands() -> None:
    seen = street()
    blind = seen.view_ids != 20
    alone = Observed(seen.positions, seen.view_ids[blind], seen.point_ids[blind], seen.centres)
    cells = cells_of(seen.positions, 4)
    chosen = views_of_blocks(cells, alone)
    assert chosen[:, 20].nonzero()[:, 0].tolist() == [int(cells.owner(seen.centres[20:21])[0])]


def test_a_block_starts_from_what_lies_in_it_and_from_what_its_views_see_beside_it() -> None:
    seen = street()
    cells = cells_of(seen.positions, 4)
    chosen = views_of_blocks(cells, seen)
    for k in range(4):
        rows = points_of_block(cells, k, seen, chosen[k])
        assert rows[cells.inside(k, seen.positions)].all()
        assert rows[seen.point_ids[chosen[k][seen.view_ids]]].all()
        assert not rows.all()


def test_blocks_that_share_photos_are_made_as_bright() -> None:
    """Exposures are known up to the brightness of each block; photos of two blocks say the rest."""
    generator = torch.Generator().manual_seed(3)
    f = torch.rand(30, 3, generator=generator, dtype=torch.float64) * 0.4 - 0.2
    f -= f.mean(0)
    g = torch.tensor([[0.1, 0.0, -0.1], [-0.2, 0.1, 0.0], [0.05, 0.05, 0.2]], dtype=torch.float64)
    photos = [range(14), range(10, 22), range(19, 30)]
    gains = [{f"{i}": (f[i] + g[b]).exp() for i in rows} for b, rows in enumerate(photos)]
    assert torch.allclose(common_gains(gains), g.exp(), atol=1e-9)


def test_blocks_without_common_photos_or_exposures_stay_as_they_are() -> None:
    one = torch.ones(3, dtype=torch.float64)
    assert torch.allclose(common_gains([{"a": one}, {"b": one}]), torch.ones(2, 3, dtype=torch.float64))
    assert torch.equal(common_gains([{}, {}]), torch.ones(2, 3, dtype=torch.float64))
