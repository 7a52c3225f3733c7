"""Repair of invalid values in Gaussians that are read from files."""

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
"""Replaces infinite logits: an opacity within a millionth of 0 or 1."""
LOG_SCALE_LIMIT = -20.0
"""Replaces a log scale of -inf: scales of zero occur in files of flat discs and some quantized files."""


def warn(report: Reporter | None, message: str) -> None:
    """Warn through `report`, or without one through the `splat` logger."""
    if report is not None:
        report.warn(message)
    else:
        logging.getLogger("splat").warning(message)


def repaired(gaussians: Gaussians, path: Path, report: Reporter | None = None) -> Gaussians:
    """Gaussians with valid values: infinite logits and log scales become the limits above, zero quaternions become the
    identity, and Gaussians with other values that are not finite are removed with one warning.

    Raises SplatError where a file has no Gaussians, or that removes all of them.
    """
    g = gaussians
    if len(g) == 0:
        raise SplatError(f"{path} has no Gaussians: a crop or a training that left nothing; give another file.")
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
        raise SplatError(f"{path} has no Gaussians whose values are all finite: export it again from its program.")
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
