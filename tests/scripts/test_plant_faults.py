"""Planting faults: what notices them, what does not, and what is no longer where it was."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from scripted import script

TABLE = """
[[fault]]
name = "a sum is a difference"
file = "sums.py"
text = "a + b"
planted = "a - b"
tests = ["test_sums.py"]

[[fault]]
name = "another zero"
file = "sums.py"
text = "ZERO = 0"
planted = "ZERO = 1"
tests = ["test_sums.py::test_sums"]

[[fault]]
name = "a product is a quotient"
file = "sums.py"
text = "a * b"
planted = "a / b"
tests = ["test_sums.py"]

[[fault]]
name = "a comment"
file = "sums.py"
text = "# sums"
planted = "# sum"
unseen = "Nothing reads it."
"""


@pytest.fixture(scope="module", name="script")
def plant_faults() -> ModuleType:
    return script("plant_faults")


@pytest.fixture
def planted(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the script on a repository of its own."""
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "TABLE", tmp_path / "faults.toml")

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["plant_faults.py", "--results", str(tmp_path / "results.json"), *arguments])
        return script.main()

    return run


@pytest.mark.slow
def test_faults_are_found_or_not_and_the_tree_is_left_alone(tmp_path: Path, planted, capsys) -> None:
    sums = "# sums\nZERO = 0\n\n\ndef add(a, b):\n    return a + b\n"
    (tmp_path / "sums.py").write_text(sums)
    (tmp_path / "test_sums.py").write_text("from sums import add\n\n\ndef test_sums():\n    assert add(1, 2) == 3\n")
    (tmp_path / "faults.toml").write_text(TABLE)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert planted() == 1
    said = capsys.readouterr().out
    assert "does not apply   a product is a quotient: sums.py has its text 0 times" in said
    assert "not found        another zero" in said and "failed           a sum is a difference" in said
    assert "1 of 2 faults found; 1 change nothing; 1 do not apply" in said
    assert (tmp_path / "sums.py").read_text() == sums
    assert planted("--only", "a sum") == 1, "the table is not true"
    (tmp_path / "faults.toml").write_text(TABLE.replace('"a * b"', '"return a"'))
    assert planted("--check") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    results["a sum is a difference (named)"]["by"] = ["kept"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert planted("--only", "a sum") == 0
    assert json.loads((tmp_path / "results.json").read_text()) == results, "it is not planted again"


def test_every_fault_says_what_must_notice_it(script: ModuleType) -> None:
    table = script.read_table()
    assert len({f.name for f in table}) == len(table) > 60
    for f in table:
        assert f.text != f.planted and bool(f.tests) != bool(f.unseen), f.name
        assert all((script.ROOT / t.split("::")[0]).exists() for t in f.tests), f.name


@pytest.mark.slow
def test_every_fault_is_where_it_was(script: ModuleType) -> None:
    assert [f.name for f in script.read_table() if f.count() != 1] == []
