"""What a stage wrote is recognized by size and contents."""

from __future__ import annotations

from pathlib import Path

import pytest

from splat.run.outputs import content_hash, damage_to, listing, written_since

SIZES = {"small.bin": 1000, "large.bin": 5_000_000}


def written(folder: Path) -> dict[str, tuple[int, str]]:
    folder.mkdir()
    for name, size in SIZES.items():
        (folder / name).write_bytes(bytes(size))
    return written_since(folder, {})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_byte_changed_at_either_end_of_a_file_or_in_a_small_one_is_noticed(
    tmp_path: Path, name: str, share: float
) -> None:
    outputs = written(tmp_path / "stage")
    assert damage_to(tmp_path / "stage", outputs) is None
    data = bytearray(SIZES[name])
    # of a large file blocks are looked at: the eighth begins here
    eighth = 7 * (len(data) - 65536) // 15
    place = eighth if share == 0.5 and eighth > 0 else round(share * (len(data) - 1))
    data[place] = 1
    (tmp_path / "stage" / name).write_bytes(data)
    damage = damage_to(tmp_path / "stage", outputs)
    assert damage is not None and damage.edited and damage.what == f"{name} has changed"


def test_what_is_gone_is_counted_and_is_nobody_s_work(tmp_path: Path) -> None:
    outputs = written(tmp_path / "stage")
    for name in SIZES:
        (tmp_path / "stage" / name).unlink()
    damage = damage_to(tmp_path / "stage", outputs)
    assert damage is not None and not damage.edited and damage.what.endswith("is missing, and 1 more")


def test_a_large_file_is_judged_by_its_blocks_and_its_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5_000_000))
    (tmp_path / "b").write_bytes(bytes(5_000_001))
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    assert damage_to(tmp_path, {"b": (5_000_000, content_hash(tmp_path / "a"))}) is not None


def test_only_what_was_written_counts(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    before = listing(tmp_path)
    for name in ("result.txt", ".hidden", "stage.json", "work/features.npz", "checkpoint/training.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert written_since(tmp_path, before).keys() == {"result.txt"}
