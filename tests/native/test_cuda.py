"""The GPU's kernels compile wherever there is nvcc, with the names of `kernels.h`; on a GPU they agree with torch."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from splat.native.bindings import KERNELS
from splat.native.ops import AdamTensor, torch_adam

ROOT = Path(__file__).resolve().parents[2]
NVCC = shutil.which("nvcc")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    if NVCC is None:
        pytest.skip("no nvcc on PATH")
    path = tmp_path_factory.mktemp("cuda") / "libsplat_cuda.so"
    architectures = ["arch=compute_80,code=sm_80", "arch=compute_90,code=[sm_90,compute_90]"]
    command = [NVCC, "-shared", "-Xcompiler", "-fPIC", "-std=c++17", "-O3", "-t", "2", "-o", str(path)]
    command += [word for a in architectures for word in ("-gencode", a)]
    done = subprocess.run(
        [*command, *map(str, sorted((ROOT / "cuda").glob("*.cu")))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    loaded = ctypes.CDLL(str(path))
    loaded.splat_last_error.restype = ctypes.c_char_p
    return loaded


def adam(library: ctypes.CDLL, tensors: list[AdamTensor], step: int, ids: torch.Tensor | None = None) -> int:
    """Call the kernel as `splat.native.ops` calls the CPU's."""
    assert KERNELS["splat_adam"] == "ilLLDlddd"
    table = []
    for t in tensors:
        row = t.parameter[0].numel()
        begin, end, _ = slice(*t.columns).indices(row)
        four = (t.parameter, t.gradient, t.first_moment, t.second_moment)
        table.append([*(x.data_ptr() + 4 * begin for x in four), end - begin, row, t.gradient[0].numel()])
    numbers, rates = torch.tensor(table), torch.tensor([t.rate for t in tensors], dtype=torch.float64)
    i, l, d, p = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    library.splat_adam.argtypes = [i, l, p, p, p, l, d, d, d, p]
    stream = torch.cuda.current_stream().cuda_stream if torch.cuda.is_available() else None
    return library.splat_adam(
        len(tensors), len(tensors[0].gradient), None if ids is None else ids.data_ptr(), numbers.data_ptr(),
        rates.data_ptr(), step, 0.9, 0.999, 1e-15, stream,
    )  # fmt: skip


def test_it_compiles_and_refuses_what_the_cpu_refuses(library):
    p = torch.zeros(4, 3)
    assert adam(library, [AdamTensor(p, p, p, p, 0.1)], step=0) == 1
    assert b"count from 1" in library.splat_last_error()
    assert adam(library, [AdamTensor(p, p, p, p, 0.1)] * 17, step=1) == 1
    assert b"1 to 16 tensors" in library.splat_last_error()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(library):
    p = torch.zeros(4, 3)
    assert adam(library, [AdamTensor(p, p, p, p, 0.1)], step=1) == 1
    assert b"splat_adam" in library.splat_last_error() and not p.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("sparse", [False, True])
def test_steps_are_those_of_torch(library, sparse):
    n = 5000
    ids = torch.randperm(n)[:2000].sort().values.cuda() if sparse else None
    shapes = [(3,), (4,), (), (16, 3), (16, 3)]
    columns = [(0, None), (0, None), (0, None), (0, 3), (3, None)]
    start = [torch.randn(n, *s).cuda() for s in shapes[:4]]
    start.append(start[3])
    states = []
    for run in (lambda t, s: adam(library, t, s, ids), lambda t, s: torch_adam(t, s, ids, 0.9, 0.999, 1e-15)):
        torch.manual_seed(1)
        p = [x.clone() for x in start[:4]]
        p.append(p[3])
        moments = [[torch.zeros_like(x) for x in p[:4]] for _ in range(2)]
        for m in moments:
            m.append(m[3])
        for step in range(1, 4):
            g = [torch.randn(n if ids is None else len(ids), *s).cuda() for s in shapes[:4]]
            g[0][3, 1] = float("nan")
            g.append(g[3])
            assert not run([AdamTensor(*x, 0.01, c) for *x, c in zip(p, g, *moments, columns)], step)
        torch.cuda.synchronize()
        states.append([*p, *moments[0], *moments[1]])
    for a, b in zip(*states):
        assert torch.allclose(a, b, atol=1e-6, rtol=1e-5)
