"""What the table of dense first Gaussians says of its cells: seconds to a figure, figures at a time, means."""

from types import ModuleType

import pytest
from scripted import script

from splat.bench.cells import Cell, Record


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("edgs_table")


def record(method: str, init: float, psnrs: list[float], displacement: float, gaussians: int = 1000) -> Record:
    """Evaluated at steps 0, 100, 200, ..., which take ten seconds each."""
    timeline = [
        {"step": 100 * i, "psnr": p, "ssim": p / 40, "gaussians": gaussians, "seconds": 10.0 * i}
        for i, p in enumerate(psnrs)
    ]
    metrics = {
        "psnr": psnrs[-1], "cc_psnr": psnrs[-1] + 1, "num_gaussians": gaussians, "displacement": displacement,
        "seconds": {"init": init}, "timeline": timeline,
    }  # fmt: skip
    return Record(Cell("garden", method, {"preset": "fast"}), metrics)


def test_seconds_count_from_the_first_gaussian_with_matching(table) -> None:
    dense = record("edgs", 5.0, [20.0, 24.0, 26.0], 0.01)
    assert table.seconds_to(dense, 19.0) == 5.0
    assert table.seconds_to(dense, 22.0) == pytest.approx(10.0)
    assert table.seconds_to(dense, 27.0) is None


def test_quality_after_some_seconds_is_read_off_the_line_between_steps(table) -> None:
    dense = record("edgs", 5.0, [20.0, 24.0, 26.0], 0.01)
    assert [table.psnr_after(dense, s) for s in (1.0, 5.0, 20.0, 100.0)] == pytest.approx([20.0, 20.0, 25.0, 26.0])


def test_the_comparison_says_what_the_cells_do(table) -> None:
    ours = {"garden": record("edgs", 5.0, [20.0, 24.0, 26.0], 0.01, 900)}
    theirs = {"garden": record("points", 0.0, [10.0, 20.0, 25.0], 0.05)}
    text = "\n".join(table.comparison(ours, theirs, "points"))
    assert "step 0 +10.00 dB; last step +1.00 dB (+1.00 with colours corrected), SSIM +0.025, at 0.90" in text
    assert "at its wall time +0.00 dB" in text  # 25 dB after 20 of 25 seconds
    assert "5.0 times nearer" in text
    assert "reached in 100 % of its seconds, 75 % without matching" in text


def test_fewer_gaussians_are_60_percent_of_what_points_ended_with(table) -> None:
    cells = [Cell("garden", "edgs", {"preset": "fast"}), Cell("nowhere", "edgs", {})]
    fewer = table.with_fewer(cells, {"garden": record("points", 0.0, [10.0, 20.0], 0.05, 5000)})
    assert [(c.scene, c.overrides) for c in fewer] == [("garden", {"preset": "fast", "cap": 3000})]
