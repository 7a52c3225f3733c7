"""Cores and memory of this machine, as far as this process may use them."""

from __future__ import annotations

import os
from pathlib import Path


def available_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def available_memory_gb() -> float | None:
    """Memory this process may still take, cgroup limits included; None where the system does not say."""
    best: float | None = None
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                best = int(line.split()[1]) * 1024 / 1e9
    except OSError:
        pass
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        text = limit.read_text().strip()
        if text != "max":
            left = (int(text) - int(used.read_text())) / 1e9
            best = left if best is None else min(best, left)
    except (OSError, ValueError):
        pass
    return best


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if os.uname().sysname != "Darwin" else peak / 1024**2
