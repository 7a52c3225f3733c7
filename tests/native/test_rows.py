"""Rows by their numbers: gathering, and the statistics that density control keeps."""

import pytest
import torch

from splat.native import build
from splat.native.ops import add_density_statistics, gather

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")


@pytest.mark.parametrize("ids", [[], [3], list(range(100, 5000)), list(range(0, 6000, 7)), [5, 6, 7, 20, 21, 5999]])
def test_gathered_rows_are_those_of_torch(ids):
    tensors = [torch.randn(6000, *shape) for shape in ((3,), (4,), (), (16, 3))]
    ids = torch.tensor(ids, dtype=torch.int64)
    for ours, t in zip(gather(tensors, ids), tensors, strict=True):
        assert torch.equal(ours, t[ids])


def test_statistics_are_those_of_torch():
    n, rng = 9000, torch.Generator().manual_seed(0)
    ids = (torch.rand(n, generator=rng) < 0.6).nonzero()[:, 0]
    ours = [torch.rand(n, generator=rng) for _ in range(3)]
    theirs = [t.double() for t in ours]
    gradient = torch.randn(len(ids), 2, generator=rng)
    radii = torch.randint(0, 50, (len(ids),), generator=rng, dtype=torch.int32)
    add_density_statistics(ids, gradient, radii, (640, 480), *ours)
    add_density_statistics(ids, gradient.double(), radii, (640, 480), *theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-6)
    assert float(ours[2].max()) <= 1
