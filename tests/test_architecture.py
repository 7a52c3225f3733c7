"""The import rules of the README section "How it is built", read from the source with `ast`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "splat"
FILES = sorted(PACKAGE.rglob("*.py"))

SLOTS = {"ingest", "poses", "priors", "init", "raster", "losses", "train", "export", "report", "viewer"}
LAYERS = {"", "geometry", "core", "native"}
MAY_IMPORT: dict[str, set[str]] = {
    "": {"commands", "core"},
    "__main__": {"", "cli", "core"},
    "cli": {"", "commands", "core"},
    "commands": {"bench", "stages", "run", "methods", *SLOTS, *LAYERS},
    "bench": {"run", "methods", *LAYERS},
    "stages": {"run", "methods", *SLOTS, *LAYERS},
    "run": {*SLOTS, *LAYERS},
    "methods": {*SLOTS, *LAYERS},
    **dict.fromkeys(SLOTS, LAYERS),
    "geometry": {"core", "native"},
    "core": {"", "native"},
    "native": set(),
}
"""Folder (or top-level file) of `splat` -> what else of `splat` it may name; "" is the package's own `__init__`."""

DOORS = {
    "pycolmap": ("poses/*.py", "ingest/colmap*.py", "export/colmap*.py", "core/lens.py"),
    "gsplat": ("raster/gsplat.py",),
    "open3d": ("export/*.py",),
    "tyro": ("cli.py",),
    "jinja2": ("report/*.py",),
    "matplotlib": ("bench/*.py",),
    "romatch": ("priors/*.py",),
    "romav2": ("priors/*.py",),
    "pillow_heif": ("core/image.py",),
    "kornia": ("priors/disk_lightglue.py",),
    "transformers": ("priors/depth_anything.py",),
    "diffusers": ("priors/diffusers_door.py",),
    "peft": ("priors/diffusion_refiner.py",),
    "pxr": ("export/usd.py",),
    "websockets": ("viewer/server.py",),
    "ray": ("bench/engines/ray.py",),
    "submitit": ("bench/engines/slurm.py",),
}
"""Heavy or optional library -> the files that may name it. Where the pattern is a folder, one file of it may (the test
below counts), except for poses and priors, where each file is the door of another method."""
ONE_FILE_ONLY = {
    "gsplat",
    "jinja2",
    "matplotlib",
    "open3d",
    "tyro",
    "pillow_heif",
    "kornia",
    "transformers",
    "pxr",
    "peft",
}
LAZY = set(DOORS) - {"tyro"}
LIGHT_ENTRY = ("__init__.py", "__main__.py")
HEAVY_FOR_HELP = {"torch", "numpy", "cv2", "PIL", "jaxtyping", "rich", "tyro", *LAZY}


@dataclass(frozen=True)
class Import:
    file: Path
    line: int
    module: str
    """Absolute dotted name."""
    top_level: bool
    """Runs when the file is imported (not inside a function, not under TYPE_CHECKING)."""
    names: tuple[str, ...] = ()
    """What is imported from the module."""

    @property
    def library(self) -> str:
        return self.module.split(".")[0]

    @property
    def where(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def owner(file: Path) -> str:
    """The folder of `splat` a file belongs to, or its own name at the top."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports_of(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(), str(file))
    lazy: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            lazy.update(id(inner) for inner in ast.walk(node))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            lazy.update(id(inner) for part in node.body for inner in ast.walk(part))
    package = ("splat", *file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        names: list[str] = []
        members: tuple[str, ...] = ()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            members = tuple(a.name for a in node.names)
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            # `from splat import core` names the folder, `from splat import __version__` only the package
            names = [f"{module}.{a.name}" if module == "splat" else module for a in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for name in names:
            yield Import(file, node.lineno, name, id(node) not in lazy, members)


def target(imported: Import) -> str | None:
    """The folder of `splat` that is imported; None for other libraries."""
    parts = imported.module.split(".")
    if parts[0] != "splat":
        return None
    if len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists()):
        return parts[1]
    return ""


ALL = [i for file in FILES for i in imports_of(file)]


def test_the_walk_sees_the_package() -> None:
    assert len(FILES) > 10
    assert any(i.library == "torch" for i in ALL)
    assert any(target(i) == "core" for i in ALL)


def test_folders_import_only_what_stands_below_them() -> None:
    """cli -> commands -> {bench, stages} -> methods -> slots -> geometry -> core -> native; run is beside stages; slots
    never import each other."""
    wrong = []
    for i in ALL:
        to, source = target(i), owner(i.file)
        if to is None or to == source:
            continue
        assert source in MAY_IMPORT, f"splat/{source} is new: give it a row in MAY_IMPORT and in the README"
        if to not in MAY_IMPORT[source]:
            wrong.append(f"{i.where} imports {i.module}")
    assert not wrong, wrong


def test_every_folder_has_its_place_in_the_rules() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders <= set(MAY_IMPORT), folders - set(MAY_IMPORT)


def test_the_scenes_know_only_the_vocabulary() -> None:
    """They are the truth that the pipeline is judged by, so nothing of the pipeline may enter them."""
    found = {
        name.group(1)
        for file in (ROOT / "scenes").glob("*.py")
        for name in re.finditer(r"^\s*(?:from|import) splat\.?(\w*)", file.read_text(), re.M)
    }
    assert found <= {"", "core", "scenes"}, found


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_heavy_library_is_named_only_behind_its_door(library: str) -> None:
    users = {i.file.relative_to(PACKAGE).as_posix() for i in ALL if i.library == library}
    strangers = {u for u in users if not any(fnmatch(u, pattern) for pattern in DOORS[library])}
    assert not strangers, f"{library} may be imported only by {DOORS[library]}, not by {strangers}"
    if library in ONE_FILE_ONLY:
        assert len(users) <= 1, f"{library} has two doors: {users}"


def test_heavy_libraries_are_imported_inside_the_call() -> None:
    eager = [f"{i.where} imports {i.library}" for i in ALL if i.library in LAZY and i.top_level]
    assert not eager, eager


def test_the_core_is_free_of_optional_libraries() -> None:
    """What a fresh machine has (torch, numpy, cv2, Pillow, and pycolmap for lenses) is enough to import all of core."""
    libraries = {i.library for i in ALL if owner(i.file) == "core" and i.library not in sys.stdlib_module_names}
    assert libraries <= {"splat", "torch", "numpy", "cv2", "PIL", "jaxtyping", "pycolmap", "pillow_heif"}, libraries


def test_native_knows_nothing_of_torch_headers_or_python_headers() -> None:
    sources = [p for pattern in ("*.cpp", "*.h", "*.cu", "*.cuh") for p in (PACKAGE / "native").rglob(pattern)]
    sources += [*(ROOT / "cuda").rglob("*.cu*")]
    for path in sources:
        for included in re.findall(r'#include\s*[<"]([^>"]+)', path.read_text()):
            assert not included.startswith(("torch/", "ATen/", "c10/", "Python.h", "pybind11/")), f"{path}: {included}"


USER_BROUGHT = {
    "romatch": "needs a torchvision that fits the user's torch and CUDA: an extra would bring one that need not",
    "romav2": "as romatch",
}
"""Library that no extra declares -> why. The code that imports it tells the user how to install it."""


def distribution(library: str) -> str:
    """The package that brings an imported name, as `declared` spells it."""
    return {"cv2": "opencv_python_headless", "PIL": "pillow", "pxr": "usd_core"}.get(library, library).lower()


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_-]", r)[0].lower().replace("-", "_") for r in requirements}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = [r for e, rows in PROJECT["optional-dependencies"].items() if e not in {"test", "dev"} for r in rows]
USED = {i.library: i.where for i in ALL if i.library not in {*sys.stdlib_module_names, "splat"}}


def test_every_library_used_is_declared() -> None:
    """Nothing works only because another package happens to bring it."""
    known = declared([*PROJECT["dependencies"], *OPTIONAL])
    undeclared = {lib: where for lib, where in USED.items() if distribution(lib) not in known}
    assert set(undeclared) == set(USER_BROUGHT), undeclared


def test_extras_bring_only_what_is_imported() -> None:
    unused = declared(OPTIONAL) - {distribution(lib) for lib in USED}
    assert not unused, unused


def test_every_extra_that_a_message_names_exists() -> None:
    named = {extra for file in FILES for extra in re.findall(r"splat3d\[(\w+)\]", file.read_text())}
    assert named and named <= set(PROJECT["optional-dependencies"]), named


def test_help_and_version_load_nothing_heavy() -> None:
    """Static: everything that importing `splat` or `splat.__main__` runs, followed through the package."""
    seen: set[Path] = set()
    todo = [PACKAGE / name for name in LIGHT_ENTRY if (PACKAGE / name).exists()]
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        for i in imports_of(file):
            if not i.top_level:
                continue
            assert i.library not in HEAVY_FOR_HELP, f"{i.where}: `splat --help` would import {i.library}"
            if i.library == "splat":
                parts = i.module.split(".")[1:]
                for depth in range(len(parts) + 1):
                    base = PACKAGE.joinpath(*parts[:depth])
                    todo += [p for p in (base / "__init__.py", base.with_suffix(".py")) if p.exists()]


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_answer_without_torch(flag: str) -> None:
    """Dynamic: the same, in a fresh interpreter."""
    code = (
        "import sys\nfrom splat.__main__ import main\n"
        f"try:\n    code = main([{flag!r}])\nexcept SystemExit as e:\n    code = e.code\n"
        f"heavy = sorted(set(sys.modules) & {HEAVY_FOR_HELP!r})\n"
        "assert not heavy, heavy\nassert not code, code\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_files_can_be_read_in_one_sitting() -> None:
    """`core/slots.py` is the exception: the whole architecture on one page, and that page is not cut."""
    sources = [p for pattern in ("*.py", "*.cpp", "*.h") for p in PACKAGE.rglob(pattern)]
    sources.remove(PACKAGE / "core" / "slots.py")
    long = {str(p.relative_to(ROOT)): n for p in sources if (n := len(p.read_text().splitlines())) > 500}
    assert not long, f"split these: {long}"
    assert not list(PACKAGE.rglob("utils.py"))


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(f.relative_to(ROOT))
        for f in FILES
        if f.read_text().strip() and not ast.get_docstring(ast.parse(f.read_text()))
    ]
    assert not silent, silent


CIRCLES: dict[frozenset[str], str] = {}
"""Files of `splat` that import each other in a circle -> why that is right. Imports inside functions and under
TYPE_CHECKING count."""


def files_imported(i: Import) -> Iterator[str]:
    """The files of `splat` that an import statement names (not the `__init__`s that Python runs on the way)."""
    parts = i.module.split(".")
    if parts[0] != "splat":
        return
    base = PACKAGE.joinpath(*parts[1:])
    if base.with_suffix(".py").exists():
        yield base.with_suffix(".py").relative_to(PACKAGE).as_posix()
    elif (base / "__init__.py").exists():
        inside = [base / f"{n}.py" for n in i.names if (base / f"{n}.py").exists()]
        inside += [base / n / "__init__.py" for n in i.names if (base / n / "__init__.py").exists()]
        for file in inside or [base / "__init__.py"]:
            yield file.relative_to(PACKAGE).as_posix()


def circles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """Sets of files each of which reaches all others of its set (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1 or node in graph.get(node, ()):
                found.append(frozenset(component))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def test_a_circle_is_found_where_there_is_one() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [frozenset("bc")]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_two_files_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for i in ALL:
        graph.setdefault(i.file.relative_to(PACKAGE).as_posix(), set()).update(files_imported(i))
    found = set(circles(graph))
    assert found <= set(CIRCLES), [sorted(c) for c in found - set(CIRCLES)]
    assert set(CIRCLES) <= found, "remove what is no circle any more"


def test_the_tree_in_the_readme_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text()
    block = text[text.index("```\nsplat/\n") :].split("```")[1]
    rows = dict(re.findall(r"^  (\w+(?:\.py|/))\s+(.*(?:\n {15}.*)*)", block, re.M))
    folders = {f"{p.name}/" for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert {name for name in rows if name.endswith("/")} == folders
    for name, folder in (("commands/", "commands"), ("methods/", "methods")):
        files = {p.stem for p in (PACKAGE / folder).glob("*.py")} - {"__init__", "base", "auto", "presets"}
        assert files <= set(re.findall(r"\w+", rows[name])), f"{name} has files that the README does not name"
    beside = set(re.findall(r"^(\w+)/ ", block, re.M))
    assert beside == {"cuda", "scenes", "scripts", "tests"} and all((ROOT / name).is_dir() for name in beside)
