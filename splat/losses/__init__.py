"""The weighted sum of loss terms. Terms of weight 0, and terms that do not apply to an item, are not evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from splat.core import devices
from splat.core.slots import Step
from splat.losses.correlation import depth_correlation, patch_correlation
from splat.losses.depth import depth_error, disparity_variation
from splat.losses.layers import layered_variation
from splat.losses.multiscale import coarse_l1
from splat.losses.normals import normal_errors
from splat.losses.photometric import photometric
from splat.losses.regularizers import mean_opacity, mean_scale, mean_stretch


@dataclass(frozen=True)
class Losses:
    """Weights of the terms; 0 switches a term off. Terms read `slots.Step` and nothing else. `slots.Item.terms` uses
    the names of the weights."""

    l1: float = 0.8
    """Mean absolute difference of the photo and the render."""
    dssim: float = 0.2
    """Mean of 1 - SSIM of the photo and the render."""
    depth: float = 0.0
    """Relative error of rendered depth by the photo's depth map, times its probability, where there is one."""
    max_depth_error: float = 0.1
    """Relative errors beyond this count as this: the depth map may be wrong."""
    pearson: float = 0.0
    """1 - Pearson correlation of rendered depth and the photo's depth map, which may have any scale and offset."""
    pearson_patches: float = 0.0
    """The same within square patches at random places, half as many as tile the image."""
    pearson_patch: int = 128
    """Side of these patches, px."""
    normal_l1: float = 0.0
    """L1 of rendered normals and those of the photo's depth map or normal prior, where there are any."""
    normal_cosine: float = 0.0
    """1 - cosine of the angle between the two."""
    normal_every: int = 1
    """Normals are drawn and compared in every so many steps, with so many times the weight: 4 is faster, and cost
    0.2 dB on eight photos of kermit."""
    smoothness: float = 0.0
    """Relative change of rendered disparity between pixels where the photo has no edge."""
    coarse: float = 0.0
    """L1 at a half, a quarter, an eighth and a sixteenth of the size, weighted by 1/4 to 1/32."""
    layered: float = 0.0
    """Total variation of rendered disparity within the depth layers of the photo (`coherent_published` has them)."""
    layered_from: float = 0.35
    """Share of that variation that counts within layers alone, at the start of a phase; the rest counts everywhere.
    (0 in the paper, 0.35 in its code)"""
    layered_to: float = 1.0
    """The same share at the end of the phase."""
    opacity: float = 0.0
    """Mean opacity of the rendered Gaussians: makes useless ones transparent (0.01 in 3DGS-MCMC)."""
    scale: float = 0.0
    """Mean scale of the rendered Gaussians, relative to the scene extent: makes useless ones small (0.01 in
    3DGS-MCMC)."""
    anisotropy: float = 0.0
    """Penalty on Gaussians whose longest axis exceeds `longest` times the shortest: against needles."""
    longest: float = 10.0
    """Ratio of the longest to the shortest axis up to which `anisotropy` is 0."""

    @property
    def replayable(self) -> bool:
        """As a rasterizer is (see `slots.Rasterizer`): no weight changes from step to step."""
        return not (self.layered or self.pearson or self.pearson_patches or self.reads_normals)

    @property
    def reads_depth(self) -> bool:
        """Whether a term reads the depth maps of the photos."""
        return max(self.depth, self.pearson, self.pearson_patches) > 0

    @property
    def reads_normals(self) -> bool:
        """Whether a term reads normals, of photos and rendered."""
        return max(self.normal_l1, self.normal_cosine) > 0

    def _has_patches(self, step: Step) -> bool:
        return self.pearson_patches > 0 and step.item.counts("pearson_patches")

    def __call__(self, step: Step) -> tuple[Float[Tensor, ""], dict[str, float | Tensor]]:
        """The weighted sum, and the unweighted terms for the log: as tensors on a GPU, where reading a number
        blocks."""
        total = step.image.new_zeros(())
        figures: dict[str, float | Tensor] = {}
        counts = step.item.counts
        l1, dssim = (weight if counts(name) else 0.0 for name, weight in (("l1", self.l1), ("dssim", self.dssim)))
        if l1 or dssim:
            loss = photometric(step.image, step.photo, step.item.weight, l1, dssim, step.affine)
            total = total + loss.total
            figures |= {"psnr": loss.psnr, "l1": loss.l1}
            if dssim:
                figures["dssim"] = loss.dssim
        if self.depth and counts("depth") and (error := depth_error(step, self.max_depth_error)) is not None:
            total = total + self.depth * _logged(figures, "depth", error)
        if self.pearson and counts("pearson") and (error := depth_correlation(step)) is not None:
            total = total + self.pearson * _logged(figures, "pearson", error)
        in_patches = patch_correlation(step, self.pearson_patch) if self._has_patches(step) else None
        if in_patches is not None:
            total = total + self.pearson_patches * _logged(figures, "pearson_patches", in_patches)
        normal_l1, normal_cosine = (
            max(1, self.normal_every) * weight if counts(name) else 0.0
            for name, weight in (("normal_l1", self.normal_l1), ("normal_cosine", self.normal_cosine))
        )
        if (normal_l1 or normal_cosine) and (errors := normal_errors(step)) is not None:
            if normal_l1:
                total = total + normal_l1 * _logged(figures, "normal_l1", errors[0])
            if normal_cosine:
                total = total + normal_cosine * _logged(figures, "normal_cosine", errors[1])
        if self.smoothness and counts("smoothness"):
            total = total + self.smoothness * _logged(figures, "smoothness", disparity_variation(step))
        if self.coarse and counts("coarse"):
            total = total + self.coarse * _logged(figures, "coarse", coarse_l1(step))
        if self.layered and counts("layered"):
            share = self.layered_from + (self.layered_to - self.layered_from) * step.progress
            total = total + self.layered * _logged(figures, "layered", layered_variation(step, share))
        if self.opacity and counts("opacity"):
            total = total + self.opacity * _logged(figures, "opacity", mean_opacity(step.gaussians))
        if self.scale and counts("scale"):
            size = mean_scale(step.gaussians) / step.scene_extent
            total = total + self.scale * _logged(figures, "scale", size)
        if self.anisotropy and counts("anisotropy"):
            stretch = mean_stretch(step.gaussians, self.longest)
            total = total + self.anisotropy * _logged(figures, "anisotropy", stretch)
        return total, figures


def _logged(figures: dict[str, float | Tensor], name: str, value: Tensor) -> Tensor:
    figures[name] = value.detach() if devices.is_asynchronous(value.device) else float(value.detach())
    return value
