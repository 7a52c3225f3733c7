"""Which code a table's cells were run with: its commit and its hash, and never an error."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from splat.bench import source
from splat.bench.source import commit_of
from splat.run.code import Sources


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-C", str(folder), *names, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "checkout" / "splat"
    for name in ("splat/__init__.py", "cuda/a.cu", "README.md"):
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    git(package, "init", "-q", "..")
    git(package, "add", "-A", "..")
    git(package, "commit", "-q", "-m", "first")
    return package


def test_the_commit_is_that_of_the_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert commit_of(checkout) == commit and len(commit) == 40
    (checkout.parent / "README.md").write_text("changed")
    assert commit_of(checkout) == commit, "only the package's files count"
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert commit_of(checkout) == commit


@pytest.mark.parametrize("changed", ["splat/__init__.py", "splat/new.py", "cuda/a.cu"])
def test_changed_and_new_files_make_a_checkout_dirty(checkout: Path, changed: str) -> None:
    (checkout.parent / changed).write_text("y = 2\n")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_no_checkout_no_git_and_no_commit_are_no_errors(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout.parent / "env" / "splat"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert commit_of(installed) == "", "an environment inside the checkout of something else"
    git(tmp_path, "init", "-q", "empty")
    assert commit_of(tmp_path / "empty") == commit_of(tmp_path / "nowhere") == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(checkout) == ""


def test_a_table_that_takes_hours_notices_edited_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "splat"
    for name in ("__init__.py", "commands/__init__.py", "commands/reconstruct.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("x = 1\n")
    monkeypatch.setattr(source, "ROOT", package)
    monkeypatch.setattr(source, "Sources", lambda: Sources(package))
    before = source.source_version()
    assert source.source_version() == before
    (package / "commands" / "reconstruct.py").write_text("x = 23\n")
    assert source.source_version().code != before.code
