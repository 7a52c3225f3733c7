"""Each row of the ablation of LM-Gaussian adds one part to the row before it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from scripted import script

from splat.bench.cells import Cell
from splat.bench.protocols import Scene
from splat.cli import parse
from splat.commands.reconstruct import Reconstruct


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    return script("lm_ablation")


def arguments(cell: Cell) -> list[str]:
    flags = [f"--{name}={value}" for name, value in cell.overrides.items() if not isinstance(value, bool)]
    return ["photos", "--method", cell.method, *flags]


def test_rows_are_flags_that_exist_and_add_one_part_each(ablation: ModuleType, tmp_path: Any) -> None:
    cells = ablation.cells_of({"a": Scene("a", tmp_path)}, [0], "fast", "anything")
    assert [ablation.row_of(c) for c in cells] == list(ablation.ROWS)
    parts = []
    for cell in cells:
        settled, _ = parse(Reconstruct, arguments(cell), "splat").resolved(16)
        if cell.method == "points":
            parts.append((False,) * 5)
            continue
        lm = settled.chosen
        losses = settled.losses.reads_depth and settled.losses.reads_normals
        parts.append((True, lm.init.background > 0, losses, lm.points.every > 0, lm.refiner != "none"))
    assert [sum(p) for p in parts] == [0, 1, 2, 3, 4, 5]
