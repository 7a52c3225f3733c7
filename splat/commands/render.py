"""`splat render`: pictures and videos of a finished run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from splat.core import licences
from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import FrameEnhancer, PathCamera, RasterSettings, RenderedView
from splat.export.enhance import FrameFilter, ReferencePhotos
from splat.export.renders import write_renders
from splat.export.video import check_flight
from splat.geometry.camera_paths import interpolated_path, orbit_path
from splat.geometry.drawing import draw_view
from splat.priors.video_enhancer import VideoEnhancer
from splat.run.completed import CompletedRun, note_written
from splat.run.console import Console
from splat.stages.drawing import to_draw


@dataclass(frozen=True)
class RenderPath:
    """Draw a finished run along a path, from its own photos' places, or both as a video and as pictures."""

    run: Path
    """The run folder of a finished `splat reconstruct`."""
    out: Path | None = None
    """Where to write (default: RUN/export/renders)."""
    path: Literal["orbit", "path", "train", "test"] = "orbit"
    """orbit: around the scene's focus. path: along the cameras. train, test: where those photos were taken from."""
    frames: int = 240
    """Frames of an orbit or a path."""
    size: int = 1280
    """Long side in px of an orbit or a path."""
    fps: float = 30.0
    """Frames per second of the video."""
    video: bool = True
    """Write an MP4 (for orbit and path)."""
    images: bool = False
    """Write every frame as PNG (always for train and test)."""
    splat: Path | None = None
    """Draw this splat file instead, given in the run's original frame (e.g. after editing or compression)."""
    depth: bool = False
    """Write depth as 16-bit PNG with a coloured preview."""
    fill: bool = False
    """Close holes, which no photo showed, for presentation: in the video and in further pictures, named *_filled. What
    is inside them is made up; `holes/` beside the pictures says where they are."""
    enhance: Literal["none", "filter", "diffusion"] = "none"
    """Enhance frames for presentation: in the video and in further pictures, named *_enhanced, with a JSON file of what
    was changed. filter: steady colours along the flight, and the detail of the nearest training photos, both only where
    they show the same surface. diffusion: ZeroScope v2 XL from the folder SPLAT_WEIGHTS, which makes things up. No
    figure is of enhanced frames."""
    photos: Path | None = None
    """Where the photos of the run are now, if they were moved: `--enhance filter` reads them."""
    license: licences.Policy = "research"
    """Which weights may be loaded. commercial: only those whose licence is known to allow commercial use."""
    raster: Literal["auto", "native", "gsplat", "reference"] = "auto"
    """What draws; auto takes the fastest that works here."""

    def __call__(self) -> int:
        check_flight(self.frames, self.size, self.fps, "--")
        with licences.policy(self.license):
            return self._render(self._video_model())

    def _video_model(self) -> FrameEnhancer | None:
        """The network of `--enhance diffusion`, before anything is drawn: it may be missing."""
        if self.enhance != "diffusion":
            return None
        still = self.path in ("train", "test")
        return VideoEnhancer(chunk=1, overlap=0).start() if still else VideoEnhancer().start()

    def _render(self, video_model: FrameEnhancer | None) -> int:
        run = CompletedRun.open(self.run, self.raster, self.photos)
        names = None
        if self.path in ("orbit", "path"):
            make = orbit_path if self.path == "orbit" else interpolated_path
            cameras = list(make(run.capture, self.frames, self.size).cameras)
        else:
            views = [v for v in run.capture.views if v.role == self.path and v.world_from_cam is not None]
            if not views:
                raise SplatError(f"{self.run} has no {self.path} views with a pose: choose another --path.")
            cameras = [PathCamera(v.camera, v.world_from_cam) for v in views if v.world_from_cam is not None]
            names = [v.name for v in views]
        still = names is not None
        target = self.out or self.run / "export" / "renders"
        rgb = tuple(float(v) for v in run.trained.background)
        with Console() as report:
            gaussians, settings, beyond = to_draw(run, self.splat, report)
            enhancer = video_model
            if self.enhance == "filter":
                lost = [run.lost[v.name] for v in run.capture.train_views if v.name in run.lost]
                if lost:
                    report.warn(f"no detail is taken from {len(lost)} photos: {lost[0]}")
                enhancer = frame_filter(run, gaussians, settings, still, beyond)
            report.begin("render")
            files = write_renders(
                target / self.path,
                gaussians,
                cameras,
                run.raster,
                settings,
                background=(rgb[0], rgb[1], rgb[2]),
                names=names,
                images=self.images or still,
                depth=self.depth,
                video=target / f"{self.path}.mp4" if self.video and not still else None,
                fps=self.fps,
                units_per_world=1 / run.capture.world_from_source.scale,
                fill=self.fill,
                enhance=enhancer,
                beyond=beyond,
                report=report,
            )
        written = [*files.rgb, *files.depth, *files.previews, *files.holes, *files.filled, *files.enhanced]
        written += [files.video] if files.video else []
        written += [path.with_name("depth.json") for path in files.depth[:1]]
        note_written(self.run, "export", written)
        print(f"{files.video or target / self.path}: {len(cameras)} views", file=sys.stderr)
        return 0


def frame_filter(
    run: CompletedRun, gaussians: Gaussians, settings: RasterSettings, still: bool, beyond: Gaussians | None = None
) -> FrameFilter:
    """The filter of a run's frames. Only training photos are references; where `still`, frames are not neighbours in
    time, and a photo is no reference for the picture from its own place."""
    background = run.trained.background.to(gaussians.means)

    def draw(camera: Camera, world_from_cam: Rigid) -> RenderedView:
        render = draw_view(gaussians, camera, world_from_cam, run.raster, settings, background, beyond=beyond)
        return RenderedView.of(render, camera, world_from_cam)

    views = [run.trained.placed(v) for v in run.capture.train_views if v.world_from_cam is not None]
    views = [v for v in views if v.name not in run.lost]
    references = ReferencePhotos(views, draw, skip_own=still) if views else None
    return FrameFilter(references, reach=0) if still else FrameFilter(references)
