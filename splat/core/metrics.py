"""Image quality: PSNR and SSIM of images in [0, 1]. LPIPS is in `core.lpips`."""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d


def psnr(image: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"], mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio (dB) of clipped images, with the mean over all channels. `mask` [h w]: true = use."""
    error = (image.clamp(0, 1) - target.clamp(0, 1)).double().square()
    if mask is not None:
        error = error[mask]
    mse = float(error.mean())
    return float("inf") if mse == 0 else -10 * torch.log10(torch.tensor(mse, dtype=torch.float64)).item()


@functools.cache
def _window() -> Tensor:
    x = torch.arange(11, dtype=torch.float64) - 5
    g = torch.exp(-x.square() / (2 * 1.5**2))
    return g / g.sum()


def ssim_map(image: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"]) -> Float[Tensor, "h w c"]:
    """Structural similarity per pixel and channel (Wang et al. 2004, eq. 13) with the settings of 3DGS: 11x11 Gaussian
    window with sigma 1.5, zero padding, C1 = 0.01^2, C2 = 0.03^2. Differentiable."""
    window = _window().to(image)
    x, y = image.permute(2, 0, 1)[:, None], target.permute(2, 0, 1)[:, None]

    def blur(t: Tensor) -> Tensor:
        return conv2d(conv2d(t, window[None, None, :, None], padding=(5, 0)), window[None, None, None], padding=(0, 5))

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value[:, 0].permute(1, 2, 0)


def ssim(image: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"]) -> float:
    """Mean of `ssim_map` of clipped images."""
    return float(ssim_map(image.clamp(0, 1), target.clamp(0, 1)).mean())


def ssim_uniform(image: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"], window: int = 7) -> float:
    """SSIM of clipped images as `skimage.metrics.structural_similarity` computes it by default for `data_range` 1:
    a uniform window, unbiased variances, and the mean over the pixels whose window lies inside the image. Images must
    be at least `window` px on each side."""
    x, y = (t.clamp(0, 1).double().permute(2, 0, 1)[:, None] for t in (image, target))

    def blur(t: Tensor) -> Tensor:
        return avg_pool2d(t, window, stride=1)

    unbiased = window**2 / (window**2 - 1)
    mx, my = blur(x), blur(y)
    vx, vy, cov = (unbiased * (blur(a * b) - p * q) for a, b, p, q in ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my)))
    c1, c2 = 0.01**2, 0.03**2
    value = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(value.mean())


def colour_corrected(image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """`image` after the affine colour map that fits it to `target` (least squares). PSNR of this does not depend on the
    unknown exposure of a held-out photo. Report it beside the plain PSNR, never instead."""
    pixels = image.reshape(-1, 3).double().cpu()
    a = torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1)
    # On the CPU: only its driver takes an image of one colour, which leaves the map undetermined.
    solution = torch.linalg.lstsq(a, target.reshape(-1, 3).double().cpu()).solution
    return (a @ solution).reshape(image.shape).clamp(0, 1).to(image)
