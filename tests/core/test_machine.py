"""What this process may still take, whoever limits it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from splat.core import machine

GB = 10**9


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str]) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 1 kB\nMemAvailable: 20000000 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")


STAT = "anon 5\ninactive_file 1000000000\n"


@pytest.mark.parametrize("where", ["", "user.slice/", "user.slice/app/"])
def test_the_tightest_group_of_version_2_counts_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    files = {f"{where}memory.max": str(3 * GB), f"{where}memory.current": str(2 * GB), f"{where}memory.stat": STAT}
    fake(tmp_path, monkeypatch, "0::/user.slice/app\n", files | {"x/memory.max": "max"})
    assert machine.available_memory_gb() == pytest.approx(2.0), "pages of files are given up"
    assert machine.limited_memory()


def test_groups_of_version_1_are_read_also_at_the_root_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "memory/memory.limit_in_bytes": str(3 * GB),
        "memory/memory.usage_in_bytes": str(1 * GB),
        "memory/memory.stat": "total_inactive_file 0\n",
    }
    fake(tmp_path, monkeypatch, "4:memory:/docker/abc\n1:cpu:/\n0::/\n", files)
    assert machine.available_memory_gb() == pytest.approx(2.0)


def test_no_limit_is_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1"}
    fake(tmp_path, monkeypatch, "4:memory:/\n", files)
    assert machine.available_memory_gb() == pytest.approx(20.48) and not machine.limited_memory()


def test_a_limit_on_the_address_space_counts() -> None:
    code = "from splat.core.machine import available_memory_gb as a, limited_memory as l; print(a(), l())"
    limit = 6 * 2**30
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    free, limited = done.stdout.split()
    assert 2 < float(free) < 6.2 and limited == "True"


def test_each_stage_has_its_own_peak_and_the_run_the_highest() -> None:
    machine.stage_peak_mb()
    block = np.ones(40_000_000, np.uint8)
    first = machine.stage_peak_mb()
    del block
    machine.stage_peak_mb()
    second = machine.stage_peak_mb()
    assert first - second == pytest.approx(38, abs=8) and machine.peak_memory_mb() >= first


def test_what_was_given_is_what_threads_are_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_limit", None)
    monkeypatch.setattr(machine, "resident_memory_mb", lambda: 1000.0)
    monkeypatch.setattr(machine, "available_memory_gb", lambda: 10.0)
    assert machine.threads_that_fit(8, 1e9) == 8 and machine.threads_that_fit(8, 3e9) == 2
    machine.limit_memory(3.0)
    assert machine.threads_that_fit(8, 0.5e9) == 3, "of 3 GB, what is filled already does not count"
    assert machine.threads_that_fit(8, 5e9) == machine.threads_that_fit(8, 0.0 + 1e12) == 1
    machine.limit_memory(None)
    monkeypatch.setattr(machine, "available_memory_gb", lambda: None)
    assert machine.threads_that_fit(8, 1e12) == 8


@pytest.mark.parametrize(
    "text", ["libtorch_cpu.so: failed to map segment from shared object", "std::bad_alloc", "Out of memory"]
)
def test_libraries_that_cannot_be_loaded_for_want_of_memory_are_recognized(text: str) -> None:
    assert machine.is_out_of_memory(ImportError(text)) and not machine.is_out_of_memory(ImportError("no module x"))
