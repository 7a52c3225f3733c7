"""The GPU's bench runs from end to end on the emulated GPU: who is lent a real one must not find it broken."""

import sys

import emulated
import pytest
import torch
from recorder import CpuRecorder, kept
from scripted import SCRIPTS, script

from splat.core import devices
from splat.native import build, build_cuda

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


class Properties:
    name, multi_processor_count = "an emulated GPU", 1


def test_it_checks_times_and_prints_a_table(monkeypatch, capsys):
    sys.path.insert(0, str(SCRIPTS))  # it imports its neighbours
    bench = script("bench_gpu")
    monkeypatch.setattr(bench, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(bench, "SIZE", (48, 32))
    monkeypatch.setattr(bench, "CHECKED", (200, 40, 30))
    monkeypatch.setattr(bench, "TRAINED", (20, 20))
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--quick", "--only", "400"])
    monkeypatch.setattr(build_cuda, "unavailable", lambda: None)
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    for name in ("max_memory_allocated", "max_memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, lambda: 10**6)
    monkeypatch.setattr(devices, "is_asynchronous", lambda device: True)
    monkeypatch.setattr(bench.Native, "culls", lambda self, device: True)
    monkeypatch.setattr(bench, "RECORDER", lambda t: CpuRecorder(lambda: kept(t)))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties())
    with emulated.kernels():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        bench.main()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    printed = capsys.readouterr().out
    assert "against the reference: image" in printed and "against the CPU kernels" in printed
    assert printed.count("bit for bit") == 2 and "graph, ms" in printed
    assert printed.count("| synthetic 0k |") == 1 and printed.count("| trained 0k |") == 1
