"""A checkpoint is data that is verified: damage to it costs time, never a wrong result or a stranger's code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from noting import Noting

from splat.core.errors import SplatError
from splat.train import checkpoint

STATE: dict[str, Any] = {"step": 7, "rows": torch.arange(5000.0), "lines": [{"psnr": 1.5}, None], "name": "caf\udce9"}


def saved(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    checkpoint.save(folder, STATE, "key")
    return folder / checkpoint.FILE_NAME


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path)
    found, said = checkpoint.load(tmp_path, "key", report := Noting()), report.warnings
    assert found is not None and not said
    assert found["lines"] == STATE["lines"] and found["name"] == STATE["name"]
    assert torch.equal(found["rows"], STATE["rows"])


@pytest.mark.parametrize("where", [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9])
def test_one_changed_bit_of_a_tensor_is_noticed(tmp_path: Path, where: float) -> None:
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    rows = data.index(STATE["rows"].numpy().tobytes())
    data[rows + int(where * 20_000)] ^= 4
    path.write_bytes(data)
    report = Noting()
    assert checkpoint.load(tmp_path, "key", report) is None
    assert "training.pt is damaged" in report.warnings[0]


@pytest.mark.parametrize("damage", [b"", b"garbage", 100, 0.5, 0.99])
def test_what_is_cut_or_garbage_is_a_start_from_nothing_that_says_so(tmp_path: Path, damage: bytes | float) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        path.write_bytes(data[: int(damage if damage > 1 else damage * len(data))])
    report = Noting()
    assert checkpoint.load(tmp_path, "key", report) is None and len(report.warnings) == 1


class Attack:
    """What unpickling this runs."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path)
    good = torch.load(path, weights_only=True)
    bad = good | {"state": {"rows": Attack(tmp_path / "victim")}}
    torch.save(bad, path, _use_new_zipfile_serialization=zipped)
    assert checkpoint.load(tmp_path, "key", Noting()) is None
    assert not (tmp_path / "victim").exists()


def test_other_settings_and_other_versions_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(SplatError, match="other settings"):
        checkpoint.load(tmp_path, "another", Noting())
    torch.save(torch.load(path, weights_only=True) | {"version": 2}, path)
    with pytest.raises(SplatError, match="another version"):
        checkpoint.load(tmp_path, "key", Noting())
