"""Compiles the CPU kernels on first use and loads them with ctypes.

The library is written to a per-user cache (`$XDG_CACHE_HOME/splat` or `~/.cache/splat`). Its name is a hash of the
sources, the flags, the compiler and the CPU. It is written atomically, so two processes may build at the same time. A
wheel contains the library for some CPUs (`prebuilt/*.so`); if one fits, nothing is compiled.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Never -ffast-math: it deletes the rounding trick inside exp2, makes isnan(NaN) false, and switches the whole process
# to flush-to-zero when the library is loaded.
FLAGS = (
    *("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-fPIC", "-fvisibility=hidden", "-pthread"),
    *("-Wall", "-Wextra", "-Wno-psabi", "-Wno-uninitialized", "-Wno-maybe-uninitialized"),  # noise of GCC's headers
)


# The x86-64 levels that a wheel ships, best first: what /proc/cpuinfo must list, and the compiler's flags.
LEVELS = {
    "x86-64-v4": (
        {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
        ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    ),
    "x86-64-v3": ({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}, ("-march=x86-64-v3",)),
}


class NativeUnavailable(RuntimeError):
    """There are no compiled kernels; the message says why, in one sentence."""


def cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "splat"


def compiler() -> str | None:
    """The C++ compiler: `$CXX`, else the first of g++, clang++, c++ on PATH."""
    named = os.environ.get("CXX")
    if named:
        return named if shutil.which(shlex.split(named)[0]) else None
    return next((path for name in ("g++", "clang++", "c++") if (path := shutil.which(name))), None)


@functools.cache
def cpu_model() -> str:
    """What the effect of -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        wanted = ("model name", "flags", "Features", "CPU part")
        return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    except OSError:
        return platform.processor() or platform.machine()


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as e:
        raise NativeUnavailable(f"the C++ compiler {command[0]} does not start ({e.strerror}).") from None
    if done.returncode:
        raise NativeUnavailable(f"`{shlex.join(command)}` failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def _machine_flags(cxx: Sequence[str]) -> list[str]:
    """Flags for the CPU of this machine, if the compiler has them."""
    version = _run([*cxx, "--version"])
    if platform.machine() in {"arm64", "aarch64"}:
        return ["-mcpu=native"]
    # GCC prefers half of a 512-bit register on these CPUs; plain loops over Gaussians gain from the whole.
    return ["-march=native", "-mprefer-vector-width=512"] if "clang" not in version else ["-march=native"]


def build(extra_flags: Sequence[str] = (), machine_flags: Sequence[str] | None = None) -> Path:
    """The path of the compiled library. Compiles only sources that have changed.

    `extra_flags` are for sanitizer builds; `machine_flags` replace -march=native (for the prebuilt libraries of a
    wheel). Raises NativeUnavailable, with the reason, if there is no compiler or it fails.
    """
    found = compiler()
    if found is None:
        raise NativeUnavailable(
            "no C++ compiler was found: install g++ (Debian, Ubuntu: apt install g++) or name one in CXX."
        )
    cxx = shlex.split(found)
    machine = list(machine_flags) if machine_flags is not None else _machine_flags(cxx)
    sources = sorted((HERE / "cpu").glob("*.cpp"))
    headers = sorted(h for folder in (HERE, HERE / "cpu", HERE / "shared") for h in folder.glob("*.h"))
    command = [*cxx, *FLAGS, *machine, *extra_flags]
    return cached_library("cpu", command, sources, headers, cpu_model() if machine else "")


def cached_library(
    kind: str,
    command: Sequence[str],
    sources: Sequence[Path],
    headers: Sequence[Path],
    machine: str,
    compile_only: Sequence[str] = (),
) -> Path:
    """The path of a shared library. Each source is compiled with `command` and `compile_only`, and linked with
    `command`; only what has changed is compiled. `machine`: what the result depends on besides the compiler's version,
    flags and sources."""
    common = hashlib.sha256()
    for part in (_run([command[0], "--version"]), "\0".join([*command, *compile_only]), machine):
        common.update(part.encode() + b"\0")
    for header in headers:
        common.update(header.name.encode() + b"\0" + header.read_bytes() + b"\0")

    def key(source: Path) -> str:
        h = common.copy()
        h.update(source.name.encode() + b"\0" + source.read_bytes())
        return h.hexdigest()[:24]

    keys = [key(s) for s in sources]
    name = hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
    cache = cache_dir()
    library = cache / f"splat-{kind}-{name}.so"
    if library.exists():
        return library
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as folder:

            def compile_one(source: Path, key: str) -> str:
                kept = cache / f"{source.stem}-{key}.o"
                if not kept.exists():
                    part = Path(folder) / f"{source.stem}.o"
                    _run([*command, *compile_only, "-c", str(source), "-o", str(part)])
                    os.replace(part, kept)
                return str(kept)

            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                objects = list(pool.map(compile_one, sources, keys))
            linked = Path(folder) / library.name
            _run([*command, "-shared", *objects, "-o", str(linked)])
            os.replace(linked, library)
    except OSError as e:
        raise NativeUnavailable(
            f"the kernels could not be written to {cache} ({e.strerror}): make it writable or set XDG_CACHE_HOME."
        ) from None
    return library


def build_level(level: str) -> Path:
    """`build` for one of LEVELS, for a wheel: the C++ runtime is linked statically."""
    return build(("-static-libstdc++", "-static-libgcc"), LEVELS[level][1])


def shipped_name(level: str) -> str:
    """File name of one of LEVELS in `prebuilt/`."""
    return f"splat-cpu-{level}.so"


def prebuilt() -> Path | None:
    """The best library of the package that this CPU can run."""
    flags = set(cpu_model().split())
    for level, (needed, _) in LEVELS.items():
        path = HERE / "prebuilt" / shipped_name(level)
        if needed <= flags and path.exists():
            return path
    return None


@functools.cache
def keep_freed_memory() -> None:
    """Let malloc keep freed memory instead of returning it to the system.

    Every training step allocates the same large arrays, whose pages would otherwise be cleared and mapped again: a
    third of the time of a step with 250,000 Gaussians. For training processes. Does nothing with other C libraries than
    glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)


@functools.cache
def _load() -> ctypes.CDLL | str:
    """The loaded library, or why there is none. Cached."""
    try:
        path = prebuilt() or build()
    except NativeUnavailable as e:
        return str(e)
    try:
        return ctypes.CDLL(str(path))
    except OSError as e:
        return f"the compiled kernels {path} do not load ({e})."


def load() -> ctypes.CDLL:
    """The kernels. Raises NativeUnavailable."""
    loaded = _load()
    if isinstance(loaded, str):
        raise NativeUnavailable(loaded)
    return loaded


def unavailable() -> str | None:
    """Why there are no compiled kernels (a sentence, or the output of the compiler); None if there are."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else None
