"""Cores and memory of this machine, as far as this process may use them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from splat.native import build

MAX_SHARE = 0.85
"""Of the memory that is free, what a run takes."""
_limit: float | None = None
"""Bytes that this process may fill in all: what was given with --memory."""


def limit_memory(gigabytes: float | None) -> None:
    """From now on this process is to fill no more than that in all; None: what is free, less a reserve."""
    global _limit
    _limit = None if gigabytes is None else 1e9 * gigabytes


def spare_bytes() -> float | None:
    """What this process may still fill, of its limit or of what is free; None where nobody knows."""
    resident, free = resident_memory_mb(), available_memory_gb()
    if _limit is not None and resident is not None:
        return max(0.0, _limit - resident * 2**20)
    return _limit if _limit is not None else None if free is None else 1e9 * MAX_SHARE * free


def threads_that_fit(threads: int, bytes_each: float) -> int:
    """At most `threads`, as many as have `bytes_each` of memory; at least one."""
    spare = spare_bytes()
    return max(1, threads if spare is None else min(threads, int(spare / max(1.0, bytes_each))))


_OUT_OF_MEMORY = (
    *("allocate memory", "not enough memory", "bad_alloc", "insufficient memory", "out of memory"),
    *("failed to map segment", "can't start new thread", "resource temporarily unavailable"),
)
"""What Python, torch, OpenCV, C++ libraries, and the loader of libraries say where memory or address space is spent."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


def available_cores() -> int:
    """As many as this process may run on, and no more than SPLAT_CORES says."""
    given = os.environ.get("SPLAT_CORES", "")
    there = _cores()
    return max(1, min(there, int(given))) if given.isdecimal() else there


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def available_memory_gb() -> float | None:
    """Memory this process may still take: what is free, within the limits of its control groups (of both versions, and
    of the groups around them) and of `ulimit -v` and `-d`; None where the system does not say."""
    bounds = [_free_bytes(), *_cgroup_bytes(), *_rlimit_bytes()]
    known = [b for b in bounds if b is not None]
    return max(0.0, min(known) / 1e9) if known else None


def limited_memory() -> bool:
    """Whether this process has less memory than is free in the machine: a control group or `ulimit -v`."""
    free = _free_bytes()
    return any(b < (free or float("inf")) for b in [*_cgroup_bytes(), *_rlimit_bytes()])


def _free_bytes() -> float | None:
    try:
        for line in _PROC.joinpath("meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as nearly 2^63."""
_ADDRESS_OVERHEAD, _ADDRESSES_PER_CORE = 0.2e9, 0.1e9
"""Of address space that libraries and threads (stacks, heaps) map while a run works, beyond what they fill: 0.17 GB on
two cores."""


def _cgroup_bytes() -> list[float]:
    """What each control group that this process is in, and each around it, leaves."""
    try:
        lines = _PROC.joinpath("self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, limit, used = _CGROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = _CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        here = root / path.lstrip("/")
        # inside a container the path may be the host's: then the root of what is mounted is the group itself
        for folder in dict.fromkeys([here, *here.parents, root]):
            if folder.is_relative_to(root) and (found := _left(folder, limit, used)) is not None:
                left.append(found)
    return left


def _left(folder: Path, limit: str, used: str) -> float | None:
    try:
        text = (folder / limit).read_text().strip()
        if text == "max" or int(text) >= _UNLIMITED:
            return None
        taken = int((folder / used).read_text())
        # pages of files count as used, but are given up where memory is needed
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in {"inactive_file", "total_inactive_file"}:
                taken -= int(value)
                break
        return float(int(text) - max(taken, 0))
    except (OSError, ValueError):
        return None


def _rlimit_bytes() -> list[float]:
    """What `ulimit -v` (address space) and `-d` (data) leave."""
    try:
        import resource
    except ImportError:
        return []
    mapped = {"VmSize": 0.0, "VmData": 0.0}
    try:
        for line in _PROC.joinpath("self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in mapped:
                mapped[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError):
        return []
    left = []
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft = resource.getrlimit(limit)[0]
        if soft not in (-1, resource.RLIM_INFINITY):
            left.append(soft - mapped[name] - _ADDRESS_OVERHEAD - available_cores() * _ADDRESSES_PER_CORE)
    return left


_highest = 0.0


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, also of the times before `stage_peak_mb` began to count anew."""
    global _highest
    _highest = max(_highest, _peak_mb())
    return _highest


def stage_peak_mb() -> float:
    """Peak resident memory since the last call; gives freed memory back and begins anew (Linux; elsewhere since the
    process began)."""
    found = _peak_mb()
    peak_memory_mb()
    build.release_freed_memory()
    with suppress(OSError):
        _PROC.joinpath("self/clear_refs").write_text("5")  # the peak becomes what is resident now
    return found


def _peak_mb() -> float:
    try:
        for line in _PROC.joinpath("self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if os.uname().sysname != "Darwin" else peak / 1024**2


def resident_memory_mb() -> float | None:
    """Memory that this process fills now; None where the system does not say."""
    try:
        pages = int(_PROC.joinpath("self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError):
        return None
