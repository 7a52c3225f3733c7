"""Videos and folders of pictures along a camera path, as deliverables."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import PathCamera, Reporter
from splat.export.deliverable import Deliverable, Scene, TrainedScene
from splat.export.renders import write_renders
from splat.export.video import check_flight
from splat.geometry.camera_paths import CameraPath, interpolated_path, orbit_path

PathName = Literal["orbit", "path", "train", "test"]
_PATHS: dict[str, Callable[[Capture, int, int], CameraPath]] = {"orbit": orbit_path, "path": interpolated_path}


@dataclass(frozen=True)
class PathOptions:
    """Where pictures are taken from."""

    path: PathName = "orbit"
    """orbit: around the scene's focus. path: along the cameras. train, test: where those photos were taken from."""
    frames: int = 240
    """Frames of an orbit or a path."""
    size: int = 1280
    """Long side in px of an orbit or a path."""
    fps: float = 30.0
    """Of a video."""


@dataclass(frozen=True)
class PictureDeliverable(Deliverable):
    """What videos and folders of pictures share."""

    needs_run = True
    holds_gaussians = False
    options: PathOptions = field(default_factory=PathOptions)

    def render(self, folder: Path, video: Path | None, scene: Scene, report: Reporter) -> list[Path]:
        """Draw the path: as `video`, or as pictures into `folder`. Returns the pictures."""
        trained = scene.trained
        assert trained is not None
        cameras, names = _cameras(trained, self.options)
        report.begin("render")
        r, g, b = (float(v) for v in trained.background)
        files = write_renders(
            folder,
            trained.gaussians.to(trained.device),
            cameras,
            trained.raster,
            scene.settings,
            background=(r, g, b),
            names=names,
            images=video is None,
            depth=False,
            video=video,
            fps=self.options.fps,
            holes=False,
            beyond=trained.surroundings,
            report=report,
        )
        return list(files.rgb)


@dataclass(frozen=True)
class Video(PictureDeliverable):
    suffixes = (".mp4", ".webm")
    about = "video (VP9; .webm: VP8) of an orbit or of a flight along the cameras"

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        with tempfile.TemporaryDirectory(prefix="splat-") as empty:
            self.render(Path(empty), path, scene, report)
        return [path]


@dataclass(frozen=True)
class Frames(PictureDeliverable):
    suffixes = ("frames",)
    about = "folder: the same as PNGs"

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        return self.render(path, None, scene, report)


def _cameras(trained: TrainedScene, options: PathOptions) -> tuple[list[PathCamera], list[str] | None]:
    check_flight(options.frames, options.size, options.fps, "--video.")
    if options.path in _PATHS:
        return list(_PATHS[options.path](trained.capture, options.frames, options.size).cameras), None
    views = [v for v in trained.capture.views if v.role == options.path and v.world_from_cam is not None]
    if not views:
        raise SplatError(f"The run has no {options.path} photos with a pose: choose another --video.path.")
    return [PathCamera(v.camera, v.pose) for v in views], [v.name for v in views]
