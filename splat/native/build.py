"""Compiles the CPU kernels on first use and loads them with ctypes.

The library is written to a per-user cache (`$XDG_CACHE_HOME/splat` or `~/.cache/splat`; where that cannot be written, a
folder of this user beside the temporary files). Its name is a hash of the sources, the flags, the compiler and the CPU.
It is written atomically, so two processes may build at the same time, with its hash beside it: one that was cut off or
replaced is not loaded but built again. A
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
import stat
import struct
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


COMPILER_SECONDS = 600.0
"""After which a compiler that hangs is stopped; the slowest of the sources takes a tenth of it."""


class NativeUnavailable(RuntimeError):
    """There are no compiled kernels; the message says why, in one sentence."""


def user_cache() -> Path | None:
    """`$XDG_CACHE_HOME`, else `~/.cache`; None where there is no home folder (a user of a container)."""
    base = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")  # noqa: PTH111  (Path.home() raises where there is none)
    return Path(base) if base else Path(home) / ".cache" if home.startswith("/") or Path(home).is_absolute() else None


def cache_dirs() -> list[Path]:
    """Where libraries are looked for and written, best first: the user's cache, then a folder for temporary files that
    belongs to this user alone."""
    own = user_cache()
    uid = os.getuid() if hasattr(os, "getuid") else "user"
    return [*([own / "splat"] if own else []), Path(tempfile.gettempdir()) / f"splat-{uid}"]


def cache_dir() -> Path:
    """The first of `cache_dirs` that can be written; the first one where none can."""
    places = cache_dirs()
    return next((p for p in places if _writable(p)), places[0])


def _writable(folder: Path) -> bool:
    """Whether libraries may be written to `folder`, which is made, and read back: nobody else may have written there.
    (Folders for temporary files are shared: who makes one there first could plant a library.)"""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        shared = hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022)
        if not stat.S_ISDIR(found.st_mode) or (shared and folder == cache_dirs()[-1]):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def compiler() -> str | None:
    """The C++ compiler: `$CXX`, else the first of g++, clang++, c++ on PATH; None where it is not there."""
    named = os.environ.get("CXX")
    if named and named.strip():
        words = _words(named)
        return named if words and shutil.which(words[0]) else None
    return next((path for name in ("g++", "clang++", "c++") if (path := shutil.which(name))), None)


def _words(command: str) -> list[str]:
    """The words of a command line; none where its quotes do not match."""
    try:
        return shlex.split(command)
    except ValueError:
        return []


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_intact(library: Path) -> bool:
    """Whether a cached library has the hash that was written beside it: loading one that was cut off ends the process
    (SIGBUS)."""
    try:
        return library.with_suffix(".sha256").read_text().strip() == digest_of(library)
    except (OSError, ValueError):
        return False


def is_whole_elf(library: Path) -> bool:
    """Whether a file has at least the size that its ELF header needs; True for other kinds (macOS)."""
    try:
        with library.open("rb") as f:
            head = f.read(64)
        if head[:4] != b"\x7fELF":
            return len(head) == 64
        (sections,) = struct.unpack_from("<Q", head, 40)
        size, count = struct.unpack_from("<HH", head, 58)
        return library.stat().st_size >= sections + size * count > 0
    except (OSError, struct.error):
        return False


@functools.cache
def cpu_model() -> str:
    """What the effect of -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        wanted = ("model name", "flags", "Features", "CPU part")
        return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    except OSError:
        return platform.processor() or platform.machine()


def _run(command: Sequence[str], seconds: float | None = None) -> str:
    limit = seconds or COMPILER_SECONDS
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, errors="replace")
    except OSError as e:
        raise NativeUnavailable(f"the C++ compiler {command[0]} does not start ({e.strerror}).") from None
    except subprocess.TimeoutExpired:
        raise NativeUnavailable(
            f"the C++ compiler {command[0]} did not end within {limit:.0f} s and was stopped: name another one in CXX."
        ) from None
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
    found, named = compiler(), os.environ.get("CXX")
    if found is None and named:
        raise NativeUnavailable(
            f"CXX={named} is no C++ compiler: install g++ and unset CXX, or name one that is there."
        )
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
    file = f"splat-{kind}-{name}.so"
    for place in cache_dirs():
        if is_intact(place / file) and _writable_or_own(place):
            return place / file
    cache = cache_dir()
    library = cache / file
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for stale in (library, library.with_suffix(".sha256")):
            stale.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as folder:

            def compile_one(source: Path, key: str) -> str:
                kept = cache / f"{source.stem}-{key}.o"
                if not is_whole_elf(kept):
                    part = Path(folder) / f"{source.stem}.o"
                    _run([*command, *compile_only, "-c", str(source), "-o", str(part)])
                    os.replace(part, kept)
                return str(kept)

            def linked() -> Path:
                with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                    objects = list(pool.map(compile_one, sources, keys))
                part = Path(folder) / library.name
                try:
                    _run([*command, "-shared", *objects, "-o", str(part)])
                except NativeUnavailable:
                    for kept in objects:  # one of them may have been cut off: they are made again next time
                        Path(kept).unlink(missing_ok=True)
                    raise
                return part

            try:
                made = linked()
            except NativeUnavailable:
                made = linked()
            note = made.with_suffix(".sha256")
            note.write_text(digest_of(made) + "\n")
            os.replace(made, library)
            os.replace(note, library.with_suffix(".sha256"))
    except OSError as e:
        raise NativeUnavailable(
            f"the kernels could not be written to {cache} ({e.strerror}): make it writable or set XDG_CACHE_HOME."
        ) from None
    return library


def _writable_or_own(folder: Path) -> bool:
    """Whether a library found in `folder` may be loaded: the user's own cache, or the shared place if it is theirs."""
    return folder != cache_dirs()[-1] or _writable(folder)


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
        if needed <= flags and is_whole_elf(path):
            return path
    return None


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8


def keep_freed_memory() -> None:
    """Let malloc keep freed memory instead of returning it to the system.

    Every training step allocates the same large arrays, whose pages would otherwise be cleared and mapped again: a
    third of the time of a step with 250,000 Gaussians. For training processes. Does nothing with other C libraries than
    glibc.
    """
    _set_malloc(((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20)))


def release_freed_memory() -> None:
    """Give pages of freed memory back to the system, also those between blocks that are in use. Does nothing with other
    C libraries than glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def return_freed_memory(threads: int) -> None:
    """Let malloc return freed memory to the system. `threads`: how many allocate much at the same time.

    By default glibc has eight heaps a core and keeps up to 64 MB in each: 200 MB after features of small photos, which
    later stages would have to do without. Does nothing with other C libraries than glibc.
    """
    _set_malloc(
        (
            *((_M_MMAP_MAX, 1 << 16), (_M_TOP_PAD, 128 << 10), (_M_ARENA_MAX, max(2, threads))),
            *((_M_MMAP_THRESHOLD, 4 << 20), (_M_TRIM_THRESHOLD, 8 << 20)),
        )
    )


def _set_malloc(options: Sequence[tuple[int, int]]) -> None:
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in options:
            mallopt(option, value)


@functools.cache
def _load() -> ctypes.CDLL | str:
    """The loaded library, or why there is none. Cached."""
    for attempt in (prebuilt, build, build):
        try:
            path = attempt()
        except NativeUnavailable as e:
            return str(e)
        if path is None:
            continue
        try:
            return ctypes.CDLL(str(path))
        except OSError as e:  # of another machine: built again, once
            reason = f"the compiled kernels {path} do not load ({e})."
            if attempt is build:
                with contextlib.suppress(OSError):
                    path.unlink()
    return reason


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
