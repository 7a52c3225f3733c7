"""The adapter to gsplat asks for the right thing and reads the answer rightly.

Without a CUDA device, stand-ins take gsplat's place: they have the keywords and the layouts that gsplat 1.5.3 and its
main branch document, and draw with the reference.
"""

import importlib.abc
import sys
import types

import oracles
import pytest
import torch

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.slots import Rasterizer, RasterSettings
from splat.raster.gsplat import Gsplat
from splat.raster.reference import Reference

BACKGROUND = torch.tensor([0.1, 0.5, 0.9])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(means, quats, scales, opacities, colors, viewmats, Ks, width, height, backgrounds, absgrad, **options):
    """Of one camera: channels and depth [h w 4], or more where colours are plain channels instead of harmonics, alpha
    [h w], centres [n 2] inside the graph, whose `absolute()` are the absolute sums once backward has come by, and radii
    [n]."""
    assert all(t.isfinite().all() for t in (means, quats, scales, colors)) and len(viewmats) == len(Ks) == 1
    k = Ks[0].tolist()
    camera = Camera(k[0][0], k[1][1], k[0][2], k[1][2], width, height)
    plain = colors.ndim == 2
    sh, features = (rgb_to_sh(colors[:, :3]), colors[:, 3:]) if plain else (colors, None)
    g = Gaussians(means, quats, scales.log(), torch.logit(opacities), sh)
    settings = RasterSettings(absgrad=absgrad, **options)
    image = Reference()(g, camera, viewmats[0], backgrounds[0, :3], settings, features)
    assert not backgrounds[0, 3:].any() and backgrounds.shape[1] == (colors.shape[1] if plain else 3)
    extra = [] if image.features is None else [image.features]
    return torch.cat([image.rgb, *extra, image.depth[..., None]], -1), image


def inside_the_graph(image, shape, tell):
    """gsplat's own means2d is not a leaf: a tensor whose hooks are called in backward with the gradient of centres."""
    if not image.means2d.requires_grad:
        return image.means2d.reshape(shape)
    inner = image.means2d.detach().reshape(shape).clone().requires_grad_() + 0
    inner.register_hook(lambda gradient: tell(inner))
    image.means2d.register_hook(lambda gradient: inner.backward(gradient.reshape(shape)))
    return inner


def released(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=0.01, far_plane=1e10,
    radius_clip=0.0, eps2d=0.3, sh_degree=None, packed=True, tile_size=16, backgrounds=None, render_mode="RGB",
    sparse_grad=False, absgrad=False, rasterize_mode="classic", channel_chunk=32, distributed=False,
    camera_model="pinhole", segmented=False, covars=None, with_ut=False, with_eval3d=False,
):  # fmt: skip
    """gsplat.rasterization, 1.5.3, with packed=False."""
    assert not packed and render_mode == "RGB+D" and eps2d == 0.3
    assert colors.ndim == 2 if sh_degree is None else colors.shape[1] == (sh_degree + 1) ** 2
    assert colors.ndim > 2 or colors.shape[1] + 1 <= channel_chunk or not absgrad
    colours, image = drawn(
        *(means, quats, scales, opacities, colors, viewmats, Ks, width, height, backgrounds, absgrad),
        mode=rasterize_mode, near=near_plane,
    )  # fmt: skip
    n = len(means)

    def tell(inner):
        if absgrad:
            inner.absgrad = image.absgrad[None]

    radii = image.radii[None, :, None].expand(1, -1, 2).int()
    return (
        colours[None],
        image.alpha[None, ..., None],
        {"means2d": inside_the_graph(image, (1, n, 2), tell), "radii": radii},
    )


def main_branch(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *, near_plane=0.01, far_plane=1e10,
    radius_clip=0.0, eps2d=0.3, sh_degree=None, packed=True, tile_size=16, backgrounds=None, render_mode="RGB",
    sparse_grad=False, absgrad=False, rasterize_mode="classic", extra_signals=None, **others,
):  # fmt: skip
    """Main, 1.6: options by keyword, batch dimensions before the cameras, radii that differ by axis."""
    assert not packed and render_mode == "RGB+D" and not others and (sh_degree is None) == (colors.ndim == 2)
    colours, image = drawn(
        *(means, quats, scales, opacities, colors, viewmats, Ks, width, height, backgrounds, absgrad),
        mode=rasterize_mode, near=near_plane,
    )  # fmt: skip
    n = len(means)

    def tell(inner):
        if absgrad:
            inner.absgrad = image.absgrad[None, None]

    radii = torch.stack([image.radii, image.radii // 2], -1)[None, None].int()
    meta = {"means2d": inside_the_graph(image, (1, 1, n, 2), tell), "radii": radii}
    return colours[None, None], image.alpha[None, None, ..., None], meta


@pytest.fixture(params=[released, main_branch])
def pretend(request, monkeypatch):
    module = types.ModuleType("gsplat")
    module.rasterization = request.param  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", module)


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("degree", [0, 2])
@pytest.mark.parametrize("channels,normals", [(0, False), (5, False), (0, True), (2, True)])
def test_the_adapter_draws_what_the_reference_draws(pretend, mode, degree, channels, normals):
    camera, pose = oracles.random_camera(), oracles.random_pose(seeded(1))
    settings = RasterSettings(mode=mode, sh_degree=degree, absgrad=True, near=0.5, normals=normals)
    given = torch.randn(40, channels, generator=seeded(2)) if channels else None
    g = oracles.random_gaussians(40, seeded(0), sh_degree=2, dtype=torch.float32)
    g.means[7, 1] = float("nan")
    g.quats_wxyz[9] = 0
    results = []
    for rasterizer in (Gsplat(), Reference()):
        rows, view = oracles.leaves(g), pose.clone().requires_grad_()
        background = BACKGROUND.clone().requires_grad_()
        features = None if given is None else given.clone().requires_grad_()
        image = rasterizer(rows, camera, view, background, settings, features)
        extra = [t for t in (image.normals, image.features) if t is not None]
        assert len(extra) == normals + (channels > 0)
        (sum((t**2).sum() for t in [image.rgb, *extra]) + image.alpha.sum() + image.depth.sum()).backward()
        grads = [view.grad, background.grad] + ([] if features is None else [features.grad])
        results.append((image, rows, *grads))
    (a, rows_a, *grads_a), (b, rows_b, *grads_b) = results
    for name in ("rgb", "alpha", "depth", "radii", "means2d", "absgrad"):
        assert torch.allclose(getattr(a, name), getattr(b, name).to(getattr(a, name).dtype), atol=1e-5), name
    for x, y in ((a.normals, b.normals), (a.features, b.features)):
        assert (x is None and y is None) or torch.allclose(x, y, atol=1e-5)
    assert a.means2d.grad is not None and torch.allclose(a.means2d.grad, b.means2d.grad, atol=1e-4)
    for name, t in oracles.fields(rows_b).items():
        assert oracles.relative_error(oracles.fields(rows_a)[name].grad, t.grad) < 1e-4, name
    for x, y in zip(grads_a, grads_b):
        assert oracles.relative_error(x, y) < 1e-4


def test_absolute_gradients_over_more_channels_than_gsplat_takes_at_once_are_refused(pretend):
    g = oracles.random_gaussians(5, seeded(0), dtype=torch.float32)
    scene = oracles.random_camera(), oracles.random_pose(seeded(1)), BACKGROUND
    features = torch.zeros(5, 29)
    assert Gsplat()(g, *scene, RasterSettings(), features).features.shape[2] == 29
    assert Gsplat()(g, *scene, RasterSettings(absgrad=True), features[:, :28]).features.shape[2] == 28
    with pytest.raises(SplatError, match="29 extra channels"):
        Gsplat()(g, *scene, RasterSettings(absgrad=True), features)


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


class _NoGsplat(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] != "gsplat", "gsplat was imported"


def test_without_a_cuda_device_gsplat_is_never_imported(monkeypatch):
    """Main compiles, or raises, on import where there is an nvcc and no CUDA in torch."""
    from splat.raster import choose, reasons

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delitem(sys.modules, "gsplat", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_NoGsplat(), *sys.meta_path])
    for device in ("cpu", "cuda"):
        assert reasons(device)["gsplat"]
        assert choose(device).name != "gsplat"


def test_a_gsplat_that_cannot_be_used_is_told_from_one_that_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    broken = types.ModuleType("gsplat")
    monkeypatch.setitem(sys.modules, "gsplat", broken)
    reason = Gsplat().unavailable(torch.device("cuda"))
    assert reason is not None and "no rasterization()" in reason
    broken.rasterization = lambda means, quats: None  # type: ignore[attr-defined]
    reason = Gsplat().unavailable(torch.device("cuda"))
    assert reason is not None and "takes no scales" in reason

    class Unbuilt(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "gsplat":
                raise ImportError("gsplat_cuda.so: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "gsplat")
    monkeypatch.setattr(sys, "meta_path", [Unbuilt(), *sys.meta_path])
    reason = Gsplat().unavailable(torch.device("cuda"))
    assert reason is not None and "cannot be imported" in reason and "gsplat_cuda.so" in reason


def test_a_gsplat_without_gradients_of_centres_is_refused(monkeypatch):
    """Density control would silently do nothing."""

    def detached(*args, **kwargs):
        colours, alpha, meta = released(*args, **kwargs)
        return colours, alpha, meta | {"means2d": meta["means2d"].detach()}

    module = types.ModuleType("gsplat")
    module.rasterization = detached  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", module)
    g = oracles.random_gaussians(5, seeded(0), dtype=torch.float32)
    scene = oracles.random_camera(), oracles.random_pose(seeded(1)), BACKGROUND, RasterSettings()
    with torch.no_grad():
        Gsplat()(g, *scene)
    with pytest.raises(SplatError, match="raster native"):
        Gsplat()(oracles.leaves(g), *scene)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_gsplat_agrees_with_the_reference_on_a_gpu(mode):
    reason = Gsplat().unavailable(torch.device("cuda"))
    if reason is not None:
        pytest.skip(reason)
    camera, pose = oracles.random_camera(64, 48, 60.0), oracles.random_pose(seeded(1)).cuda()
    g = oracles.random_gaussians(200, seeded(0), sh_degree=3, dtype=torch.float32).to("cuda")
    settings, features = RasterSettings(mode=mode, normals=True), torch.randn(200, 40, generator=seeded(2)).cuda()
    results = []
    for rasterizer in (Gsplat(), Reference()):
        rows = oracles.leaves(g)
        image = rasterizer(rows, camera, pose, BACKGROUND.cuda(), settings, features)
        ((image.rgb**2).sum() + image.normals.sum() + image.features.sum()).backward()
        results.append((image, rows))
    (a, rows_a), (b, rows_b) = results
    assert torch.allclose(a.rgb, b.rgb, atol=1e-3) and torch.allclose(a.depth, b.depth, atol=1e-2)
    assert torch.allclose(a.normals, b.normals, atol=1e-2) and torch.allclose(a.features, b.features, atol=1e-2)
    plain = Gsplat()(g, camera, pose, BACKGROUND.cuda(), RasterSettings(mode=mode))
    assert torch.allclose(a.rgb, plain.rgb, atol=1e-5) and torch.allclose(a.depth, plain.depth, atol=1e-5)
    for name, t in oracles.fields(rows_b).items():
        assert oracles.relative_error(oracles.fields(rows_a)[name].grad, t.grad) < 1e-2, name
    assert oracles.relative_error(a.means2d.grad, b.means2d.grad) < 1e-2
