"""What learned geometry (Depth Anything 3, VGGT, MASt3R and the like) says of photos: the records, and one check of
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.licences import Provenance
from splat.core.slots import Reporter

MAX_REPROJECTION = 0.5
"""px of the photo by which a point may miss its own pixel."""
_MAX_TURN = 1e-3


@dataclass(frozen=True)
class PriorInfo:
    """What a prior is."""

    name: str
    version: str = ""
    licence: str = ""
    """Of its weights; empty: unknown."""
    needs_weights: bool = True
    needs_gpu: bool = False
    max_views: int = 0
    """0: no limit."""


@dataclass(frozen=True, eq=False)
class ViewEstimate:
    """Of one photo, at any size of its aspect ratio."""

    depth: Float[Tensor, "h w"]
    """z."""
    confidence: Float[Tensor, "h w"]
    """In [0, 1]."""
    valid: Bool[Tensor, "h w"]
    """Where depth, and what else there is, counts."""
    intrinsics: Float[Tensor, "3 3"]
    """In pixels of the photo that was given (centres at .5)."""
    cam_from_world: Float[Tensor, "4 4"]
    """OpenCV axes; the world is the estimate's own."""
    photo_size: tuple[int, int]
    """Width and height of the photo that was given, px."""
    sky: Bool[Tensor, "h w"] | None = None
    normals_cam: Float[Tensor, "h w 3"] | None = None
    """Unit normals in camera axes (OpenCV), facing the camera."""
    points: Float[Tensor, "h w 3"] | None = None
    """World position of every pixel."""


@dataclass(frozen=True, eq=False)
class GeometryEstimate:
    """Of all photos of a capture, in its sequence."""

    views: tuple[ViewEstimate, ...]
    scale: Literal["metric", "similarity", "affine"]
    """What depth lacks: nothing; one scale for all photos; a scale and an offset for each."""
    provenance: Provenance


@runtime_checkable
class GeometryPrior(Protocol):
    """A network, or another program, that estimates geometry from photos."""

    @property
    def info(self) -> PriorInfo: ...

    def unavailable(self) -> str | None:
        """Why it cannot run here, with the remedy, in one sentence; None if it can. Cheap."""
        ...

    def estimate(self, capture: Capture, report: Reporter, seed: int = 0) -> GeometryEstimate: ...


def check_estimate(estimate: GeometryEstimate, names: Sequence[str]) -> None:
    """Raises SplatError, naming the photo, for an estimate that cannot be: values that are not finite, a rotation that
    is none, depth that is not in front of the camera, normals without a direction, or points that miss their pixels."""
    by = shown(estimate.provenance.plug_in)[:80]
    if len(estimate.views) != len(names):
        raise SplatError(f"{by} gave {len(estimate.views)} views for {len(names)} photos: give one for each.")
    for view, name in zip(estimate.views, names, strict=True):
        if (problem := _problem(view)) is not None:
            raise SplatError(f"{by} gave an impossible estimate of {shown(name)[:80]}: {problem}.")


def _problem(view: ViewEstimate) -> str | None:
    k, pose = view.intrinsics.double(), view.cam_from_world.double()
    if not bool(k.isfinite().all()) or not bool(pose.isfinite().all()):
        return "intrinsics or pose are not finite"
    if float(k[0, 0]) <= 0 or float(k[1, 1]) <= 0:
        return "a focal length is not above 0"
    rotation = pose[:3, :3]
    off = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if off > _MAX_TURN or float(rotation.det()) < 0:
        return f"its rotation is not one (off by {off:.2g}, determinant {float(rotation.det()):.2g})"
    valid = view.valid
    if not bool(view.depth[valid].isfinite().all()) or not bool((view.depth[valid] > 0).all()):
        return "depth is not finite and above 0 where it is valid"
    confidence = view.confidence
    if not bool(confidence.isfinite().all()) or float(confidence.min()) < 0 or float(confidence.max()) > 1:
        return "confidence is not within 0 and 1"
    if view.normals_cam is not None:
        length = view.normals_cam[valid].norm(dim=1)
        if not bool(((length - 1).abs() < 0.05).all()):
            return "normals are not of length 1 where depth is valid"
    return _missed(view) if view.points is not None else None


def _missed(view: ViewEstimate) -> str | None:
    """Whether points of a view miss their own pixels."""
    assert view.points is not None
    points = view.points[view.valid].double()
    if not bool(points.isfinite().all()):
        return "points are not finite where depth is valid"
    h, w = view.depth.shape
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    own = torch.stack([x * view.photo_size[0] / w, y * view.photo_size[1] / h], 2)[view.valid].double()
    pose, k = view.cam_from_world.double(), view.intrinsics.double()
    in_cam = points @ pose[:3, :3].T + pose[:3, 3]
    seen = in_cam @ k.T
    error = (seen[:, :2] / seen[:, 2:] - own).norm(dim=1)
    if len(error) and not (bool((seen[:, 2] > 0).all()) and float(error.max()) < MAX_REPROJECTION):
        return f"points miss their own pixels by up to {float(error.nan_to_num(torch.inf).max()):.3g} px"
    return None
