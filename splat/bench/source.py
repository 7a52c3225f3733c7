"""Which code cells are run with: the commit of the checkout, and the hash of the sources."""

from __future__ import annotations

import functools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from splat.run.code import ROOT, Sources

COMMAND = "splat.commands.reconstruct"


@dataclass(frozen=True)
class SourceVersion:
    """The code that a cell was started with."""

    commit: str = ""
    """Of the checkout that `splat` was imported from, with "-dirty" where the package's files differ from it; empty
    where there is none."""
    code: str = ""
    """`code_hash` of everything that `splat reconstruct` imports."""


def source_version() -> SourceVersion:
    """As the files are now: a table may take hours, and a cell runs what it finds when it starts."""
    try:
        files = [p for p in ROOT.rglob("*") if p.suffix in {".py", ".h", ".cpp", ".cu", ".cuh"}]
        files += (ROOT.parent / "cuda").glob("*.cu*")  # of a checkout
        state = tuple((str(p), s.st_mtime_ns, s.st_size) for p in sorted(files) if (s := p.stat()))
        code = _hash(state)
    except OSError:  # a file that went while we looked
        code = ""
    return SourceVersion(commit_of(), code)


@functools.lru_cache(maxsize=1)
def _hash(state: tuple[tuple[str, int, int], ...]) -> str:
    """`state` is what the files looked like: while it stays the same, so does the hash."""
    return Sources().hash(COMMAND)


def commit_of(package: Path = ROOT) -> str:
    """The commit of the checkout that holds `package`, with "-dirty" where the files of the package, or of `cuda/`
    beside it, differ. Empty where there is no git, no commit, or no checkout that keeps the package (an environment
    inside the checkout of something else)."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    folders = [".", *(["../cuda"] if (package.parent / "cuda").is_dir() else [])]
    status = _git(package, "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *folders)
    lines = (status or "").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "")
    if not commit.isalnum():  # "(initial)": nothing has been committed
        return ""
    return commit + ("" if all(line.startswith("#") for line in lines) else "-dirty")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails, takes longer than anybody would wait, or is not there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}  # of a hook that runs us
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # looking must not be in the way of somebody who commits
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
