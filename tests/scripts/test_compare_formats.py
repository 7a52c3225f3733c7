"""The table of formats, of a run of a second."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from small_runs import reconstruct

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compare_formats.py"


@pytest.mark.slow
def test_every_format_has_a_row_and_lossless_ones_lose_nothing(posed_photos: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("compare_formats", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare_formats"] = module
    spec.loader.exec_module(module)
    reconstruct(posed_photos, tmp_path / "run")
    sys.argv = ["compare_formats", str(tmp_path / "run"), "--out", str(tmp_path / "table.md")]
    assert module.main() == 0
    rows = [line.split("|") for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| `")]
    found = {r[1].strip(): r[5].strip() for r in rows}
    assert found["`.ply`"] == "the same" and float(found["`.glb`"]) > 60
    assert {"`.compressed.ply`", "`.spz`", "`.sog`", "`.splat`", "`.lod`"} <= found.keys()
