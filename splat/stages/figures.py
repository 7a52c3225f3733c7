"""Figures of held-out photos as publications define them, beside those that every run reports.

A figure is named by its metric and by what is done before or in it, joined by dashes: `psnr-8bit`, `ssim-uniform`,
`lpips-vgg-01`. Papers differ in these, and their numbers by up to 0.01 in SSIM for the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.lpips import Backbone, load_lpips
from splat.core.metrics import psnr, ssim, ssim_uniform

Image = Float[Tensor, "h w 3"]
Mask = Bool[Tensor, "h w"]

_OPTIONS = {
    "psnr": {"8bit", "white"},
    "ssim": {"8bit", "white", "uniform"},
    "lpips": {"8bit", "white", "vgg", "alex", "01"},
}


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure of a render and its photo, both in [0, 1]."""

    name: str
    options: frozenset[str]
    compare: Callable[[Image, Image], float] | None
    """None where the weights of its network are not there."""

    def __call__(self, image: Image, target: Image, mask: Mask | None) -> float | None:
        """`mask`: true where the photo says something. Without `white`, PSNR is over these pixels, and elsewhere the
        other metrics see the photo in both."""
        if self.compare is None:
            return None
        image, target = image.clamp(0, 1), target.clamp(0, 1)
        if "8bit" in self.options:
            image = (image * 255 + 0.5).floor() / 255  # as torchvision.utils.save_image
        if mask is not None and "white" in self.options:
            image, target = (torch.where(mask[..., None], t, 1.0) for t in (image, target))
        elif mask is not None:
            if self.name.startswith("psnr"):
                return psnr(image, target, mask)
            image = torch.where(mask[..., None], image, target)
        return self.compare(image, target)


def figures_named(names: Sequence[str], weights: Path | None = None) -> tuple[Figure, ...]:
    """The figures with these names; LPIPS with the weights that are found as `load_lpips` does. Raises SplatError for a
    name that means nothing."""
    return tuple(_figure(name, weights) for name in dict.fromkeys(names))


def check_names(names: Sequence[str]) -> None:
    """Raises SplatError for a name that means nothing."""
    for name in names:
        metric, *options = name.split("-")
        known = _OPTIONS.get(metric)
        if known is None:
            raise SplatError(f"--figures {name}: a figure begins with psnr, ssim or lpips.")
        unknown = [o for o in options if o not in known]
        if unknown:
            raise SplatError(f"--figures {name}: {metric} knows {', '.join(sorted(known))}, not {unknown[0]!r}.")
        if {"vgg", "alex"} <= {*options}:
            raise SplatError(f"--figures {name}: choose vgg or alex.")


def _figure(name: str, weights: Path | None) -> Figure:
    check_names([name])
    metric, *rest = name.split("-")
    options = frozenset(rest)
    if metric == "psnr":
        return Figure(name, options, psnr)
    if metric == "ssim":
        return Figure(name, options, ssim_uniform if "uniform" in options else ssim)
    backbone: Backbone = "alex" if "alex" in options else "vgg"
    network, _ = load_lpips(backbone, weights)
    if network is not None and "01" in options:
        network = replace(network, input_range="[0,1]")
    return Figure(name, options, network)
