"""A process group of one does nothing (several: see tests/raster/test_distributed.py)."""

from __future__ import annotations

import pytest
import torch
from together import environment

from splat.core.process_group import ALONE, ProcessGroup, joined_group, launched


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment(0, 1, 1):
        monkeypatch.delenv(name, raising=False)
    assert not launched()
    with joined_group() as group:
        assert group is ALONE and group == ProcessGroup(0, 1)


def test_a_group_of_one_gets_back_what_it_gives() -> None:
    rows = torch.arange(6.0).reshape(3, 2)
    assert ALONE.broadcast("x") == "x" and ALONE.all_reduce(1.0, True) == [1.0, 1.0] and ALONE.gather(2) == [2]
    assert ALONE.all_gather(rows).shape == (1, 3, 2) and ALONE.all_gather_rows(rows) is rows
    assert ALONE.all_to_all(rows, [3], [3]) is rows
