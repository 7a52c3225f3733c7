"""The table of poses of three and six photos says what was kept of each cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import street
import torch
from scripted import script

import splat.ingest
from splat.core.files import write_json
from splat.core.slots import PoseResult, Silent

sparse_poses = script("sparse_poses")

CELL = {"scene": "street", "photos": "few3", "of": 3, "seconds": 9.6, "cpu_seconds": 4.2}


def test_the_table_has_a_row_of_each_cell(tmp_path: Path) -> None:
    found = {"registered": 3, "reprojection_px": 0.456, "position_percent": 1.0, "position_mm": 6.1}
    write_json(tmp_path / "a.json", CELL | found | {"matches": "disk", "placed_by_depth": {"2.png": {}}})
    write_json(tmp_path / "b.json", CELL | {"matches": "sift", "registered": 0, "error": "no two photos overlap"})
    rows = sparse_poses.table(tmp_path).splitlines()[2:]
    assert rows == [
        "| street | few3 | SIFT and DISK + LightGlue | 3 of 3 (1 by depth) | 10 (4) | - | 0.46 | 6.10 mm |",
        "| street | few3 | SIFT | 0 of 3 | 10 (4) | - | - | - |",
    ]


def test_errors_of_positions_are_after_alignment(tmp_path: Path) -> None:
    street.write_transforms(tmp_path)
    capture = splat.ingest.read(tmp_path, report=Silent())
    truth = {v.name: 2 * v.pose.translation + torch.tensor([1.0, 2.0, 3.0]).double() for v in capture.views}
    exact = sparse_poses.position_error(PoseResult(capture), truth, 1000.0)
    assert exact["position_mm"] == pytest.approx(0, abs=1e-3)
    name = capture.views[3].name
    truth = {n: t + torch.from_numpy(np.full(3, 0.3 * (n == name))) for n, t in truth.items()}
    assert sparse_poses.position_error(PoseResult(capture), truth, 1000.0)["position_mm"] > 1
    assert sparse_poses.position_error(PoseResult(capture), {}, None) == {}
