"""What fits into the fixed point of `.spz`: 24 bits a coordinate, 8 bits a scale."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import Reporter
from splat.export.header import OFFSET, added, tidy
from splat.export.repair import warn

_FRACTION_BITS, _MAX_FRACTION_BITS = 12, 24
_COARSE, _TOO_COARSE = 1 / 2000, 1 / 250
"""Steps of the positions, as fractions of the size of the scene: from the first on they are worth a word, from the
second on they are seen."""


def fraction_bits(means: Float[Tensor, "n 3"]) -> tuple[int, float]:
    """Fraction bits for coordinates of 24 bits, and the resulting step as a fraction of the size of the scene (the 90th
    percentile of the distance from its median).

    12 bits, as the reference writer always takes; more where the scene is so small that 12 are coarse, and fewer where
    it reaches beyond 2048 units. Negative where not even whole units fit.
    """
    means = means.detach().double().cpu()
    reach = float(means.abs().max())
    distances = (means - means.median(0).values).norm(dim=1)
    size = float(np.quantile(distances.numpy(), 0.9)) or reach or 1.0
    wanted = _FRACTION_BITS
    if 2.0**-wanted > size / 1024:
        wanted = min(_MAX_FRACTION_BITS, math.ceil(math.log2(4096 / size)))
    bits = min(wanted, 23 - math.ceil(math.log2(max(reach * 1.0001, 1e-6))))  # 23 bits and a sign
    return bits, 2.0**-bits / size


def fitted(
    path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None
) -> tuple[Gaussians, dict[str, str], int]:
    """Gaussians, header and fraction bits to write: about a local origin where the scene is too far from its own."""
    bits, step = fraction_bits(gaussians.means)
    if step > _COARSE:
        means = gaussians.means.detach().double()
        centre = means.median(0).values
        spread = float((means - centre).norm(dim=1).median())
        offset = tidy(centre.tolist(), spread)
        local = replace(gaussians, means=(means - means.new_tensor(offset)).to(gaussians.means))
        local_bits, local_step = fraction_bits(local.means)
        if local_step < step / 8:
            gaussians, header, bits, step = local, added(header, offset), local_bits, local_step
            warn(
                report,
                f"{path}: .spz is too coarse this far from the origin, so its coordinates are relative to "
                f"{header[OFFSET]}, which only this program reads from its header.",
            )
    if bits < 0 or step > _TOO_COARSE:
        raise SplatError(
            f"{path}: .spz stores coordinates of 24 bits, in steps of {2.0**-bits:.2g} for this scene, a "
            f"{'whole' if step > 1 else f'{1 / step:.0f}th'} of its size: use .ply or .sog, or remove what is far away."
        )
    if step > _COARSE:
        warn(report, f"{path}: .spz rounds positions to {2.0**-bits:.2g} units for this scene; .ply and .sog do not.")
    return gaussians, header, bits


def check_scales(path: Path, gaussians: Gaussians, report: Reporter | None) -> None:
    """Refuse scenes whose Gaussians would change their size: log scales are stored from -10 to 5.94."""
    largest = gaussians.log_scales.detach().amax(1)
    out = int(((largest < -10 - 1 / 32) | (largest > 255 / 16 - 10 + 1 / 32)).sum())
    limits = f"{math.exp(-10):.1e} to {math.exp(255 / 16 - 10):.0f} units"
    if out > 0.01 * len(largest):
        raise SplatError(
            f"{path}: .spz stores sizes of {limits}, which {out} of {len(largest)} Gaussians exceed: use .ply or .sog."
        )
    if out:
        warn(report, f"{path}: {out} of {len(largest)} Gaussians lie beyond the sizes of .spz ({limits}): clipped.")
