"""Which code made a result: a hash of the sources that a stage imports, so that changed code is noticed.

What counts is read from the source with `ast`, never by importing: the modules that are named, and what these import,
on and on, imports inside functions included. A file counts without its comments, docstrings and formatting, C++ and
CUDA without comments and formatting, so that a reworded docstring changes no hash. The hash does not depend on the
version of Python, on where the package lies, or on whether it was installed.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "splat"
ROOT = Path(__file__).resolve().parents[1]

EXCLUDED = frozenset(
    {
        # The version, and names that other programs import.
        "splat",
        # What these decide reaches the stages as settings, and settings are in the keys.
        "splat.__main__",
        "splat.cli",
        "splat.commands",
        # Keys, locks, lines on a terminal, cores and memory of a machine, opening a run again. Not all of splat.run:
        # how arrays and captures are written decides whether what lies on disk can be read.
        "splat.run.code",
        "splat.run.folder",
        "splat.run.fingerprint",
        "splat.run.record",
        "splat.run.outputs",
        "splat.run.console",
        "splat.core.machine",
        "splat.run.completed",
        # Written again by every run, whatever is already there; no stage loads it.
        "splat.stages.report",
        # Sentences for the user, and bytes written whole or not at all: which bytes is up to those who call.
        "splat.core.errors",
        "splat.core.files",
    }
)
"""Modules, with everything below them, that decide nothing about a result: where others import them, they do not count.
They do where they are named."""

_NATIVE = "splat.native"


def code_hash(*modules: str | ModuleType) -> str:
    """The hash (16 hexadecimal digits) of these modules of `splat` and all of `splat` that they import.

    A module that is not of `splat`, given itself or by name when it has been imported, counts with its own file and
    what it imports of `splat`: `code_hash("splat.stages.init", type(method).__module__)` covers a method from anywhere.
    One that has no file (typed into a prompt) counts by its name alone.

    Each file is read once per process. A run that hashes its whole command when it starts therefore keeps describing
    the code it started with, though files are edited while it works; a `Sources` of its own reads them afresh.

    Raises ValueError for a module that is neither in `splat` nor imported.
    """
    return _sources().hash(*modules)


@functools.cache
def _sources() -> Sources:
    return Sources()


@dataclass(frozen=True)
class _File:
    digest: str
    imports: frozenset[str] = frozenset()
    """Modules of the package that it imports."""


class Sources:
    """The source files of the package, each read once. `root`: the folder that is `splat`."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = Path(root)
        self._files: dict[Path, _File] = {}
        self._paths: dict[str, Path | None] = {}
        self._hashes: dict[tuple[str | ModuleType, ...], str] = {}

    def hash(self, *modules: str | ModuleType) -> str:
        """See `code_hash`."""
        if modules not in self._hashes:
            text = "\n".join(f"{name} {digest}" for name, digest in sorted(self._parts(modules).items()))
            self._hashes[modules] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._hashes[modules]

    def closure(self, *modules: str | ModuleType) -> tuple[str, ...]:
        """What `hash` covers: names of modules, files of other packages, C++ and CUDA sources."""
        return tuple(sorted(self._parts(modules)))

    def _parts(self, modules: Iterable[str | ModuleType]) -> dict[str, str]:
        """Name -> digest of all that counts."""
        with _without_garbage_collection():
            parts, todo = self._named(modules)
            followed: set[str] = set()
            while todo:
                name = todo.pop()
                if name in followed:
                    continue
                followed.add(name)
                file = self._read(self._path(name), name)
                parts[name] = file.digest
                todo += [i for i in file.imports if not _excluded(i)]
                # The packages on the way to a module run before it, so their own text counts. What they import does
                # not: it is there for those who import from the package itself, and is followed where somebody does.
                for parent in _parents(name):
                    if parent not in parts and not _excluded(parent):
                        parts[parent] = self._read(self._path(parent), parent).digest
            if any(name == _NATIVE or name.startswith(f"{_NATIVE}.") for name in followed):
                parts |= {name: self._read(path).digest for name, path in self._compiled()}
        return parts

    def _named(self, modules: Iterable[str | ModuleType]) -> tuple[dict[str, str], list[str]]:
        """Of the modules named: the digests of those of other packages, and the modules of this one to go on with."""
        parts: dict[str, str] = {}
        todo: list[str] = []
        for module in modules:
            name = module if isinstance(module, str) else module.__name__
            if _ours(name):
                if self._path(name) is None:
                    raise ValueError(f"There is no module {name} in {self.root}.")
                todo.append(name)
                continue
            found = sys.modules.get(module) if isinstance(module, str) else module
            if found is None:
                raise ValueError(f"{name} has not been imported: its code cannot be found.")
            path = getattr(found, "__file__", None)
            file = self._read(Path(path)) if path else _File("no file")
            parts[f"{name} (not of {PACKAGE})"] = file.digest
            todo += [i for i in file.imports if not _excluded(i)]
        return parts, todo

    def _path(self, module: str) -> Path | None:
        """Where a module of the package is, if there is one of this name."""
        if module not in self._paths:
            base = self.root.joinpath(*module.split(".")[1:])
            candidates = (base / "__init__.py", base.with_suffix(".py"))
            self._paths[module] = next((p for p in candidates if p.is_file()), None)
        return self._paths[module]

    def _compiled(self) -> Iterator[tuple[str, Path]]:
        """C++, headers and CUDA: in a wheel all below `native/`, in a checkout partly in `cuda/` beside the package."""
        native, cuda = self.root / "native", self.root.parent / "cuda"
        suffixes = {".h", ".cpp", ".cu", ".cuh"}
        yield from ((p.relative_to(native).as_posix(), p) for p in native.rglob("*") if p.suffix in suffixes)
        if not (native / "cuda").is_dir():
            yield from ((f"cuda/{p.relative_to(cuda).as_posix()}", p) for p in cuda.rglob("*") if p.suffix in suffixes)

    def _read(self, path: Path | None, module: str = "") -> _File:
        """`module`: its name, for relative imports."""
        if path is None:  # a folder without an __init__
            return _File("no file")
        if path not in self._files:
            data = path.read_bytes()
            try:
                if path.suffix == ".py":
                    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
                    text, names = _python(ast.parse(data), package)
                    file = _File(_digest(text.encode()), frozenset(self._modules(names)))
                else:
                    file = _File(_digest(without_comments(data.decode()).encode()))
            except (SyntaxError, ValueError):  # being edited, or a compiled module of another package
                file = _File(_digest(data))
            self._files[path] = file
        return self._files[path]

    def _modules(self, names: Iterable[tuple[str, str]]) -> Iterator[str]:
        """The modules of the package among the names imported: of (a, b) the module a.b, if there is one, else a."""
        for module, member in names:
            longer = f"{module}.{member}"
            if member and self._path(longer):
                yield longer
            elif self._path(module):
                yield module


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _excluded(module: str) -> bool:
    # everything is below `splat`, which is excluded alone
    return module in EXCLUDED or any(p in EXCLUDED for p in _parents(module) if p != PACKAGE)


# --------------------------------------------------------------------------------------------------------------- python


def _python(tree: ast.Module, package: str) -> tuple[str, list[tuple[str, str]]]:
    """A text that is the same for trees that do the same, and what they import of this package, as (module, member).

    Left out are statements that are a string alone (docstrings, also those of attributes), and what is for type
    checkers alone (under `if TYPE_CHECKING`). A string that is the name of a module counts as an import of it: it is
    what `importlib.import_module` is called with, now or where a table is looked up.
    """
    text: list[str] = []
    imports: list[tuple[str, str]] = []
    stack: list[Any] = [tree]
    add, push, pop = text.append, stack.append, stack.pop
    fields_of: dict[type, tuple[str, ...]] = {}  # a look-up for each of half a million nodes, rather than tests of kind
    while stack:
        node = pop()
        kind = node.__class__
        if kind is list:
            add(f"[{len(node)}")
            stack += node
            continue
        fields = fields_of.get(kind)
        if fields is None:
            if not issubclass(kind, ast.AST):
                add(repr(node))
                continue
            fields = fields_of[kind] = _fields_of(kind)
        add(kind.__name__)
        if kind is ast.Constant:
            if node.value.__class__ is str and _DOTTED(node.value):
                imports.append((node.value.partition(":")[0], ""))
            add(repr(node.value))
            continue
        if kind is ast.Import:
            imports += [(a.name, "") for a in node.names if _ours(a.name)]
        elif kind is ast.ImportFrom:
            source = _absolute(node, package)
            imports += [(source, a.name) for a in node.names if _ours(source)]
        elif kind is ast.If and _for_type_checkers(node.test):
            fields = ("orelse",)
        for field in fields:
            value = getattr(node, field, None)
            if value.__class__ is str:
                add(field)
                add(value)
            elif value is not None and value != []:  # empty ones are left out: versions of Python add fields
                add(field)
                push(_without_docstrings(value) if field == "body" and kind in _BLOCKS else value)
    return "\0".join(text), imports


_BLOCKS = frozenset(c for c in vars(ast).values() if isinstance(c, type) and "body" in getattr(c, "_fields", ())) - {
    ast.IfExp,
    ast.Lambda,
    ast.Expression,
}
"""Nodes whose body is a list of statements."""


@functools.cache
def _fields_of(kind: type[ast.AST]) -> tuple[str, ...]:
    """Without those that repeat what the rest says."""
    return tuple(f for f in kind._fields if f not in ("ctx", "kind", "type_comment", "type_ignores"))


_DOTTED = re.compile(rf"{PACKAGE}(\.\w+)+(:\w+)?").fullmatch


def _ours(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module of `from ... import`, in a module of `package`."""
    if not node.level:
        return node.module or ""
    base = package.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _without_docstrings(statements: list[ast.stmt]) -> list[ast.stmt]:
    return [
        n
        for n in statements
        if not (n.__class__ is ast.Expr and isinstance(n.value, ast.Constant) and isinstance(n.value.value, str))
    ]


def _for_type_checkers(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Trees are many small objects that all live: collecting in between takes half of the time, and frees nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# ------------------------------------------------------------------------------------------------------------ C++, CUDA

_COMMENT = r"//(?:\\\r?\n|[^\n])*|/\*.*?\*/"
_CPP = re.compile(
    rf"""
      (?P<literal>
          (?<!\w)(?:u8|u|U|L)?R"(?P<mark>[^()\\\s]{{0,16}})\(.*?\)(?P=mark)"   # raw strings
        | "(?:\\.|[^"\\\n])*"
        | (?<!\w)\d[\w.]*'[\w.']*                                            # 1'000 opens no character
        | '(?:\\.|[^'\\\n])*'
      )
    | (?:[ ](?=[\s/])|[^\S ]|{_COMMENT})(?:\s|{_COMMENT})*                   # all blanks but single spaces
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENTS = re.compile(_COMMENT, re.DOTALL)


def without_comments(source: str) -> str:
    """C++ or CUDA without comments, empty lines and indentation; string and character literals stay as they are. Line
    breaks stay too, since they end preprocessor directives."""

    def blank(match: re.Match[str]) -> str:
        if match["literal"]:
            return match[0]
        text = match[0]
        return "\n" if "\n" in (_COMMENTS.sub("", text) if "/" in text else text) else " "

    return _CPP.sub(blank, source).strip()
