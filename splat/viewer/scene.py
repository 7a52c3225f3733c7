"""What a viewer shows: Gaussians and cameras in one frame, and what can be asked about them. The commands fill it in
(`stages.viewing`), so that the viewer itself knows no run folder and no file format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity
from splat.core.slots import PathCamera, Rasterizer, RasterSettings
from splat.viewer.edits import Recipe

MAX_FRAMED = 50_000
"""Gaussians that the extent is judged by."""


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """A photo that can be visited."""

    view: View
    """Posed, in the frame of the scene."""
    psnr: float | None = None
    """dB, where it was measured."""
    exposure: Float[Tensor, "3 4"] | None = None
    """Colour map learned for it."""


@runtime_checkable
class Saver(Protocol):
    """Writes what is made in the viewer, inside one folder and under new names alone."""

    def splat(self, gaussians: Gaussians, recipe: Recipe) -> list[Path]:
        """Write the Gaussians (frame of the scene, already edited) placed as the recipe says, and the recipe."""
        ...

    def video(
        self, gaussians: Gaussians, cameras: Sequence[PathCamera], fps: float, progress: Callable[[int, int], None]
    ) -> list[Path]:
        """Draw Gaussians along a camera path into a video, and write the path beside it."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """One splat, or a training run at one of its steps."""

    name: str
    rasterizer: Rasterizer
    gaussians: Gaussians | None = None
    """On the device of the rasterizer; None before there are any."""
    step: int = 0
    """Of training."""
    cameras: tuple[SceneCamera, ...] = ()
    settings: RasterSettings = field(default_factory=RasterSettings)
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    up: tuple[float, float, float] = (0.0, -1.0, 0.0)
    """Unit vector in the frame of the scene."""
    scene_from_file: Similarity = field(default_factory=Similarity.identity)
    """From the frame of the splat file (for a run: that of the input)."""
    file: str = ""
    """Name of the splat file, for recipes."""
    saver: Saver | None = None
    """None: nothing can be saved yet."""

    def backdrop(self) -> Float[Tensor, "3"]:
        """The background, on the device of the Gaussians."""
        assert self.gaussians is not None
        return self.gaussians.means.new_tensor(self.background)


@dataclass(frozen=True)
class Extent:
    """Where a scene is."""

    centre: tuple[float, float, float]
    radius: float
    """That 80 % of what is opaque lies within."""


def extent(gaussians: Gaussians) -> Extent:
    """Of the Gaussians that count (opacity at least a tenth, if there are any), with few far ones left out."""
    solid = gaussians.opacities >= 0.1
    means = gaussians.means[solid] if bool(solid.any()) else gaussians.means
    means = means[means.isfinite().all(1)].detach().cpu().double()
    means = means[:: max(1, len(means) // MAX_FRAMED)]
    if len(means) == 0:
        return Extent((0.0, 0.0, 0.0), 1.0)
    centre = means.median(0).values
    radius = float(torch.quantile((means - centre).norm(dim=1), 0.8))
    x, y, z = centre.tolist()
    return Extent((x, y, z), radius if radius > 0 else 1.0)


def describe(scene: Scene) -> dict[str, Any]:
    """The `hello` of the protocol."""
    around = None if scene.gaussians is None or len(scene.gaussians) == 0 else extent(scene.gaussians)
    return {
        "type": "hello",
        "name": scene.name,
        "up": list(scene.up),
        "background": list(scene.background),
        "antialiased": scene.settings.mode == "antialiased",
        "units_per_scene": 1 / float(scene.scene_from_file.scale),
        "extent": None if around is None else {"centre": list(around.centre), "radius": around.radius},
        "editable": scene.saver is not None,
        "cameras": [_camera(i, c) for i, c in enumerate(scene.cameras)],
    }


def _camera(index: int, c: SceneCamera) -> dict[str, Any]:
    camera = c.view.camera
    return {
        "id": index,
        "name": c.view.name,
        "role": c.view.role,
        "psnr": None if c.psnr is None else round(c.psnr, 2),
        "width": camera.width,
        "height": camera.height,
        "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy],
        "world_from_cam": c.view.pose.matrix()[:3].tolist(),
    }
