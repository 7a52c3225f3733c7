"""What every reader does to the values of a foreign file before anything else sees them."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import Reporter

LOGIT_LIMIT = math.log(1e6)
"""Stands for an infinite logit: an opacity within a millionth of 0 or 1."""
LOG_SCALE_LIMIT = -20.0
"""Stands for a scale of zero (log scale -inf), as flat discs and some quantized files have it."""


def warn(report: Reporter | None, message: str) -> None:
    """Tell the user; without a Reporter the message goes to the `splat` logger, so it is never lost."""
    if report is not None:
        report.warn(message)
    else:
        logging.getLogger("splat").warning(message)


def repaired(gaussians: Gaussians, path: Path, report: Reporter | None = None) -> Gaussians:
    """Gaussians that can be drawn: infinite opacities and zero scales become the limits above, zero quaternions become
    the identity, and rows with a value that is still not finite are left out with one warning.

    Raises SplatError when no row is left of a file that had some.
    """
    g = gaussians
    logits = torch.where(
        g.logit_opacities.isinf(), g.logit_opacities.clamp(-LOGIT_LIMIT, LOGIT_LIMIT), g.logit_opacities
    )
    log_scales = torch.where(g.log_scales.isneginf(), torch.full_like(g.log_scales, LOG_SCALE_LIMIT), g.log_scales)
    no_turn = (g.quats_wxyz == 0).all(1, keepdim=True)
    quats = torch.where(no_turn, g.quats_wxyz.new_tensor([1.0, 0.0, 0.0, 0.0]), g.quats_wxyz)
    g = replace(g, logit_opacities=logits, log_scales=log_scales, quats_wxyz=quats)
    finite = _finite_rows(g.means, g.quats_wxyz, g.log_scales, g.logit_opacities, g.sh)
    bad = int((~finite).sum())
    if bad == 0:
        return g
    if bad == len(g):
        raise SplatError(f"{path} has no Gaussian whose values are all finite: export it again from its program.")
    warn(
        report,
        f"{path} has {bad} of {len(g)} Gaussians with NaN or infinite values, which were left out: "
        "if parts of the scene are missing, export the file again from its program.",
    )
    return g[finite]


def _finite_rows(*fields: Tensor) -> Tensor:
    ok = torch.ones(len(fields[0]), dtype=torch.bool)
    for f in fields:
        ok &= f.reshape(len(f), -1).isfinite().all(1)
    return ok
