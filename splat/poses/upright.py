"""The up direction: estimated from the cameras, or given by the user."""

from __future__ import annotations

import re

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError

WORLD_UP = (0.0, -1.0, 0.0)
"""Up in normalized captures and in SfM results: -y, as in the axes of an upright camera."""

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def parse_up(text: str) -> Float[Tensor, "3"] | None:
    """The unit vector (float64) of "x", "-y", "+z" or "0.1,-0.9,0"; None for "auto". Raises SplatError for others."""
    word = text.strip().lower()
    if word == "auto":
        return None
    if word.lstrip("+-") in _AXES and len(word) <= 2:
        sign = -1.0 if word.startswith("-") else 1.0
        return sign * torch.tensor(_AXES[word[-1]], dtype=torch.float64)
    try:
        values = [float(part) for part in re.split(r"[,\s]+", word.strip("()[] ")) if part]
    except ValueError:
        values = []
    if len(values) != 3 or not 1e-12 < sum(v * v for v in values) < float("inf"):
        raise SplatError(f'--up {text!r} is not a direction: give "auto", "x", "-y", ... or three numbers "0,0,1".')
    return torch.nn.functional.normalize(torch.tensor(values, dtype=torch.float64), dim=0)


def estimate_up(capture: Capture) -> Float[Tensor, "3"]:
    """Up in the capture's frame, a unit vector (float64): perpendicular to the x axes of the cameras.

    Photographers rarely roll the camera, so the x axes are horizontal whatever the pitch, while the mean of the
    cameras' own up axes is biased when most look down. That mean is a weak prior: it gives the sign, and the result
    where the x axes are parallel (forward-facing photos). Reweighted least squares with Cauchy weights, which are
    robust to single rolled photos. Raises SplatError without a posed view.
    """
    rotations = [v.world_from_cam.rotation.double() for v in capture.views if v.world_from_cam is not None]
    if not rotations:
        raise SplatError("up cannot be estimated: no photo has a pose.")
    frames = torch.stack(rotations)
    x, up_of_camera = frames[:, :, 0], -frames[:, :, 1]
    mean = up_of_camera.mean(0)
    if float(mean.norm()) < 1e-6:  # the cameras' up axes cancel out
        mean = up_of_camera[0]
    up = start = torch.nn.functional.normalize(mean, dim=0)
    eye = torch.eye(3, dtype=torch.float64)
    for _ in range(30):
        tilt = x @ up
        weight = 1 / (1 + (tilt / 0.1).square())  # sine of about 6 degrees
        scatter = torch.einsum("n,ni,nj->ij", weight, x, x) / weight.sum()
        new = torch.nn.functional.normalize(torch.linalg.solve(scatter + 0.01 * eye, 0.01 * start), dim=0)
        converged = float((new - up).norm()) < 1e-10
        up = new
        if converged:
            break
    return up


def snapped(up: Float[Tensor, "3"], degrees: float = 8.0) -> Float[Tensor, "3"]:
    """The coordinate axis within `degrees` of `up`, else `up`: the frames of datasets are rarely tilted."""
    axis = int(up.abs().argmax())
    if float(up.abs()[axis]) < torch.cos(torch.deg2rad(torch.tensor(degrees))).item():
        return up
    out = torch.zeros(3, dtype=torch.float64)
    out[axis] = torch.sign(up[axis])
    return out
