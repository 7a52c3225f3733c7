"""The hash of code: what decides about results changes it, and nothing else does."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path

import pytest

from splat.run import code
from splat.run.code import EXCLUDED, Sources, code_hash, without_comments

FILES = {
    "__init__.py": '__version__ = "1"',
    "cli.py": "FLAGS = 1",
    "core/__init__.py": "",
    "core/numbers.py": "ONE = 1",
    "core/errors.py": "TEXT = 1",
    "core/types.py": "from splat.cli import FLAGS",
    "native/__init__.py": "",
    "native/bindings.py": "import ctypes",
    "native/cpu/sum.cpp": "int sum(int a) {\n  return a; // twice\n}\n",
    "native/kernels.h": "/* all */ int sum(int a);\n",
    "init/__init__.py": "from splat.init.points import points\nfrom splat.init.dense import dense",
    "init/points.py": (
        '"""First Gaussians."""\nfrom splat.core.numbers import ONE\nfrom splat.core.errors import TEXT\n\n\n'
        'class Settings:\n    """All."""\n\n    near: float = 0.1\n    """Metres."""\n\n\n'
        "def points(a, b):\n    return a + b * ONE  # a line\n"
    ),
    "init/dense.py": "def dense():\n    from splat.native import bindings\n\n    return bindings\n",
    "../cuda/sum.cu": "int sum(int a);\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "splat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "splat"


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    text = path.read_text()
    assert old in text or not old
    path.write_text(text.replace(old, new) if old else text + new)


def changed(root: Path, module: str, name: str, old: str, new: str) -> bool:
    before = Sources(root).hash(module)
    edit(root, name, old, new)
    return Sources(root).hash(module) != before


@pytest.mark.parametrize(
    "old,new",
    [
        ('"""First Gaussians."""', '"""The first of them."""'),
        ('"""First Gaussians."""', "# nothing"),
        ('    """All."""\n', ""),
        ('"""Metres."""', '"""World units."""'),
        ("  # a line", "  # another"),
        ("a + b * ONE", "a + (b * ONE)"),
        ("(a, b)", "(\n    a,\n    b,\n)"),
        ("\n\n\n", "\n"),
    ],
)
def test_docstrings_comments_and_formatting_change_nothing(root: Path, old: str, new: str) -> None:
    assert not changed(root, "splat.init.points", "init/points.py", old, new)


@pytest.mark.parametrize(
    "old,new",
    [("0.1", "0.2"), ("a + b * ONE", "(a + b) * ONE"), ("return a", "assert a\n    return a"), ("b *", "a *")],
)
def test_code_and_constants_change_it(root: Path, old: str, new: str) -> None:
    assert changed(root, "splat.init.points", "init/points.py", old, new)


def test_it_follows_imports_through_modules(root: Path) -> None:
    assert changed(root, "splat.init", "core/numbers.py", "1", "2")


def test_a_module_that_is_not_imported_changes_nothing(root: Path) -> None:
    assert not changed(root, "splat.init.points", "core/types.py", "", "\nTWO = 2")
    assert not changed(root, "splat.init.points", "init/dense.py", "", "\nTWO = 2")


def test_an_import_inside_a_function_counts(root: Path) -> None:
    assert "splat.core.types" not in Sources(root).closure("splat.init.points")
    edit(root, "core/numbers.py", "", "\n\ndef late():\n    from splat.core import types\n    return types\n")
    assert "splat.core.types" in Sources(root).closure("splat.init.points")
    assert changed(root, "splat.init.points", "core/types.py", "", "\nTWO = 2")


@pytest.mark.parametrize(
    "line",
    [
        "import splat.core.types",
        "import splat.core.types as t",
        "from splat.core.types import FLAGS",
        "from splat.core import types",
        "from . import types",
        "from .types import *",
        "from ..core import types",
        'importlib.import_module("splat.core.types")',
        'TABLE = {"a": "splat.core.types:Class"}',
        "if True:\n    with a:\n        import splat.core.types",
    ],
)
def test_every_way_to_import_counts(root: Path, line: str) -> None:
    edit(root, "core/numbers.py", "", f"\n{line}\n")
    assert "splat.core.types" in Sources(root).closure("splat.init.points")


def test_what_only_type_checkers_import_does_not_count(root: Path) -> None:
    source = "\nif TYPE_CHECKING:\n    from splat.core.types import FLAGS\nelse:\n    import splat.init.dense\n"
    edit(root, "core/numbers.py", "", source)
    closure = Sources(root).closure("splat.init.points")
    assert "splat.core.types" not in closure and "splat.init.dense" in closure


def test_packages_on_the_way_count_with_their_own_text(root: Path) -> None:
    """`splat/init/__init__.py` runs before `splat.init.points`; what else it offers is not asked for."""
    closure = Sources(root).closure("splat.init.points")
    assert "splat.init" in closure and "splat.init.dense" not in closure
    assert "splat.init.dense" in Sources(root).closure("splat.init")
    assert changed(root, "splat.init.points", "init/__init__.py", "", "\nLIMIT = 3")


def test_compiled_sources_count_only_where_they_are_imported(root: Path) -> None:
    for name, old, new in (
        ("native/cpu/sum.cpp", "return a;", "return 2 * a;"),
        ("native/kernels.h", "int a", "long a"),
        ("../cuda/sum.cu", "int a", "long a"),
    ):
        points = Sources(root).hash("splat.init.points")
        assert changed(root, "splat.init", name, old, new), name
        assert Sources(root).hash("splat.init.points") == points
    assert not changed(root, "splat.init", "native/cpu/sum.cpp", "// twice", "/* once */")


def test_a_wheel_has_the_hash_of_its_checkout(root: Path) -> None:
    """There cuda/ lies inside the package, beside libraries that were compiled before."""
    before = Sources(root).hash("splat.init")
    (root.parent / "cuda").rename(root / "native" / "cuda")
    (root / "native" / "prebuilt").mkdir()
    (root / "native" / "prebuilt" / "a.so").write_bytes(b"\x7fELF")
    moved = root.rename(root.parent / "installed")
    assert Sources(moved).hash("splat.init") == before


def test_what_decides_nothing_does_not_count_unless_it_is_named(root: Path) -> None:
    assert not changed(root, "splat.init.points", "core/errors.py", "1", "2")
    assert not changed(root, "splat.core.types", "cli.py", "1", "2")
    assert not changed(root, "splat.init.points", "__init__.py", '"1"', '"2"')
    assert changed(root, "splat.cli", "cli.py", "2", "3")


def test_every_exclusion_is_a_module_of_the_package() -> None:
    missing = [name for name in EXCLUDED if Sources()._path(name) is None]
    assert not missing, missing


def test_a_method_from_elsewhere_counts_with_what_it_imports(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from splat.core.numbers import ONE\nfrom elsewhere import thing\n")
    module = types.ModuleType("mine")
    module.__file__ = str(path)
    with pytest.raises(ValueError, match="mine"):
        Sources(root).hash("mine")
    before = Sources(root).hash(module)
    sys.modules["mine"] = module
    try:
        assert Sources(root).hash("mine") == before
    finally:
        del sys.modules["mine"]
    path.write_text(path.read_text() + "# a comment\n")
    assert Sources(root).hash(module) == before
    edit(root, "core/numbers.py", "1", "2")
    between = Sources(root).hash(module)
    path.write_text(path.read_text() + "TWO = 2\n")
    assert len({before, between, Sources(root).hash(module)}) == 3
    assert Sources(root).hash(types.ModuleType("typed")) != Sources(root).hash(types.ModuleType("other"))


def test_a_module_that_does_not_exist_is_named(root: Path) -> None:
    with pytest.raises(ValueError, match=r"splat\.nowhere"):
        Sources(root).hash("splat.nowhere")


def test_a_file_that_cannot_be_parsed_counts_as_it_is(root: Path) -> None:
    assert changed(root, "splat.init.points", "core/numbers.py", "1", "(")


def test_files_are_read_once(root: Path) -> None:
    """A run describes the code it started with, though files are edited while it works."""
    sources = Sources(root)
    before = sources.hash("splat.init.points")
    edit(root, "core/numbers.py", "1", "2")
    assert sources.hash("splat.init.points") == before
    assert Sources(root).hash("splat.init.points") != before


def test_the_order_of_names_says_nothing(root: Path) -> None:
    sources = Sources(root)
    assert sources.hash("splat.init", "splat.core.types") == sources.hash("splat.core.types", "splat.init")


def test_c_comments_are_told_from_strings() -> None:
    source = """
#define A 1 /* one */ // all
    char a = '"';  /* a
    comment */ const char* url = "http://x /* y */";
    int n = 1'000'000; // it's a number
    auto r = R"x(// "kept" )" )x";  char q = L'\\'';  // gone \\
    still gone
    a / b   /c;
"""
    expected = """#define A 1
char a = '"'; const char* url = "http://x /* y */";
int n = 1'000'000;
auto r = R"x(// "kept" )" )x"; char q = L'\\'';
a / b /c;"""
    assert without_comments(source) == expected


def test_hashing_the_program_takes_no_time_that_anybody_notices() -> None:
    seconds = []
    for _ in range(6):  # on a busy machine most of them may be much slower
        started = time.process_time()
        assert len(Sources().hash("splat.commands.reconstruct")) == 16
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1.0  # 0.2 to 0.6 s on a free core
    started = time.process_time()
    code_hash("splat.commands.reconstruct")
    code_hash("splat.ingest")
    again = time.process_time()
    code_hash("splat.commands.reconstruct")
    assert time.process_time() - again < 0.01


def test_the_whole_program_is_within_the_hash_of_its_command() -> None:
    closure = set(Sources().closure("splat.commands.reconstruct"))
    assert {"splat.train.loop", "splat.raster.native", "splat.init.dense_surfaces"} <= closure
    assert {"cpu/blend.cpp", "cuda/blend.cu"} <= closure
    assert {"splat.run.capture_io", "splat.run.trained"} <= closure, "what lies on disk must be readable"
    assert not closure & EXCLUDED
    assert code.ROOT.name == "splat"


@pytest.mark.parametrize("module", ["splat.ingest", "splat.poses"])
def test_stages_that_call_no_kernel_do_not_depend_on_native_code(module: str) -> None:
    """Editing C++ or CUDA then makes no run read its photos and find their poses again."""
    closure = Sources().closure(module)
    assert not [part for part in closure if "native" in part or not part.startswith("splat.")]
