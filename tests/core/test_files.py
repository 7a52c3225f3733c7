"""Files appear whole or not at all, and what goes wrong names the file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from splat.core.errors import SplatError
from splat.core.files import atomic_path, write_atomic, write_json


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "scene.ply"
    with atomic_path(target) as part:
        part.write_bytes(b"half")
        assert not target.exists()
        assert part.suffix == ".ply", "libraries choose the format by the suffix"
    assert target.read_bytes() == b"half"
    assert names(target.parent) == ["scene.ply"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.EIO, "x")])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"old": 1})
    with pytest.raises(type(error)):
        with atomic_path(target) as part:
            part.write_text("{ha")
            raise error
    assert json.loads(target.read_text()) == {"old": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, code: int) -> None:
    with pytest.raises(SplatError, match=r"a\.bin.*disk is full"):
        with atomic_path(tmp_path / "a.bin") as part:
            part.write_bytes(b"something")
            raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_really_full_disk_raises_what_is_caught(tmp_path: Path) -> None:
    with pytest.raises(SplatError, match="disk is full"):
        with atomic_path(tmp_path / "a.bin") as part:
            part.symlink_to("/dev/full")
            part.write_bytes(b"x" * 100_000)
    assert names(tmp_path) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("I am a file")
    with pytest.raises(SplatError, match=r"run.*cannot be written.*--out"):
        write_atomic(tmp_path / "run" / "metrics.json", "x")
    assert names(tmp_path) == ["run"]


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "metrics.json" / "inner").mkdir(parents=True)
    with pytest.raises(SplatError, match="where a file is to be written"):
        write_atomic(tmp_path / "metrics.json", "x")
    assert names(tmp_path) == ["metrics.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SplatError, match="cannot be written"):
        write_atomic(tmp_path / "a.txt", "x")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_refused_write_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Root may write anywhere but on a read-only file system, so the refusal is acted here."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(SplatError, match=r"a\.txt cannot be written.*--out"):
        write_atomic(tmp_path / "a.txt", "x")
    assert names(tmp_path) == []


def test_text_bytes_and_json_round_trip(tmp_path: Path) -> None:
    write_atomic(tmp_path / "t", "Größe ✓")
    assert (tmp_path / "t").read_text(encoding="utf-8") == "Größe ✓"
    write_atomic(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    write_json(tmp_path / "j", {"a": [1, None, 0.5]})
    assert json.loads((tmp_path / "j").read_text()) == {"a": [1, None, 0.5]}


def test_a_link_planted_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    target, victim = tmp_path / "a.json", tmp_path / "victim"
    victim.write_text("precious")
    with atomic_path(target) as part:
        name = part
        part.write_text("{}")
    target.unlink()
    name.symlink_to(victim)
    write_json(target, {"new": 1})
    assert victim.read_text() == "precious" and not target.is_symlink()


def test_a_limit_on_the_size_of_files_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """`ulimit -f`, or 4 GB of FAT."""
    with pytest.raises(SplatError, match=r"a\.bin was not written: a file may not be so large"):
        with atomic_path(tmp_path / "a.bin") as part:
            part.write_bytes(b"half")
            raise OSError(errno.EFBIG, "File too large")
    assert names(tmp_path) == []
