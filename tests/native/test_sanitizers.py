"""The rasterizer's kernels neither race nor leave their buffers, and every instruction set draws the same."""

import ctypes
import platform
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch

from splat.core.slots import RasterSettings
from splat.native import bindings, build
from splat.raster.native import Native

pytestmark = [pytest.mark.slow, pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")]
KERNELS = [
    *("pool", "project", "project_backward", "bin", "blend", "blend_backward"),
    *("ssim", "stereo", "depths", "rows", "adam", "adam_harmonics"),
]


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
@pytest.mark.parametrize("machine", ["native", "x86-64-v3"])
def test_no_race_and_no_access_out_of_bounds(sanitizer, machine, tmp_path):
    if machine != "native" and platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("an x86 instruction set")
    compiler = shlex.split(build.compiler() or "")
    flags = [*build.FLAGS, f"-march={machine}", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    sources = [str(build.HERE / "cpu" / f"{name}.cpp") for name in KERNELS]
    program = str(tmp_path / "sanitize")
    made = subprocess.run(
        [*compiler, *flags, *sources, str(Path(__file__).with_name("sanitize.cpp")), "-o", program],
        capture_output=True,
        text=True,
    )
    if "cannot find" in made.stderr:
        pytest.skip("the sanitizer's library is not installed")
    assert made.returncode == 0, made.stderr
    ran = subprocess.run([program], capture_output=True, text=True, timeout=600)
    if "unexpected memory mapping" in ran.stderr:
        ran = subprocess.run(["setarch", "-R", program], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, f"exit code {ran.returncode}\n{ran.stderr[-4000:]}"


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="x86 instruction sets")
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set_draws_the_same(level, monkeypatch):
    if level == "x86-64-v4" and "avx512vl" not in build.cpu_model():
        pytest.skip("this CPU has no AVX-512")

    def everything() -> list[torch.Tensor]:
        rng = torch.Generator().manual_seed(0)
        g = oracles.leaves(oracles.random_gaussians(600, rng, 3, 0.1, torch.float32))
        camera, pose = oracles.random_camera(101, 67, 70.0), oracles.random_pose(rng).requires_grad_()
        features = torch.randn(600, 6, generator=rng).requires_grad_()
        drawing = RasterSettings(mode="antialiased", absgrad=True)
        r = Native()(g, camera, pose, torch.ones(3), drawing)
        ids = Native().visible(g, camera, pose, RasterSettings())
        (r.rgb * torch.randn(r.rgb.shape, generator=rng)).sum().backward()
        grads = [t.grad.clone() for t in oracles.fields(g).values() if t.grad is not None]
        grads.append(pose.grad.clone())
        fuller = Native()(g, camera, pose, torch.ones(3), replace(drawing, normals=True), features)
        assert fuller.normals is not None and fuller.features is not None
        channels = torch.cat([fuller.normals, fuller.features], -1)
        (channels * torch.randn(channels.shape, generator=rng)).sum().backward()
        grads += [features.grad, *(t.grad for t in oracles.fields(g).values())]
        return [r.rgb, r.alpha, r.depth, r.radii, ids, r.means2d.grad, r.absgrad, channels, *grads]

    expected = everything()
    other = ctypes.CDLL(str(build.build(machine_flags=[f"-march={level}"])))
    assert other._name != build.load()._name
    monkeypatch.setattr(build, "load", lambda: other)
    bindings._function.cache_clear()
    bindings._query.cache_clear()
    try:
        found = everything()
    finally:
        bindings._function.cache_clear()
        bindings._query.cache_clear()
    for a, b in zip(expected, found):
        assert oracles.relative_error(b, a) < 1e-4
