"""A mutant: a folder of files, made from a valid one by a few changes that a random generator decides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz.mutate_bytes import NAMES
from fuzz.mutate_containers import by_suffix

Tree = dict[str, bytes | str]
"""Relative path -> contents, or one of `KINDS`."""
KINDS = ("folder", "pipe", "loop", "nowhere", "unreadable", "endless", "sparse")
"""What may stand where a file is expected: a folder, a named pipe, a link to itself, a link to nothing, a file without
permissions, a link to /dev/zero, and 20 GB of a file without contents."""

_MAX_BYTES = 150_000
"""Files above it are bombs that an earlier change made: opening them to change them again takes long."""


def mutant(tree: Tree, focus: Callable[[str], bool], rng: Random, mutation: Callable | None = None) -> Tree:
    """`tree` with changes. `focus`: which files are changed most; `mutation`: instead of the one by a file's suffix."""
    tree = dict(tree)
    names = sorted(n for n in tree if focus(n)) if rng.random() < 0.95 else sorted(tree)
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2))):
        name = rng.choice(names)
        content = tree.get(name)
        if not isinstance(content, bytes) or len(content) > _MAX_BYTES:
            continue
        kind = rng.random()
        if kind < 0.93:
            tree[name] = (mutation or by_suffix(name))(content, rng)
        elif kind < 0.95:
            del tree[name]
        elif kind < 0.965:
            tree[name] = rng.choice(KINDS)
        elif kind < 0.98:
            tree[_renamed(name, rng)] = tree.pop(name) if rng.random() < 0.7 else content
        else:
            tree[name] = tree[rng.choice(sorted(tree))]  # the contents of another file
    return tree


def _renamed(name: str, rng: Random) -> str:
    """A name that a file system can hold."""
    folder, _, plain = name.rpartition("/")
    stem, dot, suffix = plain.partition(".")
    other = rng.choice(
        [n for n in NAMES if "/" not in n and "\0" not in n and "\ud800" not in n and n not in ("", ".", "..")]
    )
    new = rng.choice((other, other.split(".")[0] + dot + suffix, stem + dot + suffix.upper(), stem, plain + ".bak"))
    return "/".join(filter(None, [folder, os.fsdecode(os.fsencode(new)[:250])]))


def read_tree(root: Path) -> Tree:
    """The files of a folder (or the file itself, under its own name)."""
    if root.is_file():
        return {root.name: root.read_bytes()}
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def write_tree(root: Path, tree: Tree) -> None:
    """`tree` in the folder `root`, which is emptied first."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name, content in tree.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
        except OSError:  # two names in each other's way
            continue


def _write(path: Path, content: bytes | str) -> None:
    match content:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "nowhere":
            path.symlink_to("there-is-nothing")
        case "endless":
            path.symlink_to("/dev/zero")
        case "sparse":
            path.touch()
            os.truncate(path, 20 * 10**9)
        case "unreadable":
            path.touch(0o000)
        case bytes():
            path.write_bytes(content)
