"""Losses accumulate: every term has a weight, and a term of weight 0 is never evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Step
from splat.losses.photometric import photometric
from splat.losses.regularizers import mean_opacity, mean_scale, mean_stretch
from splat.native import bindings


@dataclass(frozen=True)
class Losses:
    """Weight of each term; 0 switches it off. Terms read `slots.Step` and nothing else."""

    l1: float = 0.8
    """Mean absolute difference of the photo and the render."""
    dssim: float = 0.2
    """Mean of 1 - SSIM of the photo and the render."""
    opacity: float = 0.0
    """Mean opacity of the Gaussians drawn: makes useless ones faint (0.01 in 3DGS-MCMC)."""
    scale: float = 0.0
    """Their mean size, as a fraction of the scene's: makes useless ones small (0.01 in 3DGS-MCMC)."""
    anisotropy: float = 0.0
    """How much longer than `longest` x their thinnest side they are: stops needles."""
    longest: float = 10.0
    """Ratio of the longest to the shortest side that `anisotropy` leaves alone."""

    replayable = True  # as a rasterizer is: see `slots.Rasterizer`

    def __call__(self, step: Step) -> tuple[Float[Tensor, ""], dict[str, float | Tensor]]:
        """The weighted sum, and each term before its weight, for the log: tensors where reading a number would
        wait for a GPU."""
        total = step.image.new_zeros(())
        figures: dict[str, float | Tensor] = {}
        if self.l1 or self.dssim:
            loss = photometric(step.image, step.photo, step.item.weight, self.l1, self.dssim, step.affine)
            total = total + loss.total
            figures |= {"psnr": loss.psnr, "l1": loss.l1}
            if self.dssim:
                figures["dssim"] = loss.dssim
        if self.opacity:
            total = total + self.opacity * _noted(figures, "opacity", mean_opacity(step.gaussians))
        if self.scale:
            size = mean_scale(step.gaussians) / step.scene_extent
            total = total + self.scale * _noted(figures, "scale", size)
        if self.anisotropy:
            stretch = mean_stretch(step.gaussians, self.longest)
            total = total + self.anisotropy * _noted(figures, "anisotropy", stretch)
        return total, figures


def _noted(figures: dict[str, float | Tensor], name: str, value: Tensor) -> Tensor:
    figures[name] = value.detach() if bindings.waits(value.device) else float(value.detach())
    return value
