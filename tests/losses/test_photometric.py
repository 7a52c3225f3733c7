"""The compiled photometric loss is `core.metrics.ssim_map` and an L1 distance, and its gradient is autograd's."""

import oracles
import pytest
import torch

from splat.core.metrics import ssim_map
from splat.losses.photometric import photometric, torch_photometric
from splat.native import bindings, build

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")
SHAPES = [(40, 33, 3), (64, 48, 3), (130, 70, 3), (7, 5, 3), (1, 1, 3), (23, 100, 1), (12, 19, 4)]


def images(shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(shape, generator=rng)
    target = (image + 0.3 * torch.randn(shape, generator=rng)).clamp(0, 1)
    return image, (255 * target).round().to(torch.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["bytes", "floats", "weighted"])
def test_value_and_gradient_agree_with_double_precision(shape, kind):
    image, target = images(shape)
    weight = None
    if kind == "weighted":
        weight = torch.randint(0, 256, shape[:2], dtype=torch.uint8)
        weight[torch.rand(shape[:2]) < 0.3] = 0
    if kind == "floats":
        target = target / 255
    exact = image.double().requires_grad_()
    image.requires_grad_()
    truth = torch_photometric(exact, target, weight, 0.7, 0.3)
    value = photometric(image, target, weight, 0.7, 0.3)
    assert float(value.total.detach()) == pytest.approx(float(truth.total.detach()), abs=2e-6)
    assert (value.l1, value.dssim) == pytest.approx((truth.l1, truth.dssim), abs=2e-6)
    assert value.psnr == pytest.approx(truth.psnr, abs=1e-4)
    (2 * value.total).backward()
    (2 * truth.total).backward()
    assert image.grad is not None and exact.grad is not None
    assert oracles.relative_error(image.grad, exact.grad) < 1e-4


def test_dssim_is_one_minus_the_mean_of_the_metric():
    image, target = images((50, 60, 3))
    loss = photometric(image, target)
    assert loss.dssim == pytest.approx(1 - float(ssim_map(image, target / 255).mean()), abs=1e-6)
    assert loss.l1 == pytest.approx(float((image - target / 255).abs().mean()), abs=1e-6)


def test_an_image_equal_to_its_target_is_at_the_minimum():
    _, target = images((30, 30, 3))
    image = (target / 255).requires_grad_()
    loss = photometric(image, target)
    loss.total.backward()
    assert loss.l1 == pytest.approx(0, abs=1e-7) and loss.dssim == pytest.approx(0, abs=1e-6)
    assert image.grad is not None and image.grad.abs().max() < 1e-3


@pytest.mark.parametrize("compute", [photometric, torch_photometric])
def test_pixels_of_weight_zero_change_nothing(compute):
    image, target = images((40, 40, 3))
    weight = torch.full((40, 40), 255, dtype=torch.uint8)
    weight[10:25, 5:30] = 0
    other, other_target = image.clone(), target.clone()
    other[weight == 0], other_target[weight == 0] = 0.123, 77
    results = []
    for x, t in ((image, target), (other, other_target)):
        x = x.requires_grad_()
        loss = compute(x, t, weight, 0.8, 0.2).total
        loss.backward()
        assert x.grad is not None and not x.grad[weight == 0].any() and x.grad[weight != 0].any()
        results.append((float(loss.detach()), x.grad))
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])


def test_one_part_alone():
    image, target = images((40, 33, 3))
    image.requires_grad_()
    loss = photometric(image, target, None, 1.0, 0.0)
    loss.total.backward()
    assert float(loss.total.detach()) == pytest.approx(loss.l1, abs=1e-7) and loss.dssim == 0
    assert image.grad is not None
    assert torch.allclose(image.grad, torch.sign(image.detach() - target / 255) / image.numel(), atol=1e-9)
    loss = photometric(image, target, None, 0.0, 1.0)
    assert float(loss.total.detach()) == pytest.approx(loss.dssim)


@pytest.mark.parametrize("shape", [(40, 33, 3), (7, 5, 3), (31, 64, 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_affine_map_of_colours_is_applied_and_differentiated(shape, weighted):
    image, target = images(shape)
    weight = torch.randint(0, 3, shape[:2], dtype=torch.uint8) * 100 if weighted else None
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    affine = torch.eye(3, 4) + 0.1 * noise
    results = []
    for dtype, compute in ((torch.float32, photometric), (torch.float64, torch_photometric)):
        x, m = (t.detach().clone().to(dtype).requires_grad_() for t in (image, affine))
        loss = compute(x, target, weight, 0.8, 0.2, m)
        (0.5 * loss.total).backward()
        results.append((loss, x.grad, m.grad))
    (ours, ours_x, ours_m), (truth, true_x, true_m) = results
    assert float(ours.total.detach()) == pytest.approx(float(truth.total.detach()), abs=2e-6)
    assert ours.psnr == pytest.approx(truth.psnr, abs=1e-4)
    assert oracles.relative_error(ours_x, true_x) < 1e-4 and oracles.relative_error(ours_m, true_m) < 1e-4


def test_any_number_of_threads_gives_the_same_bits():
    image, target = images((300, 90, 3))
    before = bindings.get_threads()
    results = []
    try:
        for threads in (1, 2, 3, 5):
            bindings.set_threads(threads)
            x = image.clone().requires_grad_()
            loss = photometric(x, target).total
            loss.backward()
            results.append((float(loss.detach()), x.grad))
    finally:
        bindings.set_threads(before)
    for value, gradient in results[1:]:
        assert value == results[0][0] and torch.equal(gradient, results[0][1])


def test_shapes_that_disagree_are_refused():
    image, target = images((8, 8, 3))
    with pytest.raises(ValueError, match="must agree"):
        photometric(image, target[:7])
