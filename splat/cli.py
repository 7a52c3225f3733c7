"""The command line: tyro over the command dataclasses. The only importer of tyro.

A command is a frozen dataclass, callable without arguments; its fields are the flags and its field docstrings the help.
Fields without a default are positional arguments, and so are those whose metadata has `positional: True`; a field whose
metadata has `flag: False` is none. A command may offer
`flags()`, a dataclass whose fields are its flags in its place, with `from_flags(instance, explicit)` to come back from
it; `explicit` holds the dotted names of the flags that were given. Its `common` names what `--help` shows;
`--help-all` shows everything.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, get_type_hints

import tyro

from splat.core import foreign
from splat.core.errors import Interrupted, SplatError
from splat.core.interrupts import EXIT_CODE, STOPPED
from splat.core.machine import is_out_of_memory

CONFIG = (tyro.conf.PositionalRequiredArgs, tyro.conf.AvoidSubcommands, tyro.conf.HelptextFromCommentsOff)
HELP, HELP_ALL = {"-h", "--help"}, "--help-all"


def load(target: str) -> Any:
    """The class named by "module:Class"."""
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def parse(command: Any, argv: Sequence[str], prog: str) -> Any:
    """An instance of `command` from the arguments; exits with code 2 and a message where they are wrong."""
    flags = command.flags() if hasattr(command, "flags") else command
    common = getattr(command, "common", None)
    brief = common is not None and HELP.intersection(argv)
    description = " ".join((command.__doc__ or "").split()) + (
        f" (`{prog} {HELP_ALL}` lists all flags.)" if brief else ""
    )
    arguments = ["--help"] if HELP_ALL in argv else list(argv)
    shown = _shown(flags, common if brief else None)
    instance: Any = tyro.cli(shown, args=arguments, prog=prog, config=CONFIG, description=description)
    if hasattr(command, "from_flags"):
        return command.from_flags(instance, explicit_names(argv, flags))
    return command(**{f.name: getattr(instance, f.name) for f in dataclasses.fields(command)})


def _shown(flags: type, common: Sequence[str] | None) -> type:
    """The same dataclass without what is no flag. Where `common` is given, for a help text: with these fields alone."""
    hints = get_type_hints(flags, include_extras=True)
    changed: list[tuple[str, Any, Any]] = []
    for f in dataclasses.fields(flags):
        if f.metadata.get("flag") is False:
            changed.append((f.name, Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress], _default_of(f)))
        elif f.metadata.get("positional") is True:
            changed.append((f.name, Annotated[hints[f.name], tyro.conf.Positional], _default_of(f)))
        elif common is not None and f.name not in common:
            changed.append((f.name, Annotated[hints[f.name], tyro.conf.Suppress], _default_of(f)))
    return dataclasses.make_dataclass(flags.__name__, changed, bases=(flags,), frozen=True) if changed else flags


def _default_of(f: Any) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=f.default_factory)
    return dataclasses.field() if f.default is dataclasses.MISSING else dataclasses.field(default=f.default)


def explicit_names(argv: Sequence[str], flags: type) -> tuple[str, ...]:
    """Dotted names of the fields whose flags are among the arguments: `--train.views.no-exposure` names
    `train.views.exposure`."""
    found = set()
    for argument in argv:
        if not argument.startswith("--"):
            continue
        name = argument[2:].split("=")[0].replace("-", "_")
        head, dot, last = name.rpartition(".")
        if not _has_field(flags, name) and last.startswith("no_"):
            name = head + dot + last.removeprefix("no_")
        found.add(name)
    return tuple(sorted(found))


def _has_field(settings: type, name: str) -> bool:
    """Whether nested dataclasses have a field at a dotted path."""
    head, _, rest = name.partition(".")
    if head not in {f.name for f in dataclasses.fields(settings)}:
        return False
    if not rest:
        return True
    inner = get_type_hints(settings)[head]
    return dataclasses.is_dataclass(inner) and isinstance(inner, type) and _has_field(inner, rest)


def run(name: str, target: str, argv: Sequence[str]) -> int:
    """Parse and run one command; one sentence and exit code 2 for what the user can mend."""
    try:
        instance = parse(load(target), argv, f"splat {name}")
        code = instance()
        return code if isinstance(code, int) else 0
    except SplatError as e:
        print(f"splat: {foreign.shown(e)}", file=sys.stderr)
        return 2
    except Interrupted as e:
        print(f"splat: {foreign.shown(e)}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print(f"splat: {STOPPED}", file=sys.stderr)
        return EXIT_CODE
    except Exception as e:
        if is_out_of_memory(e):
            print(
                "splat: out of memory: close other programs, raise the limit, or give smaller inputs.", file=sys.stderr
            )
            return 2
        if not isinstance(e, OSError) or e.filename is None:
            raise
        # what no reader or writer has foreseen: a name that no file can have, a folder that may not be entered
        name = foreign.shown(e.filename)[:200]
        print(f"splat: {name} cannot be used ({e.strerror}): correct the path or its permissions.", file=sys.stderr)
        return 2
