"""The frame of a structure-from-motion result: upright, and metric where a scale, a distance or GPS is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Similarity, rotation_between
from splat.core.slots import Reporter
from splat.poses.gps import enu_positions
from splat.poses.upright import WORLD_UP, estimate_up, parse_up


@dataclass(frozen=True)
class Frame:
    """Where the up direction and the scale come from: structure from motion determines neither."""

    up: str = "auto"
    """Which way is up: "auto" (from how the photos were held), or "x", "-y", "0,0,1", ... in the frame of exports."""
    scale: float | None = None
    """Multiply all lengths by this."""
    measured: tuple[float, float, float, float, float, float, float] | None = None
    """Two points of an exported result and their true distance: x1 y1 z1 x2 y2 z2 metres."""
    gps: bool = True
    """Take the metric scale from GPS positions, when at least three photos have one and they lie far enough apart."""
    gps_error: float = 5.0
    """Expected error of a GPS position, metres."""


def framed(capture: Capture, frame: Frame, report: Reporter, seed: int = 0) -> tuple[Capture, dict[str, Any]]:
    """An SfM capture rotated upright (up = -y) and scaled, and JSON-able details of both for the report.

    The result defines the source frame, in which exports are written: `world_from_source` is the identity. `seed` is
    that of RANSAC on GPS positions. Raises SplatError for options that make no frame.
    """
    up = torch.tensor(WORLD_UP, dtype=torch.float64)
    rotation = rotation_between(estimate_up(capture), up)
    wanted = parse_up(frame.up)
    if wanted is not None:  # given in the automatically upright frame: the one that the user sees
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
    """`enu_from_world` (metres) and its number of inlier photos, or why there is none ("" where no photo has GPS).

    LO-RANSAC over the photos that have a pose and a GPS position; inliers lie within 2 x `error` metres. Where all
    camera centres lie on one line, only the scale of the result is meaningful.
    """
    import pycolmap

    located = [v for v in capture.views if v.gps is not None and v.world_from_cam is not None]
    if not located:
        return ""
    if len(located) < 3:
        return f"only {len(located)} photos have a position"
    enu = enu_positions(located)
    centres = torch.stack([v.pose.translation.double() for v in located]).numpy()
    spread = float(np.median(np.linalg.norm(enu - np.median(enu, axis=0), axis=1)))
    if spread < 3 * error:
        return f"the photos lie {spread:.0f} m apart, too near for positions that are right to {error:.0f} m"
    singular = np.linalg.svd(centres - centres.mean(0), compute_uv=False)
    if singular[1] < 1e-6 * singular[0]:  # collinear: the rotation about the line is undetermined, the scale is not
        length = float(np.linalg.norm(enu - enu.mean(0)) / singular[0])
        return Similarity(length, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)), len(located)
    options = pycolmap.RANSACOptions()
    options.max_error = 2 * error
    options.random_seed = seed
    found: Any = pycolmap.estimate_sim3d_robust(centres, enu, options)  # its type hint says Sim3d: it is a dictionary
    inliers = 0 if found is None else int(found["num_inliers"])
    if found is None or inliers < max(3, 0.5 * len(located)):
        return f"only {inliers} of {len(located)} positions agree with the photos"
    sim = found["tgt_from_src"]
    rotation, translation = (torch.from_numpy(np.array(a)) for a in (sim.rotation.matrix(), sim.translation))
    return Similarity(float(sim.scale), rotation, translation), inliers


def _as_source(capture: Capture) -> Capture:
    return replace(capture, world_from_source=Similarity.identity())
