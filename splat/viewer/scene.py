"""What a viewer shows: Gaussians and cameras in one frame, and what can be asked about them. The commands fill it in
(`stages.viewing`), so that the viewer itself knows no run folder and no file format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity
from splat.core.slots import PathCamera, Rasterizer, RasterSettings
from splat.geometry import page
from splat.viewer.edits import Recipe, SeenPast


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
    surroundings: page.Extent | None = None
    """The ball that the last Gaussians, the surroundings, are around; they are not shown from outside. None: there are
    none."""
    file: str = ""
    """Name of the splat file, for recipes."""
    seen_past: SeenPast | None = None
    """What the photos know of floaters; takes its time when it is first called. None: there are no photos to ask."""
    saver: Saver | None = None
    """None: nothing can be saved yet."""

    def backdrop(self) -> Float[Tensor, "3"]:
        """The background, on the device of the Gaussians."""
        assert self.gaussians is not None
        return self.gaussians.means.new_tensor(self.background)


def describe(scene: Scene) -> dict[str, Any]:
    """The `hello` of the protocol."""
    around = None if scene.gaussians is None or len(scene.gaussians) == 0 else page.extent(scene.gaussians)
    return {
        **page.hello(
            scene.name,
            scene.up,
            scene.background,
            scene.settings.mode == "antialiased",
            1 / float(scene.scene_from_file.scale),
            around,
            scene.surroundings,
        ),
        "editable": scene.saver is not None,
        "floaters": scene.seen_past is not None,
        "cameras": [page.camera(i, c.view, c.psnr) for i, c in enumerate(scene.cameras)],
    }
