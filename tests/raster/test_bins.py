"""The lists of tiles: what is counted for tiles is what is counted for rows, whatever other threads count meanwhile."""

from __future__ import annotations

import pytest
import torch

from splat.native import bindings, build

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason="no compiled kernels")
DEPTH, SIZE, TILES = 8, 48, 9


@pytest.mark.parametrize("below", [48.3, 500.0])
def test_rows_below_the_image_do_not_disturb_the_count_of_another_thread(below: float) -> None:
    """The nearer half touches no pixel's centre and lies under the last row of tiles; the farther half lies in the
    first tile, and another thread counts it at the same time."""
    half = 30_000
    rows = torch.zeros(2 * half, bindings.FIELDS)
    # x, y, a, b, c, log2 opacity, half width, half height: discs of half a pixel in the first tile
    rows[:, :8] = torch.tensor([4.5, 4.5, 4.0, 0.0, 4.0, -4.0, 0.5, 0.5])
    rows[:half, 1] = below
    rows[:, DEPTH] = torch.arange(2 * half) + 1.0
    n = len(rows)
    order, first = torch.empty(n, dtype=torch.int32), torch.empty(n + 1, dtype=torch.int32)
    total = bindings.int64s([0])
    workspace = torch.empty(bindings.query("splat_bin_workspace", n, SIZE, SIZE), dtype=torch.uint8)
    threads = bindings.get_threads()
    bindings.set_threads(2)
    try:
        for _ in range(150):
            bindings.call("splat_bin_count", n, rows, SIZE, SIZE, order, first, total, workspace)
            assert total[0] == int(first[-1]) == half
    finally:
        bindings.set_threads(threads)
