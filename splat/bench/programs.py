"""Other programs as methods of a table: `splat program` runs a cell of theirs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splat.core.errors import SplatError
from splat.core.foreign import read_text, shown
from splat.methods import METHODS

_FOLDERS = re.compile(r"(?<![\w}])(?:~|\.\.?)?/(?:[^\s'\"/{}]+/)*")
"""The folders of a path that begins at a root, at home or here."""
_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class OtherProgram:
    """A command that turns a COLMAP model into a PLY."""

    name: str
    """The name of its rows."""
    command: str

    @property
    def identity(self) -> str:
        """The command without folders of this machine: what cells are told apart by, and what tables may show."""
        return _FOLDERS.sub("", self.command)


def programs_of(given: Sequence[str], file: Path | None = None) -> list[OtherProgram]:
    """From NAME=COMMAND, and from a TOML file of `name = "command"`. Raises SplatError where one cannot be used."""
    found = []
    for text in given:
        name, equals, command = text.partition("=")
        if not equals:
            raise SplatError(f"--program {shown(text)!r} is not of the form NAME=COMMAND.")
        found.append(OtherProgram(name.strip(), command.strip()))
    if file is not None:
        try:
            table = tomllib.loads(read_text(file))
        except tomllib.TOMLDecodeError as e:
            raise SplatError(
                f"{shown(file)} is no TOML ({e}): write a line name = 'command' for each program."
            ) from None
        for name, command in table.items():
            if not isinstance(command, str):
                raise SplatError(f"{shown(file)}: {shown(name)} is not a command: write {shown(name)} = 'command'.")
            found.append(OtherProgram(name, command.strip()))
    for p in found:
        if not _NAME.fullmatch(p.name) or p.name in METHODS or p.name == "auto":
            raise SplatError(f"{shown(p.name)!r} cannot be a program's name: use letters that no method has.")
        if "{colmap}" not in p.command and "{images}" not in p.command:
            raise SplatError(f"--program {p.name}: its command must name {{colmap}}, the folder of photos and poses.")
    names = [p.name for p in found]
    if len(set(names)) < len(names):
        raise SplatError(f"two programs are called {next(n for n in names if names.count(n) > 1)}: rename one.")
    return found
