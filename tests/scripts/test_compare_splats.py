"""The bit-for-bit comparison of two checkouts finds what differs, and repeats nothing. A stand-in writes the splats."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from scripted import script

STAND_IN = """
import pathlib, sys
photos, out, method = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[4]), sys.argv[6]
if (photos / "broken").exists():
    sys.exit("splat: it broke")
(out / "export").mkdir(parents=True)
(out / "export" / "splat.ply").write_text(f"{photos.name} {method} CONTENT")
"""


@pytest.fixture(scope="module", name="script")
def compare_splats() -> ModuleType:
    return script("compare_splats")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of the two captures, one is there."""
    (tmp_path / "data" / "kermit").mkdir(parents=True)
    return tmp_path / "data"


def tree(folder: Path, content: str) -> Path:
    """A checkout whose splats hold `content`."""
    (folder / "splat").mkdir(parents=True)
    (folder / "splat" / "__init__.py").touch()
    (folder / "splat" / "__main__.py").write_text(STAND_IN.replace("CONTENT", content))
    return folder


def arguments(tree: Path, data: Path, out: Path, *more: str) -> list[str]:
    return ["--tree", str(tree), "--data", str(data), "--scenes", "kermit,llff_fern", "--out", str(out), *more]


def test_equal_trees_pass_and_a_tree_whose_splats_differ_is_found(script, data, tmp_path, capsys) -> None:
    same, other = tree(tmp_path / "a", "one"), tree(tmp_path / "b", "two")
    assert script.main(arguments(same, data, tmp_path / "first")) == 0
    first = capsys.readouterr()
    assert [line.split()[:2] for line in first.out.splitlines()] == [["kermit", "points"], ["kermit", "edgs"]]
    assert "llff_fern is left out" in first.err
    (tmp_path / "first.txt").write_text(first.out)
    against = ("--against", str(tmp_path / "first.txt"))
    assert script.main(arguments(same, data, tmp_path / "second", *against)) == 0
    assert capsys.readouterr().out == first.out
    assert script.main(arguments(other, data, tmp_path / "third", *against)) == 1
    err = capsys.readouterr().err
    assert "kermit points differs" in err and "kermit edgs differs" in err


def test_nothing_in_common_shows_nothing(script) -> None:
    assert script.differences({("kermit", "edgs"): "0a"}, {("kermit", "points"): "0a"})
    assert not script.differences({("kermit", "edgs"): "0a", ("fox", "edgs"): "0b"}, {("kermit", "edgs"): "0a"})


def test_finished_runs_are_not_repeated_and_failed_ones_are(script, data, tmp_path, capsys) -> None:
    checkout, out = tree(tmp_path / "a", "one"), tmp_path / "out"
    (data / "llff_fern").mkdir()
    (data / "llff_fern" / "broken").touch()
    assert script.main(arguments(checkout, data, out)) == 2
    assert "llff_fern points ended with code 1" in capsys.readouterr().err
    (data / "llff_fern" / "broken").unlink()
    (data / "kermit" / "broken").touch()  # running it again would fail
    assert script.main(arguments(checkout, data, out)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_folder_of_other_code_is_not_gone_on_with(script, data, tmp_path, capsys) -> None:
    assert script.main(arguments(tree(tmp_path / "a", "one"), data, tmp_path / "out")) == 0
    assert script.main(arguments(tree(tmp_path / "b", "two"), data, tmp_path / "out")) == 2
    assert "give another --out" in capsys.readouterr().err
