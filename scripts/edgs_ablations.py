"""`splat` with variants of dense initialization that each leave one part of it out, for `edgs_table.py --ablations`.

    python scripts/edgs_ablations.py reconstruct PHOTOS --method edgs_no_fusion

Methods beside those of splat: edgs_no_fusion, edgs_isotropic, edgs_no_consistency.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.init.dense_surfaces import DenseSurfaces  # noqa: E402
from splat.init.surface_gaussians import SurfaceSampler  # noqa: E402


class UnfusedSampler(SurfaceSampler):
    """Every photo samples all the surface it sees, however many others see it too."""

    def owned_by_other(
        self, photo: int, other: int, pixel_ids: Int[Tensor, "m"], other_pixel_ids: Int[Tensor, "m"]
    ) -> Bool[Tensor, "m"]:
        return torch.zeros(len(pixel_ids), dtype=torch.bool)


class IsotropicSampler(SurfaceSampler):
    """Balls instead of discs along the surface."""

    def scales_of(self, size: Float[Tensor, "k"], cos: Float[Tensor, "k"]) -> Float[Tensor, "k 3"]:
        return size[:, None].expand(-1, 3)


class UncheckedSampler(SurfaceSampler):
    """No Gaussian is checked against other photos' depth maps."""

    def support(self, points: Float[Tensor, "k 3"]) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
        none = torch.zeros(len(points), dtype=torch.int32)
        return none, none


@dataclass(frozen=True)
class NoFusion(DenseSurfaces):
    """Dense initialization without fusion between photos."""

    sampler: ClassVar[type[SurfaceSampler]] = UnfusedSampler


@dataclass(frozen=True)
class Isotropic(DenseSurfaces):
    """Dense initialization with isotropic Gaussians."""

    sampler: ClassVar[type[SurfaceSampler]] = IsotropicSampler


@dataclass(frozen=True)
class NoSupport(DenseSurfaces):
    """Dense initialization that believes every depth."""

    sampler: ClassVar[type[SurfaceSampler]] = UncheckedSampler


def register() -> None:
    """Adds the variants to splat's methods."""
    from splat.methods import METHODS
    from splat.methods.edgs import Edgs

    @dataclass(frozen=True)
    class EdgsNoFusion(Edgs):
        """edgs without fusion between photos."""

        name: ClassVar[str] = "edgs_no_fusion"
        summary: ClassVar[str] = "edgs without fusion between photos"
        init: DenseSurfaces = field(default_factory=NoFusion)

    @dataclass(frozen=True)
    class EdgsIsotropic(Edgs):
        """edgs with isotropic Gaussians."""

        name: ClassVar[str] = "edgs_isotropic"
        summary: ClassVar[str] = "edgs with isotropic Gaussians"
        init: DenseSurfaces = field(default_factory=Isotropic)

    @dataclass(frozen=True)
    class EdgsNoConsistency(Edgs):
        """edgs whose Gaussians are checked against no other photo."""

        name: ClassVar[str] = "edgs_no_consistency"
        summary: ClassVar[str] = "edgs whose Gaussians are checked against no other photo"
        init: DenseSurfaces = field(default_factory=NoSupport)

    METHODS.update({m.name: m for m in (EdgsNoFusion, EdgsIsotropic, EdgsNoConsistency)})


def main(argv: list[str] | None = None) -> int:
    """Splat's own command line with more methods to choose from."""
    register()
    from splat.__main__ import main as splat

    return splat(argv)


if __name__ == "__main__":
    sys.exit(main())
