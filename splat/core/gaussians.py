"""The scene: a set of 3D Gaussians, stored before activation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.bundle import TensorBundle
from splat.core.geometry import Similarity, matrix_from_quat, multiply_quats, quat_from_matrix

SH_C0 = 0.28209479177387814
"""Spherical harmonic of degree 0, a constant: colour = 0.5 + SH_C0 * dc."""


@dataclass(frozen=True, eq=False)
class Gaussians(TensorBundle):
    """n Gaussians with k = (degree + 1)^2 spherical-harmonic coefficients per colour channel.

    Raw values are stored and optimized: scales as logarithms (world units), opacities as logits, quaternions not
    normalized. Colours are display-referred sRGB. The signs of the SH basis are those of the 3DGS code (-y, +z, -x,
    ...).
    """

    means: Float[Tensor, "n 3"]
    quats_wxyz: Float[Tensor, "n 4"]
    log_scales: Float[Tensor, "n 3"]
    logit_opacities: Float[Tensor, "n"]
    sh: Float[Tensor, "n k 3"]

    @property
    def scales(self) -> Float[Tensor, "n 3"]:
        return self.log_scales.exp()

    @property
    def opacities(self) -> Float[Tensor, "n"]:
        return self.logit_opacities.sigmoid()

    @property
    def sh_degree(self) -> int:
        return round(self.sh.shape[1] ** 0.5) - 1

    @property
    def base_rgb(self) -> Float[Tensor, "n 3"]:
        """The view-independent part of the colour, not clamped."""
        return 0.5 + SH_C0 * self.sh[:, 0]

    @property
    def covariances(self) -> Float[Tensor, "n 3 3"]:
        m = matrix_from_quat(self.quats_wxyz) * self.scales[:, None, :]
        return m @ m.transpose(1, 2)

    def with_sh_degree(self, degree: int) -> Gaussians:
        """Pad with zeros or truncate to another degree."""
        k = (degree + 1) ** 2
        n, have, _ = self.sh.shape
        sh = self.sh[:, :k]
        if have < k:
            sh = torch.cat([sh, sh.new_zeros(n, k - have, 3)], 1)
        return replace(self, sh=sh.contiguous())

    def transformed(self, a_from_b: Similarity) -> Gaussians:
        """These Gaussians (frame b) in frame a; their SH are rotated too."""
        from splat.core.sh import rotate_sh  # the rotation matrices are needed nowhere else

        quat = quat_from_matrix(a_from_b.rotation).to(self.quats_wxyz)
        return Gaussians(
            means=a_from_b.apply(self.means.double()).to(self.means),
            quats_wxyz=multiply_quats(quat.expand_as(self.quats_wxyz), self.quats_wxyz),
            log_scales=self.log_scales + math.log(a_from_b.scale),
            logit_opacities=self.logit_opacities,
            sh=rotate_sh(self.sh, a_from_b.rotation),
        )


def with_surroundings(gaussians: Gaussians, surroundings: Gaussians | None) -> Gaussians:
    """Both, the surroundings (what is behind everything, of any SH degree) last."""
    if surroundings is None:
        return gaussians
    return Gaussians.cat([gaussians, surroundings.with_sh_degree(gaussians.sh_degree).to(gaussians.means.device)])


def rgb_to_sh(rgb: Float[Tensor, "n 3"], degree: int = 0) -> Float[Tensor, "n k 3"]:
    """SH coefficients of a view-independent colour in [0, 1]."""
    sh = rgb.new_zeros(len(rgb), (degree + 1) ** 2, 3)
    sh[:, 0] = (rgb - 0.5) / SH_C0
    return sh
