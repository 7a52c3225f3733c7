"""The GPU's kernels compile wherever there is nvcc, with the names of `kernels.h`; on a GPU they meet the CPU's tests.

Where there is no GPU the same code runs on an emulated one: tests/*/test_cuda_*.py."""

import ctypes
import re
import shutil
import subprocess

import pytest
import torch

from splat.native import bindings, build, build_cuda
from splat.native.ops import AdamTensor, fused_adam, gather, torch_adam

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def path():
    if build_cuda.nvcc() is None:
        pytest.skip("no nvcc on PATH")
    return build_cuda.build(build_cuda.RELEASED)


def test_every_function_of_the_header_is_there_for_both_processors(path):
    names = set(re.findall(r"\bsplat_\w+(?=\()", (build.HERE / "kernels.h").read_text()))
    assert {*bindings.KERNELS, *bindings.QUERIES} <= names
    for library in (ctypes.CDLL(str(path)), build.load()):
        assert [name for name in sorted(names) if not hasattr(library, name)] == []


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf")
def test_it_links_to_neither_torch_nor_python_nor_a_driver(path):
    listed = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(.+?)\]", listed)
    assert needed and all(name.startswith(("libc.", "libm.", "libgcc_s.", "libstdc++.", "ld-")) for name in needed)


def test_it_refuses_what_the_cpu_refuses_before_it_looks_for_a_gpu(path):
    library = ctypes.CDLL(str(path))
    library.splat_last_error.restype = ctypes.c_char_p
    i, l, d, p = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    library.splat_adam.argtypes = [i, l, p, p, p, p, d, d, d, p]
    table = bindings.int64s([0] * 7)
    assert library.splat_adam(1, -4, None, None, table, None, 0.9, 0.999, 1e-15, None) == 1
    assert b"-4 rows" in library.splat_last_error()
    assert library.splat_adam(17, 4, None, None, table, None, 0.9, 0.999, 1e-15, None) == 1
    assert b"1 to 16 tensors" in library.splat_last_error()
    if not torch.cuda.is_available():
        assert library.splat_adam(1, 4, None, None, table, None, 0.9, 0.999, 1e-15, None) == 1
        assert b"splat_adam" in library.splat_last_error()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nvcc_alone_starts_nothing(monkeypatch):
    monkeypatch.setattr(build_cuda, "build", lambda *_: pytest.fail("it compiled for a GPU that is not there"))
    build_cuda._load.cache_clear()
    assert "CUDA" in (build_cuda.unavailable() or "")


def test_tensors_on_different_devices_are_refused():
    count, meta = bindings.int64s([0]), torch.zeros(4, 3, device="meta")
    workspace = torch.empty(4, dtype=torch.uint8)
    view = (torch.eye(4), torch.tensor([10.0, 10.0, 5.0, 5.0]), 10, 10, 0.01)
    ids = torch.empty(4, dtype=torch.int64)
    with pytest.raises(TypeError, match="is on meta, where it cannot be used"):
        bindings.call("splat_visible", 4, meta, torch.zeros(4, 3), torch.zeros(4), *view, ids, count, workspace)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("sparse", [False, True])
def test_tables_of_addresses_work_on_the_gpu(sparse):
    n = 5000
    ids = torch.randperm(n)[:2000].sort().values.cuda() if sparse else None
    start = [torch.randn(n, *s).cuda() for s in ((3,), (4,), (), (16, 3))]
    gradients = [torch.randn(n if ids is None else len(ids), *t.shape[1:]).cuda() for t in start]
    results = []
    for step in (fused_adam, lambda t, s, i: torch_adam(t, s, i, 0.9, 0.999, 1e-15)):
        p, m, v = [t.clone() for t in start], [t * 0 for t in start], [t * 0 for t in start]
        step([AdamTensor(*x, 0.01) for x in zip(p, gradients, m, v, strict=True)], 3, ids)
        results.append([*p, *m, *v])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-6, rtol=1e-5)
    chosen = torch.arange(0, n, 3, device="cuda")
    for a, t in zip(gather(start, chosen), start, strict=True):
        assert torch.equal(a, t[chosen])
