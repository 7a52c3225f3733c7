"""The order that keeps neighbours in space together in memory."""

import torch

from splat.geometry.morton import morton_order


def points(n: int) -> torch.Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(0))


def test_neighbours_in_morton_order_are_neighbours_in_space() -> None:
    p = points(4000)
    order = morton_order(p)
    assert torch.equal(order.sort().values, torch.arange(4000))
    step = p[order].diff(dim=0).norm(dim=1).mean()
    assert step < 0.2 * p.diff(dim=0).norm(dim=1).mean()


def test_octants_of_the_box_follow_one_another() -> None:
    p = torch.cat([points(800), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])])
    octant = ((p >= 0.5).long() * torch.tensor([1, 2, 4])).sum(1)[morton_order(p)]
    assert bool((octant.diff() >= 0).all())


def test_one_far_point_does_not_crowd_the_others_into_one_cell() -> None:
    p = points(1000)
    far = torch.cat([p, torch.full((1, 3), 1e3)])
    alone, together = (
        q[order].diff(dim=0).norm(dim=1).mean() for q, order in ((p, morton_order(p)), (p, morton_order(far)[:-1]))
    )
    assert together < 1.2 * alone


def test_points_in_one_place_keep_their_order() -> None:
    assert torch.equal(morton_order(torch.ones(50, 3)), torch.arange(50))


def test_a_point_that_is_not_finite_disturbs_nothing() -> None:
    p = points(100)
    p[3, 1], p[7, 0] = torch.nan, torch.inf
    rest = torch.tensor([i for i in range(100) if i not in (3, 7)])
    order = morton_order(p)
    assert torch.equal(order.sort().values, torch.arange(100))
    assert torch.equal(order[torch.isin(order, rest)], rest[morton_order(p[rest])])


def test_no_points() -> None:
    assert morton_order(torch.zeros(0, 3)).shape == (0,)
