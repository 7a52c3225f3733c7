"""PSNR and SSIM against formulas written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from splat.core.metrics import colour_corrected, psnr, ssim, ssim_map


def pair(h: int = 17, w: int = 23, c: int = 3) -> tuple[Tensor, Tensor]:
    target = torch.rand(h, w, c, dtype=torch.float64)
    return (target + 0.1 * torch.randn_like(target)).clamp(0, 1), target


def test_psnr_of_a_known_error() -> None:
    target = torch.full((8, 9, 3), 0.5)
    assert psnr(target + 0.1, target) == pytest.approx(20.0, abs=1e-4)
    assert psnr(target, target) == math.inf


def test_psnr_is_the_mean_over_all_channels_not_of_channels() -> None:
    image, target = pair()
    mse = np.mean((image.numpy() - target.numpy()) ** 2)
    assert psnr(image, target) == pytest.approx(-10 * math.log10(mse))


def test_psnr_clips_and_honours_its_mask() -> None:
    target = torch.ones(4, 4, 3)
    assert psnr(target + 5, target) == math.inf
    spoiled = target.clone()
    spoiled[0] = 0
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0] = False
    assert psnr(spoiled, target, mask) == math.inf
    assert psnr(spoiled, target) == pytest.approx(-10 * math.log10(0.25))


def ssim_by_loops(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Wang et al. 2004, eq. 13, one pixel at a time, outside = 0."""
    t = np.arange(-5, 6)
    g = np.exp(-(t**2) / (2 * 1.5**2))
    window = np.outer(g, g) / np.outer(g, g).sum()
    x, y = np.pad(x, 5), np.pad(y, 5)
    out = np.zeros((x.shape[0] - 10, x.shape[1] - 10))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            out[i, j] = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return out


def test_ssim_agrees_with_loops_to_the_border() -> None:
    image, target = pair()
    expected = np.stack([ssim_by_loops(image[..., c].numpy(), target[..., c].numpy()) for c in range(3)], -1)
    np.testing.assert_allclose(ssim_map(image, target).numpy(), expected, atol=1e-12)
    assert ssim(image, target) == pytest.approx(expected.mean())


def test_ssim_is_one_for_equal_images_symmetric_and_at_most_one() -> None:
    image, target = pair()
    assert ssim(target, target) == pytest.approx(1.0)
    assert ssim(image, target) == pytest.approx(ssim(target, image))
    assert float(ssim_map(image, target).max()) <= 1 + 1e-12


def test_ssim_works_below_the_size_of_its_window() -> None:
    image, target = pair(3, 4)
    assert 0 < ssim(image, target) < 1


def test_ssim_has_the_gradient_of_finite_differences() -> None:
    image, target = pair(6, 5, 1)
    image.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ssim_map(x, target).mean(), image)


def test_colour_correction_undoes_an_affine_colour_change() -> None:
    target = 0.2 + 0.5 * torch.rand(12, 14, 3)
    m = torch.tensor([[0.8, 0.1, 0.0], [0.0, 0.7, 0.1], [0.05, 0.0, 0.9]])
    image = target @ m + torch.tensor([0.05, -0.02, 0.1])
    assert psnr(image, target) < 30
    assert psnr(colour_corrected(image, target), target) > 90


def test_colour_correction_never_lowers_psnr() -> None:
    image, target = pair()
    assert psnr(colour_corrected(image, target), target) >= psnr(image, target)


def test_colour_correction_of_one_flat_colour_is_finite() -> None:
    flat, target = torch.full((6, 6, 3), 0.25), torch.rand(6, 6, 3)
    corrected = colour_corrected(flat, target)
    torch.testing.assert_close(corrected, target.mean((0, 1)).expand(6, 6, 3), atol=1e-5, rtol=0)
