"""Rows and means from known records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from splat.bench.cells import Cell, Record
from splat.bench.tables import Spread, markdown, means_of, rows_of


def record(scene: str, method: str = "points", seed: int = 0, psnr: float | None = 20.0, **more: Any) -> Record:
    metrics = {"psnr": psnr, "ssim": 0.9, "lpips": None, "num_gaussians": 1000, "registered": [9, 10]}
    metrics |= {"seconds": {"poses": 5.0, "train": 55.0, "total": 60.0}, "resolution": [640, 480]} | more
    return Record(Cell(scene, method, {"preset": "fast"}, seed), metrics, peak_memory_mb=512.0)


def test_seeds_become_mean_and_sample_deviation() -> None:
    (row,) = rows_of([record("a", seed=s, psnr=p) for s, p in enumerate([20.0, 21.0, 25.0])])
    spread = row.values["psnr"]
    assert spread.mean == pytest.approx(22.0)
    assert spread.std == pytest.approx(np.std([20, 21, 25], ddof=1))
    assert row.seeds == 3
    assert "22.00 ± 2.65" in markdown("t", "n", [row], [])


def test_one_seed_has_no_deviation() -> None:
    (row,) = rows_of([record("a")])
    assert row.values["psnr"] == Spread(20.0, None, 1)
    assert "±" not in markdown("t", "n", [row], [])


def test_infinite_and_missing_values_do_not_enter_a_mean() -> None:
    assert Spread.of([None, math.inf, 3.0]) == Spread(3.0, None, 1)
    assert Spread.of([None, math.nan]) is None


def test_scenes_weigh_the_same_however_many_seeds_they_had() -> None:
    records = [record("a", seed=s, psnr=10.0) for s in range(5)] + [record("b", psnr=30.0)]
    (row,) = means_of(rows_of(records))
    assert row.values["psnr"].mean == pytest.approx(20.0)
    assert row.scene == "mean of 2"


def test_methods_are_averaged_apart() -> None:
    records = [record(s, m, psnr=p) for s in "ab" for m, p in (("points", 20.0), ("edgs", 22.0))]
    assert {r.method: r.values["psnr"].mean for r in means_of(rows_of(records))} == {"points": 20.0, "edgs": 22.0}


def test_the_worst_seed_tells_how_many_photos_registered() -> None:
    (row,) = rows_of([record("a", seed=0, registered=[10, 10]), record("a", seed=1, registered=[7, 10])])
    assert row.registered == (7, 10)


def test_settings_appear_only_where_they_differ() -> None:
    plain = Record(Cell("a", "points", {"preset": "fast", "ignore-poses": True}), {"psnr": 20.0})
    other = Record(Cell("a", "points", {"preset": "fast", "ignore-poses": True, "cap": 9}), {"psnr": 21.0})
    assert [r.setting for r in rows_of([plain, other])] == ["", "cap=9"]
    assert "setting" not in markdown("t", "n", rows_of([plain]), [])


def test_the_table_has_a_line_per_row_and_as_many_cells_as_titles() -> None:
    rows = rows_of(
        [record("a"), record("b|c"), Record(Cell("d", "points", {"preset": "fast"}), None, message="no photos")]
    )
    text = markdown("Title", "note", rows, means_of(rows))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3 + 1
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "| poses s | train s | total s |" in lines[0]
    assert "LPIPS" not in lines[0], "no column for a figure that nobody has"
    assert "9/10" in lines[2] and "640x480" in lines[2] and "512" in lines[2]
    assert "d, points: failed: no photos" in text
