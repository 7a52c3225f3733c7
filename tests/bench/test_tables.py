"""Rows and means from known records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from splat.bench.cells import Cell, Record
from splat.bench.sheets import markdown
from splat.bench.tables import Spread, means_of, rows_of, versions_note


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


def by(code: str, commit: str = "", psnr: float | None = 20.0) -> Record:
    metrics = None if psnr is None else {"psnr": psnr}
    return Record(Cell("a", "points"), metrics, version="0.1.0", commit=commit, code=code)


def test_a_table_of_one_code_needs_no_note() -> None:
    assert versions_note([]) == versions_note([by("", "")] * 3) == ""
    same = [by("c1", "a" * 40), by("c1", "b" * 40), by("c1")]
    assert versions_note(same) == "", "a commit that changes only documents is the same code"
    assert versions_note([by("c1", "a" * 40), by("c2", "b" * 40, psnr=None)]) == "", "failures have no figures"


def test_a_table_of_different_code_counts_the_cells_of_each() -> None:
    mixed = [by("c2", "def5678" + "0" * 33)] * 3 + [by("c1", "abc1234" + "0" * 33)] * 12
    assert versions_note(mixed) == "cells of 2 versions of the code: 12 of abc1234, 3 of def5678"
    with_old = versions_note([*mixed, by("")])
    assert with_old.startswith("cells of 3 versions") and with_old.endswith(", 1 of version 0.1.0")


def test_versions_with_uncommitted_changes_are_told_apart() -> None:
    commit = "abc1234" + "0" * 33 + "-dirty"
    note = versions_note([by("c1c1c1c1", commit), by("d2d2d2d2", commit)])
    assert "1 of abc1234-dirty (code c1c1c1)" in note and "1 of abc1234-dirty (code d2d2d2)" in note
    committed = [by("c1c1c1c1", commit), by("c1c1c1c1", "f" * 40), by("d2d2d2d2", commit)]
    assert "2 of fffffff, 1 of abc1234-dirty" in versions_note(committed), "the commit that has the code names it"


def test_two_perceptual_metrics_are_two_columns() -> None:
    records = [record("a", lpips=0.3, lpips_variant="vgg"), record("b", lpips=0.1, lpips_variant="stlpips-alex")]
    rows = rows_of(records)
    assert [set(r.values) & {"lpips", "stlpips"} for r in rows] == [{"lpips"}, {"stlpips"}]
    text = markdown("t", "n", rows, means_of(rows))
    assert "| LPIPS | ST-LPIPS |" in text and "0.3000" in text and "0.2000" not in text
