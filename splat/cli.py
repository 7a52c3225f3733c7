"""The command line: tyro over the command dataclasses. The only importer of tyro.

A command is a frozen dataclass, callable without arguments; its fields are the flags and its field docstrings the help.
A command may offer `defaults_for(argv)`: the instance whose values are the defaults for these arguments (a preset), so
that explicit flags always win over it; and it learns which flags were explicit through the field `explicit_flags`.
Fields without a default are positional arguments.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import sys
from typing import Any

import tyro

from splat.core.errors import Interrupted, SplatError


def load(target: str) -> Any:
    """The class named by "module:Class"."""
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def parse(command: Any, argv: list[str], prog: str) -> Any:
    """An instance of `command` from the arguments; exits with code 2 and a message where they are wrong."""
    defaults_for = getattr(command, "defaults_for", None)
    default = defaults_for(argv) if defaults_for is not None else None
    if default is not None:
        # A field that has no default of its own stays required although the preset instance must hold something. The
        # marker is no value of the field's type, so it is put in behind the constructor's back.
        default = copy.copy(default)
        for f in dataclasses.fields(command):
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                object.__setattr__(default, f.name, tyro.MISSING)
    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.AvoidSubcommands, tyro.conf.HelptextFromCommentsOff)
    instance = tyro.cli(command, args=argv, default=default, prog=prog, config=config)
    if hasattr(instance, "explicit_flags"):
        flags = tuple(sorted({a.split("=")[0].lstrip("-").replace("-", "_") for a in argv if a.startswith("--")}))
        instance = dataclasses.replace(instance, explicit_flags=flags)
    return instance


def run(name: str, target: str, argv: list[str]) -> int:
    """Parse and run one command; one sentence and exit code 2 for what the user can mend."""
    try:
        instance = parse(load(target), argv, f"splat {name}")
        code = instance()
        return code if isinstance(code, int) else 0
    except SplatError as e:
        print(f"splat: {e}", file=sys.stderr)
        return 2
    except Interrupted as e:
        print(f"splat: {e}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("splat: stopped; run the same command again to go on from where it stopped.", file=sys.stderr)
        return 130
    except MemoryError:
        print("splat: out of memory: lower --max-resolution or --cap.", file=sys.stderr)
        return 2
