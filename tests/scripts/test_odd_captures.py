"""The verdict on odd captures: what counts as degrading gracefully."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from scripted import script

from splat.bench.cells import Cell, Record


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("odd_captures")


def record(capture: str, method: str, psnr: float | None) -> Record:
    metrics = {
        "psnr": psnr,
        "cc_psnr": psnr,
        "ssim": 0.9,
        "num_gaussians": 1000,
        "seconds": {"init": 3.0, "train": 9.0},
    }
    return Record(Cell(capture, method), None if psnr is None else metrics, "it broke", peak_memory_mb=800.0)


@pytest.mark.parametrize(("edgs", "holds"), [(20.5, True), (19.81, True), (19.79, False)])
def test_the_bound_holds_down_to_a_fifth_of_a_decibel(table: ModuleType, edgs: float, holds: bool) -> None:
    pairs = [("sky", "edgs", edgs), ("sky", "points", 20.0), ("plain", "edgs", 31.0), ("plain", "points", 30.0)]
    line, good = table.verdict(table.differences([record(*p) for p in pairs]))
    assert good is holds
    assert f"{edgs - 20:+.2f} dB (sky)" in line


def test_a_failed_method_shows_nothing(table: ModuleType) -> None:
    line, good = table.verdict(table.differences([record("sky", "edgs", None), record("sky", "points", 20.0)]))
    assert not good and "sky" in line
    assert not table.verdict({})[1]


def test_rows_have_as_many_columns_as_the_head(table: ModuleType) -> None:
    lines = [table.line_of(record("sky", "edgs", p), 900.0) for p in (20.0, None)]
    assert [line.count("|") for line in lines] == [len(table.HEAD) + 1] * 2
    assert "| 800 | 900 |" in lines[0] and "it broke" in lines[1]


def test_the_predicted_memory_is_what_the_run_said_last(table: ModuleType, tmp_path: Path) -> None:
    said = ["12 photos", "expected: about 2 min and 1.0 GB for 9 steps", "expected: about 2 min and 1.3 GB for 9 steps"]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"kind": "info", "message": m}) + "\n" for m in said))
    assert table.predicted_mb(log) == pytest.approx(1300)
    assert table.predicted_mb(tmp_path / "none.jsonl") is None
