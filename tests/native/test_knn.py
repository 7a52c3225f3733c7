"""Nearest neighbours are exact, whatever the points look like."""

import numpy as np
import pytest
import torch

from splat.native import bindings, build
from splat.native.ops import mean_knn_distance, nearest_neighbours, torch_nearest_neighbours

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")


def clouds():
    rng = torch.Generator().manual_seed(0)

    def uniform(n):
        return torch.rand(n, 3, generator=rng)

    plane = uniform(3000)
    plane[:, 2] = 0.5
    return {
        "uniform": uniform(3000),
        "plane": plane,
        "line": uniform(1000) * torch.tensor([1.0, 0.0, 0.0]),
        "grid": torch.cartesian_prod(*[torch.arange(12.0)] * 3),
        "heavy tails": torch.tan(3.1 * (uniform(3000) - 0.5)) * 100,
        "clusters": torch.cat([1e-4 * uniform(2000), 1000 + 1e-2 * uniform(1000)]),
        "duplicates": uniform(40)[torch.randint(0, 40, (2000,), generator=rng)],
        "one place": torch.ones(500, 3),
        "few": uniform(5),
    }


@pytest.mark.parametrize("name", list(clouds()))
def test_distances_are_those_of_scipy(name):
    spatial = pytest.importorskip("scipy.spatial")
    points = clouds()[name]
    truth = spatial.cKDTree(points.double().numpy()).query(points.double().numpy(), k=4)[0]
    # scipy may list a duplicate before the point itself; the distances are the same.
    distances, ids = nearest_neighbours(points, 3)
    assert np.allclose(distances.numpy(), truth[:, 1:], rtol=1e-5, atol=0)
    around = (points[:, None] - points[ids.long()]).double().norm(dim=-1)
    assert torch.allclose(around, distances.double(), rtol=1e-5)
    assert (ids != torch.arange(len(points))[:, None]).all() and all(len(set(r)) == 3 for r in ids.tolist())


@pytest.mark.parametrize("name", ["uniform", "grid", "clusters", "duplicates", "few"])
def test_the_torch_twin_finds_the_same(name):
    points = clouds()[name][:1500]
    distances, ids = nearest_neighbours(points, 4)
    plain, plain_ids = torch_nearest_neighbours(points, 4)
    assert torch.allclose(distances, plain, rtol=1e-5)
    if name in ("grid", "duplicates"):  # exact arithmetic: ties go to the smaller id in both
        assert torch.equal(ids, plain_ids)


@pytest.mark.parametrize("find", [nearest_neighbours, torch_nearest_neighbours])
def test_too_few_points_and_points_that_are_not_finite(find):
    nan, inf = float("nan"), float("inf")
    points = torch.tensor([[0.0, 0, 0], [nan, 0, 0], [3, 4, 0], [0, inf, 0], [0, 0, 1]])
    distances, ids = find(points, 3)
    assert torch.allclose(distances[0], torch.tensor([1.0, 5.0, inf]))
    assert ids[0].tolist() == [4, 2, -1]
    assert distances[[1, 3]].isnan().all() and (ids[[1, 3]] == -1).all()
    assert find(points[:1], 3)[0].tolist() == [[inf, inf, inf]]
    assert find(points[:0], 3)[0].shape == (0, 3)


def test_mean_distance_counts_the_neighbours_there_are():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 3, 0]])
    assert mean_knn_distance(points).tolist() == pytest.approx([2, (1 + 10**0.5) / 2, (3 + 10**0.5) / 2])
    assert mean_knn_distance(points[:1]).tolist() == [0]
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [5, 5, 0]])
    assert float(mean_knn_distance(square)[0]) == pytest.approx((2 + 2**0.5) / 3)


def test_any_number_of_threads_gives_the_same_answer():
    points = clouds()["heavy tails"]
    before = bindings.get_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            bindings.set_threads(threads)
            results.append(nearest_neighbours(points, 5))
    finally:
        bindings.set_threads(before)
    for distances, ids in results[1:]:
        assert torch.equal(distances, results[0][0]) and torch.equal(ids, results[0][1])
