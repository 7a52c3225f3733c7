"""The adapter to gsplat asks for the right thing and reads the answer rightly.

Without a CUDA device, a stand-in takes gsplat's place: it has the keywords and the layouts that gsplat 1.5.3 documents,
and draws with the reference.
"""

import sys
import types

import oracles
import pytest
import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import Rasterizer, RasterSettings
from splat.raster.gsplat import Gsplat
from splat.raster.reference import Reference

BACKGROUND = torch.tensor([0.1, 0.5, 0.9])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stand_in(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=0.01, far_plane=1e10,
    radius_clip=0.0, eps2d=0.3, sh_degree=None, packed=True, tile_size=16, backgrounds=None, render_mode="RGB",
    sparse_grad=False, absgrad=False, rasterize_mode="classic",
):  # fmt: skip
    """gsplat.rasterization, 1.5.3, for one camera and packed=False."""
    assert not packed and render_mode == "RGB+D" and eps2d == 0.3 and len(viewmats) == len(Ks) == 1
    assert colors.shape[1] == (sh_degree + 1) ** 2 and all(t.isfinite().all() for t in (means, quats, scales, colors))
    k = Ks[0].tolist()
    camera = Camera(k[0][0], k[1][1], k[0][2], k[1][2], width, height)
    g = Gaussians(means, quats, scales.log(), torch.logit(opacities), colors)
    settings = RasterSettings(mode=rasterize_mode, near=near_plane, absgrad=absgrad)
    image = Reference()(g, camera, viewmats[0], backgrounds[0], settings)
    inner = image.means2d[None]
    if inner.requires_grad:  # gsplat's own means2d is [1 n 2] and inside the graph
        inner = inner.detach().clone().requires_grad_() + 0
        outer = inner

        def forward_gradient(gradient):
            outer.absgrad = image.absgrad[None]

        inner.register_hook(forward_gradient)
        image.means2d.register_hook(lambda gradient: inner.backward(gradient[None]))
    radii = image.radii[None, :, None].expand(1, -1, 2).int()
    colours = torch.cat([image.rgb, image.depth[..., None]], -1)[None]
    return colours, image.alpha[None, ..., None], {"means2d": inner, "radii": radii}


@pytest.fixture
def pretend(monkeypatch):
    module = types.ModuleType("gsplat")
    module.rasterization = stand_in  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", module)


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("degree", [0, 2])
def test_the_adapter_draws_what_the_reference_draws(pretend, mode, degree):
    camera, pose = oracles.random_camera(), oracles.random_pose(seeded(1))
    settings = RasterSettings(mode=mode, sh_degree=degree, absgrad=True, near=0.5)
    g = oracles.random_gaussians(40, seeded(0), sh_degree=2, dtype=torch.float32)
    g.means[7, 1] = float("nan")
    g.quats_wxyz[9] = 0
    results = []
    for rasterizer in (Gsplat(), Reference()):
        rows, view = oracles.leaves(g), pose.clone().requires_grad_()
        background = BACKGROUND.clone().requires_grad_()
        image = rasterizer(rows, camera, view, background, settings)
        ((image.rgb**2).sum() + image.alpha.sum() + image.depth.sum()).backward()
        results.append((image, rows, view.grad, background.grad))
    (a, rows_a, *grads_a), (b, rows_b, *grads_b) = results
    for name in ("rgb", "alpha", "depth", "radii", "means2d", "absgrad"):
        assert torch.allclose(getattr(a, name), getattr(b, name).to(getattr(a, name).dtype), atol=1e-5), name
    assert a.means2d.grad is not None and torch.allclose(a.means2d.grad, b.means2d.grad, atol=1e-4)
    for name, t in oracles.fields(rows_b).items():
        assert oracles.relative_error(oracles.fields(rows_a)[name].grad, t.grad) < 1e-4, name
    for x, y in zip(grads_a, grads_b):
        assert oracles.relative_error(x, y) < 1e-4


def test_it_says_what_is_missing_without_importing_gsplat(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)  # an import would raise
    reason = Gsplat().unavailable(torch.device("cpu"))
    assert reason is not None and "CUDA devices only" in reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = Gsplat().unavailable(torch.device("cuda"))
    assert reason is not None and "pip install" in reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in (Gsplat().unavailable(torch.device("cuda")) or "")
    assert isinstance(Gsplat(), Rasterizer)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_gsplat_agrees_with_the_reference_on_a_gpu(mode):
    reason = Gsplat().unavailable(torch.device("cuda"))
    if reason is not None:
        pytest.skip(reason)
    camera, pose = oracles.random_camera(64, 48, 60.0), oracles.random_pose(seeded(1)).cuda()
    g = oracles.random_gaussians(200, seeded(0), sh_degree=3, dtype=torch.float32).to("cuda")
    settings = RasterSettings(mode=mode)
    results = []
    for rasterizer in (Gsplat(), Reference()):
        rows = oracles.leaves(g)
        image = rasterizer(rows, camera, pose, BACKGROUND.cuda(), settings)
        (image.rgb**2).sum().backward()
        results.append((image, rows))
    (a, rows_a), (b, rows_b) = results
    assert torch.allclose(a.rgb, b.rgb, atol=1e-3) and torch.allclose(a.depth, b.depth, atol=1e-2)
    for name, t in oracles.fields(rows_b).items():
        assert oracles.relative_error(oracles.fields(rows_a)[name].grad, t.grad) < 1e-2, name
    assert oracles.relative_error(a.means2d.grad, b.means2d.grad) < 1e-2
