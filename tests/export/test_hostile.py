"""Files that attack the reader: one sentence each, in a second or two and little memory."""

from __future__ import annotations

import os
import time
import tracemalloc
import zipfile
from pathlib import Path

import hostile
import pytest

from splat.core.errors import SplatError
from splat.core.ply import read_ply, read_ply_header
from splat.core.reading import reading
from splat.core.slots import Silent
from splat.export import load_splat, read_splat


def refused(path: Path, limit_mb: float = 100) -> str:
    """The sentence that refuses a file, after checking that it took no more than 2 s of CPU and `limit_mb`."""
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(SplatError) as e:
            load_splat(path, Silent())
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 2 and peak < limit_mb, f"{peak:.0f} MB"
    message = str(e.value)
    assert path.name in message and "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("name", list(hostile.FILES))
def test_a_hostile_file_is_refused_in_one_sentence_at_once_and_in_little_memory(name: str, tmp_path: Path) -> None:
    content = hostile.FILES[name]
    path = tmp_path / name
    path.write_bytes(content() if callable(content) else content)
    refused(path)


@pytest.mark.parametrize("form", ["ply", "compressed.ply", "spz", "sog", "splat"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(form: str, tmp_path: Path) -> None:
    pipe, endless, folder = (tmp_path / f"{name}.{form}" for name in ("pipe", "endless", "folder"))
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    folder.mkdir()
    assert "a pipe or a device" in refused(pipe) and "a pipe or a device" in refused(endless)
    refused(folder)
    assert "does not exist" in refused(tmp_path / f"gone.{form}")
    assert "symbolic links" in refused(_loop(tmp_path / f"loop.{form}"))


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def unpacked(folder: Path) -> Path:
    meta, images = hostile.sog_parts()
    with zipfile.ZipFile(_write(folder.with_suffix(".zip"), hostile.sog(meta, images))) as z:
        z.extractall(folder)
    return folder


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_parts_of_a_sog_folder_are_regular_files_inside_it(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "scene")
    assert len(load_splat(folder)) == 16
    part = folder / "scales.webp"
    part.unlink()
    os.mkfifo(part)
    with pytest.raises(SplatError, match=r"scales\.webp is a pipe or a device"):
        load_splat(folder)
    part.unlink()
    part.symlink_to("/dev/zero")
    with pytest.raises(SplatError, match=r"scales\.webp.* leads out of its folder through a link"):
        load_splat(folder)
    part.unlink()
    part.mkdir()
    with pytest.raises(SplatError, match=r"scales\.webp is a folder"):
        load_splat(folder)


def test_a_header_of_two_thousand_elements_is_read_at_once(tmp_path: Path) -> None:
    lines = tuple(f"element e{i} 0" for i in range(2_000))
    path = _write(tmp_path / "a.ply", hostile.bare_ply(lines))
    assert "no vertices" in refused(path)
    assert len(read_ply_header(path).elements) == 2_000


def test_elements_that_are_not_asked_for_are_passed_over(tmp_path: Path) -> None:
    """A splat among meshes: lists of a known length before it, lists of any length behind it."""
    splat = hostile.ply().decode("latin-1").split("\n")
    lines = ("element face 2", "property list uchar int i", *splat[2:17], "element line 9", "property list uchar int i")
    body = (b"\3" + bytes(12)) * 2 + bytes(4 * 14 * 4) + b"\xff"
    path = _write(tmp_path / "a.ply", hostile.bare_ply(lines, body))
    assert len(load_splat(path)) == 4
    with pytest.raises(SplatError, match="cut short"):
        read_ply(path)


def test_a_file_that_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.splat"
    with path.open("wb") as f:
        f.truncate(32 * 3_000_000)  # sparse: it takes no disk
    with pytest.raises(SplatError, match=r"large\.splat takes 0\.7 GB to read, and 0\.5 GB are free"):
        read_splat(path, free_gb=0.5)
    assert read_splat(_write(tmp_path / "small.splat", bytes(range(32))), free_gb=0.0)


def test_a_fault_of_the_program_is_not_taken_for_damage() -> None:
    with pytest.raises(AssertionError), reading("a", ".splat"):
        raise AssertionError


def test_running_out_of_memory_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SplatError, match="a needs more memory than there is"), reading("a", ".ply"):
        raise MemoryError
