"""The capture seen from above: cameras with their viewing directions, shaded by PSNR where it was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.layout import horizon, layout_of
from splat.report.data import ReportData

_MAX_POINTS = 700
_WIDTH, _HEIGHT = 360, 320
"""The map fills one of the two, px."""
_WING = 11.0
"""Length of a camera's triangle, px."""


@dataclass(frozen=True)
class CameraMark:
    """A triangle that opens in the viewing direction."""

    corners: tuple[tuple[float, float], ...]
    """px."""
    title: str
    role: str
    """train or test."""
    shade: float | None
    """Percent of the way from the lowest PSNR of the map to the highest; None where it was not measured."""


@dataclass(frozen=True)
class CameraMap:
    width: float
    """px."""
    height: float
    points: tuple[tuple[float, float], ...]
    """Sparse points inside the map, px."""
    cameras: tuple[CameraMark, ...]
    psnr_range: tuple[float, float] | None
    """Lowest and highest PSNR, dB; None where none was measured."""


def camera_map(data: ReportData) -> CameraMap | None:
    """None without a capture that has a pose."""
    capture = data.capture
    if capture is None or not any(v.world_from_cam is not None for v in capture.views):
        return None
    layout = layout_of(capture)
    east, north = horizon(layout.up)
    posed = [(v, v.world_from_cam) for v in capture.views if v.world_from_cam is not None]
    centres = torch.stack([pose.translation for _, pose in posed]).double()
    flat = torch.stack([centres @ east, -(centres @ north)], 1)
    frame = _frame(flat, torch.stack([layout.focus @ east, -(layout.focus @ north)]))

    def at(p: Tensor) -> tuple[float, float]:
        return frame.scale * (float(p @ east) - frame.left), frame.scale * (-float(p @ north) - frame.top)

    points = []
    if capture.points is not None:
        positions = capture.points.positions.double()
        for p in positions[:: max(1, len(positions) // _MAX_POINTS)]:
            px, py = at(p)
            if 0 < px < frame.width and 0 < py < frame.height:
                points.append((px, py))
    psnr = {v.name: v.psnr for v in data.views if math.isfinite(v.psnr)}
    low, high = (min(psnr.values()), max(psnr.values())) if psnr else (0.0, 1.0)
    cameras = []
    for view, pose in posed:
        px, py = at(pose.translation)
        look = torch.stack([pose.rotation[:, 2].double() @ east, -(pose.rotation[:, 2].double() @ north)])
        along = torch.nn.functional.normalize(look, dim=0) if float(look.norm()) > 0.05 else look
        dx, dy = _WING * float(along[0]), _WING * float(along[1])
        corners = ((px, py), (px + dx - dy / 2, py + dy + dx / 2), (px + dx + dy / 2, py + dy - dx / 2))
        known = psnr.get(view.name)
        shade = None if known is None else 100 * (min(known, high) - low) / max(high - low, 1e-6)
        title = f"{view.name} ({view.role})" + ("" if known is None else f", {known:.1f} dB")
        cameras.append(CameraMark(corners, title, view.role, shade))
    return CameraMap(frame.width, frame.height, tuple(points), tuple(cameras), (low, high) if psnr else None)


@dataclass(frozen=True)
class _Frame:
    """The part of the ground that the map shows."""

    left: float
    """World units, as are `top` and the inverse of `scale`."""
    top: float
    scale: float
    """px per world unit."""
    width: float
    """px."""
    height: float
    """px."""


def _frame(cameras: Float[Tensor, "n 2"], focus: Float[Tensor, "2"]) -> _Frame:
    """Around all cameras, and the focus if it is near."""
    reach = float((cameras - cameras.mean(0)).norm(dim=1).max()) or 1.0
    near = float((focus - cameras.mean(0)).norm()) < 4 * reach
    shown = torch.cat([cameras, focus[None]]) if near else cameras
    low, high = shown.amin(0), shown.amax(0)
    span = max(float((high - low).max()), 1e-9)
    low, high = low - 0.12 * span, high + 0.12 * span
    across, down = (float(v) for v in high - low)
    scale = min(_WIDTH / across, _HEIGHT / down)
    return _Frame(float(low[0]), float(low[1]), scale, scale * across, scale * down)
