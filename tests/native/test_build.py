"""Kernels are compiled once, safely, and their absence is explained."""

import ctypes
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from splat.native import bindings, build

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")
ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return %d; }\n'


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A library of two short sources, and a cache of its own."""
    here, cache = tmp_path / "native", tmp_path / "cache"
    (here / "cpu").mkdir(parents=True)
    (here / "cpu" / "a.cpp").write_text(ANSWER % 42)
    (here / "cpu" / "b.cpp").write_text("int other() { return 1; }\n")
    monkeypatch.setattr(build, "HERE", here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return here


@needs_compiler
def test_a_change_of_one_source_compiles_that_one_again(tiny):
    first = build.build()
    objects = {p.name: p.stat().st_mtime_ns for p in first.parent.glob("*.o")}
    assert ctypes.CDLL(str(first)).answer() == 42
    assert build.build() == first and len(objects) == 2
    (tiny / "cpu" / "a.cpp").write_text(ANSWER % 43)
    second = build.build()
    assert second != first and ctypes.CDLL(str(second)).answer() == 43
    after = {p.name: p.stat().st_mtime_ns for p in first.parent.glob("*.o")}
    assert len(after) == 3 and objects.items() <= after.items()


@needs_compiler
def test_headers_and_flags_are_part_of_the_name(tiny):
    names = {build.build(), build.build(["-DX=1"])}
    (tiny / "kernels.h").write_text("// new\n")
    names.add(build.build())
    assert len(names) == 3


@needs_compiler
def test_processes_may_build_at_once(tiny):
    code = (
        "import sys; from pathlib import Path; from splat.native import build\n"
        f"build.HERE = Path({str(tiny)!r}); print(build.build())"
    )
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {p.communicate(timeout=60)[0].strip() for p in running}
    assert len(paths) == 1 and ctypes.CDLL(paths.pop()).answer() == 42
    left = [p.name for p in build.cache_dir().iterdir()]
    assert not [name for name in left if name.startswith(".")]


def test_no_compiler_is_said_with_the_fix(tiny, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.NativeUnavailable, match="install g\\+\\+"):
        build.build()


@needs_compiler
def test_a_compiler_that_fails_is_quoted(tiny):
    (tiny / "cpu" / "b.cpp").write_text("this is not C++\n")
    with pytest.raises(build.NativeUnavailable, match=r"b\.cpp"):
        build.build()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(build.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@needs_compiler
def test_where_the_cache_cannot_be_written_a_folder_of_the_user_s_own_serves(tiny, tmp_path, elsewhere):
    (tmp_path / "cache").write_text("a file where the folder should be")
    library = build.build()
    assert library.parent.parent == elsewhere and stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    assert ctypes.CDLL(str(library)).answer() == 42 and build.build() == library


@needs_compiler
def test_a_shared_folder_that_others_may_write_is_not_used(tiny, tmp_path, elsewhere):
    (tmp_path / "cache").write_text("")
    planted = build.cache_dirs()[-1]
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(build.NativeUnavailable, match="XDG_CACHE_HOME"):
        build.build()


def test_without_a_home_folder_the_temporary_folder_serves(monkeypatch, elsewhere):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda p: p)  # what it gives to a user without an entry in passwd
    assert build.user_cache() is None and build.cache_dir().parent == elsewhere


@needs_compiler
@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "no hash"])
def test_a_damaged_library_in_the_cache_is_built_again_before_it_is_loaded(tiny, damage):
    library = build.build()
    good = library.read_bytes()
    if damage == "no hash":
        library.with_suffix(".sha256").unlink()
    else:
        library.write_bytes({"empty": b"", "cut": good[: len(good) // 2], "foreign": b"\x7fELF" + bytes(9000)}[damage])
    assert not build.is_intact(library)
    assert build.build() == library and build.is_intact(library) and ctypes.CDLL(str(library)).answer() == 42


@needs_compiler
def test_an_object_file_that_was_cut_off_is_compiled_again(tiny):
    library = build.build()
    for path in library.parent.iterdir():
        path.write_bytes(b"") if path.suffix == ".o" else path.unlink()
    assert ctypes.CDLL(str(build.build())).answer() == 42


@pytest.mark.parametrize("named", ["' unbalanced", "no-such-compiler -O2", "  "])
def test_a_malformed_cxx_is_named_or_ignored(tiny, monkeypatch, named):
    monkeypatch.setenv("CXX", named)
    if named.strip():
        with pytest.raises(build.NativeUnavailable, match="CXX="):
            build.build()
    else:
        assert build.compiler() == build.shutil.which("g++") or build.compiler() is None or "++" in build.compiler()


def test_a_compiler_that_hangs_is_stopped(tiny, tmp_path, monkeypatch):
    slow = tmp_path / "slow++"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("CXX", str(slow))
    monkeypatch.setattr(build, "COMPILER_SECONDS", 0.3)
    with pytest.raises(build.NativeUnavailable, match="was stopped"):
        build.build()


@needs_compiler
def test_a_prebuilt_library_that_was_cut_off_is_passed_over(tiny, monkeypatch):
    library = build.build()
    (tiny / "prebuilt").mkdir()
    (tiny / "prebuilt" / "splat-cpu-x86-64-v3.so").write_bytes(library.read_bytes()[:-3000])
    monkeypatch.setattr(build, "cpu_model", lambda: "flags : abm avx avx2 bmi1 bmi2 f16c fma movbe")
    assert build.prebuilt() is None


@needs_compiler
def test_a_prebuilt_library_serves_where_there_is_no_compiler(tiny, monkeypatch):
    library = build.build()
    (tiny / "prebuilt").mkdir()
    shutil.copy(library, tiny / "prebuilt" / "splat-cpu-x86-64-v3.so")
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(build, "cpu_model", lambda: "flags : abm avx avx2 bmi1 bmi2 f16c fma movbe")
    loaded = build._load.__wrapped__()
    assert not isinstance(loaded, str) and loaded.answer() == 42
    monkeypatch.setattr(build, "cpu_model", lambda: "flags : sse2")
    assert "install g++" in str(build._load.__wrapped__())


def test_importing_compiles_and_loads_nothing():
    code = "import sys, splat.native.bindings, splat.raster.native as r; from splat.native import build; "
    code += "assert build._load.cache_info().currsize == 0"
    root = Path(build.__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=120)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_without_new_pages():
    code = """if True:
        import resource, sys, torch
        from splat.native import build
        if sys.argv[1] == "keep":
            build.keep_freed_memory()
        for repeat in range(20):
            if repeat == 15:  # by then the heap has found its size
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(12_000_000)  # 48 MB
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    root = Path(build.__file__).resolve().parents[2]
    faults = [
        int(subprocess.run([sys.executable, "-c", code, a], check=True, cwd=root, capture_output=True).stdout)
        for a in ("keep", "return")
    ]
    assert faults[0] < 1000 < faults[1]


@pytest.mark.skipif(build.unavailable() is not None, reason="no kernels")
class TestCalls:
    def test_an_argument_that_does_not_fit_is_refused(self):
        good = torch.zeros(3, 4)
        arguments = [
            good,
            4,
            4,
            torch.zeros(2, dtype=torch.int32),
            None,
            torch.zeros(3),
            0.0,
            good,
            good,
            good,
            None,
            None,
        ]
        for wrong in (good.double(), good.T, good.tolist()):
            with pytest.raises(TypeError, match="must be a contiguous tensor"):
                bindings.call("splat_blend_forward", wrong, *arguments[1:])
        with pytest.raises(TypeError, match="takes 12 arguments"):
            bindings.call("splat_blend_forward", good)

    def test_a_refusal_carries_the_kernels_sentence(self):
        with pytest.raises(bindings.KernelError, match="0 threads were asked for"):
            bindings.set_threads(0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_computes_with_threads_of_its_own(self):
        before = bindings.get_threads()
        n = 4096
        arguments = [torch.rand(n, 3), torch.zeros(n, 3), torch.zeros(n)]
        view = (torch.eye(4), torch.tensor([10.0, 10.0, 5.0, 5.0]), 10, 10, 0.01)

        def visible() -> int:
            count = bindings.int64s([0])
            out = (torch.empty(n, dtype=torch.int64), count, bindings.workspace("splat_visible_workspace", n))
            bindings.call("splat_visible", n, *arguments, *view, *out)
            return count[0]

        try:
            bindings.set_threads(3)
            expected = visible()
            child = os.fork()
            if child == 0:
                os._exit(0 if visible() == expected else 1)
            assert os.waitpid(child, 0)[1] == 0 and visible() == expected > 0
        finally:
            bindings.set_threads(before)
