"""The frame of a reconstruction from photos alone: upright, and in metres where something says how large it is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Similarity, align_points
from splat.core.slots import Reporter
from splat.poses.upright import WORLD_UP, estimate_up, parse_up, rotation_between


@dataclass(frozen=True)
class Frame:
    """Photos alone know neither up nor size: where both come from."""

    up: str = "auto"
    """Which way is up: "auto" (from how the photos were held), or "x", "-y", "0,0,1", ... in the frame of exports."""
    scale: float | None = None
    """Multiply all lengths by this."""
    measured: tuple[float, float, float, float, float, float, float] | None = None
    """Two points of an exported result and their true distance: x1 y1 z1 x2 y2 z2 metres."""
    gps: bool = True
    """Take metres from GPS positions, when at least three photos have one and they lie far enough apart."""
    gps_error: float = 5.0
    """How far off a GPS position may be, metres."""


def framed(capture: Capture, frame: Frame, report: Reporter, seed: int = 0) -> tuple[Capture, dict[str, Any]]:
    """A capture straight out of structure from motion, turned upright (up = -y) and scaled; and how, for the report.

    The result is the *source* frame of this capture: exports use it, `world_from_source` stays the identity.
    """
    up = torch.tensor(WORLD_UP, dtype=torch.float64)
    rotation = rotation_between(estimate_up(capture), up)
    wanted = parse_up(frame.up)
    if wanted is not None:  # what the user sees is the upright frame: directions are meant in it
        rotation = rotation_between(wanted, up) @ rotation
    details: dict[str, Any] = {"up": list(WORLD_UP), "scale_from": "arbitrary"}
    scale = 1.0
    if frame.measured is not None:
        a, b, metres = torch.tensor(frame.measured[:3]), torch.tensor(frame.measured[3:6]), frame.measured[6]
        length = float((a.double() - b.double()).norm())
        if not (length > 0 and metres > 0):
            raise SplatError(f"measured = {frame.measured}: the two points and their distance must differ from zero.")
        scale, details["scale_from"] = metres / length, "two points"
    elif frame.scale is None and frame.gps:
        aligned = gps_alignment(capture, frame.gps_error, seed)
        if isinstance(aligned, str):
            if aligned:
                report.info(f"GPS not used: {aligned}")
        else:
            similarity, inliers = aligned
            scale, details["scale_from"] = similarity.scale, "gps"
            report.info(f"metric scale from the GPS positions of {inliers} photos")
    if frame.scale is not None:
        if not 0 < frame.scale < float("inf"):
            raise SplatError(f"scale = {frame.scale} must be above zero.")
        scale, details["scale_from"] = scale * frame.scale, "option"
    moved = capture.transformed(Similarity(scale, rotation, torch.zeros(3, dtype=torch.float64)))
    details["scale"] = scale
    return _as_source(moved), details


def gps_alignment(capture: Capture, error: float, seed: int = 0) -> tuple[Similarity, int] | str:
    """enu_from_world of the located photos and how many agree with it, or why there is none ("" = no GPS at all).

    RANSAC over triples (all of them when few), then least squares on the photos within 2 x `error` metres.
    """
    located = [v for v in capture.views if v.gps_enu is not None and v.world_from_cam is not None]
    if not located:
        return ""
    if len(located) < 3:
        return f"only {len(located)} photos have a position"
    enu = torch.tensor([v.gps_enu for v in located], dtype=torch.float64)
    centres = torch.stack([v.world_from_cam.translation.double() for v in located if v.world_from_cam is not None])
    spread = float((enu - enu.median(0).values).norm(dim=1).median())
    if spread < 3 * error:
        return f"the photos lie {spread:.0f} m apart, too near for positions that are right to {error:.0f} m"
    best: Float[Tensor, "n"] | None = None
    for triple in _triples(len(located), seed):
        rows = list(triple)
        # Three points on a line leave a rotation about it open.
        if float(torch.linalg.svdvals(centres[rows] - centres[rows].mean(0))[1]) < 1e-6 * float(centres.std()):
            continue
        agrees = _residuals(align_points(centres[rows], enu[rows]), centres, enu) < 2 * error
        if best is None or int(agrees.sum()) > int(best.sum()):
            best = agrees
    if best is None:  # all on one line: its length still gives the scale
        length = float((enu - enu.mean(0)).norm() / (centres - centres.mean(0)).norm())
        return Similarity(length, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)), len(located)
    inliers = int(best.sum())
    if inliers < max(3, 0.5 * len(located)):
        return f"only {inliers} of {len(located)} positions agree with the photos"
    return align_points(centres[best], enu[best]), inliers


def _residuals(similarity: Similarity, source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]) -> Tensor:
    return (similarity.apply(source) - target).norm(dim=1)


def _triples(n: int, seed: int, most: int = 500) -> list[tuple[int, ...]]:
    if n <= 14:
        return list(itertools.combinations(range(n), 3))
    rng = np.random.default_rng(seed)
    return [tuple(int(i) for i in rng.choice(n, 3, replace=False)) for _ in range(most)]


def _as_source(capture: Capture) -> Capture:
    return replace(capture, world_from_source=Similarity.identity())
