"""How good a set of Gaussians is on given photos. Used by `reconstruct`, `evaluate` and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.metrics import colour_corrected, psnr, ssim
from splat.core.slots import Rasterizer, RasterSettings
from splat.geometry.compositing import composite_photo, exposed
from splat.geometry.drawing import draw_view
from splat.geometry.holes import hole_mask
from splat.stages.figures import Figure


@dataclass(frozen=True, eq=False)
class Measured:
    """One view, drawn and compared."""

    view: View
    psnr: float
    """dB over the pixels that the photo's mask admits; where the photo has alpha, over its white background."""
    ssim: float
    cc_psnr: float
    """PSNR after the affine colour map that fits best: the figure without the unknown exposure."""
    photo: np.ndarray
    """uint8 [h w 3], composited over `background`."""
    render: np.ndarray
    """uint8 [h w 3]."""
    lpips: float | None = None
    holes_percent: float = 0.0
    """Pixels that nothing was drawn at (`geometry.holes`), of those that the photo shows something at."""
    holes: np.ndarray | None = None
    """uint8 [h w], 255 at these pixels."""
    more: dict[str, float | None] = field(default_factory=dict)
    """Figures that were asked for, by name: see `stages.figures`."""

    def figures(self) -> dict[str, Any]:
        out: dict[str, Any] = {"name": self.view.name, "psnr": self.psnr, "ssim": self.ssim, "cc_psnr": self.cc_psnr}
        out |= {"lpips": self.lpips, "holes_percent": self.holes_percent}
        return out | ({"figures": self.more} if self.more else {})


def measure(
    gaussians: Gaussians,
    views: Sequence[View],
    raster: Rasterizer,
    settings: RasterSettings,
    background: Float[Tensor, "3"],
    exposures: Sequence[Float[Tensor, "3 4"] | None] | None = None,
    lpips: Any = None,
    figures: Sequence[Figure] = (),
    beyond: Gaussians | None = None,
) -> Iterator[Measured]:
    """Draw and compare each view, in order. `exposures`: per view, the colour map learned for it (training views only).
    `lpips`: a perceptual metric (image, target) -> float, or None. `figures`: more of them. `beyond`: what is behind
    the Gaussians."""
    for i, view in enumerate(views):
        photo = view.load()
        target = composite_photo(photo, background.cpu())
        drawn = draw_view(gaussians, view.camera, view.pose, raster, settings, background, beyond=beyond)
        image = exposed(drawn.rgb.cpu(), exposures[i] if exposures is not None else None).clamp(0, 1)
        mask = None if photo.weight is None else torch.from_numpy(photo.weight > 127)
        if mask is not None:
            image_for_ssim = torch.where(mask[..., None], image, target)
        else:
            image_for_ssim = image
        holes, usable = hole_mask(drawn.alpha.cpu().numpy()), photo.usable()
        holes[~usable] = 0
        yield Measured(
            view=view,
            psnr=psnr(image, target, mask),
            ssim=ssim(image_for_ssim, target),
            cc_psnr=psnr(colour_corrected(image, target), target, mask),
            photo=(target * 255).round().byte().numpy(),
            render=(image * 255).round().byte().numpy(),
            lpips=None if lpips is None else lpips(image, target),
            holes_percent=100 * int((holes > 0).sum()) / max(1, int(usable.sum())),
            holes=holes,
            more={f.name: f(image, target, mask) for f in figures},
        )


def mean_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means of the figures that `Measured.figures` has beside the usual ones; empty where none was asked for."""
    names = dict.fromkeys(name for row in rows for name in row.get("figures", ()))
    return {name: mean([row.get("figures", {}).get(name) for row in rows]) for name in names}


def mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None when there is nothing to average."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
