"""What the viewer shows of a finished run, of a splat file and of a training run, and where it saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat import raster as rasterizers
from splat.core import devices
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import shown
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity, needs_local_origin
from splat.core.machine import available_memory_gb
from splat.core.slots import PathCamera, Rasterizer, RasterSettings, Reporter
from splat.export import read_splat, save_splat
from splat.export.header import MIP, MODE, NO_OFFSET, Offset, offset_of, tidy, up_of, with_offset
from splat.export.renders import render_frame
from splat.export.sidecar import drawn_as_said
from splat.export.video import write_video
from splat.geometry.page import ball_within, extent, measured_psnr
from splat.run.completed import CompletedRun
from splat.stages.floaters import SeenPastOf, known_free_space
from splat.viewer.edits import Recipe, placed_from_scene, write_recipe
from splat.viewer.scene import Scene, SceneCamera

EDITS = "edits"
"""Folder of a run for what is saved in the viewer."""


def run_scene(run: CompletedRun) -> Scene:
    """A finished run, in its normalized frame, with the photos that are still there."""
    trained, root = run.trained, run.root
    background = _rgb(trained.background)
    views = [trained.placed(v) for v in run.capture.views if v.world_from_cam is not None]
    views = [v for v in views if v.name not in run.lost]
    figures = measured_psnr(root)
    saver = FileSaver(root / EDITS, "splat", run.raster, run.settings, background)
    return Scene(
        name=root.resolve().name,
        rasterizer=run.raster,
        gaussians=trained.scene.to(run.device),
        surroundings=ball_within(trained.surroundings),
        step=trained.steps,
        cameras=tuple(SceneCamera(v, figures.get(v.name), trained.exposures.get(v.name)) for v in views),
        settings=run.settings,
        background=background,
        scene_from_file=run.capture.world_from_source,
        file="export/splat.ply",
        seen_past=SeenPastOf(run) if known_free_space(run) else None,
        saver=saver,
    )


def live_scene(capture: Capture, settings: RasterSettings, background: tuple[float, float, float], name: str) -> Scene:
    """A run before its first Gaussians. Its pictures are drawn on the CPU, so that a GPU that trains is left alone."""
    views = [v for v in capture.views if v.world_from_cam is not None]
    return Scene(
        name=name,
        rasterizer=rasterizers.choose("cpu"),
        cameras=tuple(SceneCamera(v) for v in views),
        settings=settings,
        background=background,
        scene_from_file=capture.world_from_source,
    )


def file_scene(path: Path, report: Reporter | None = None) -> Scene:
    """A splat file of any format that can be read, centred and scaled such that it is about one in size; `up` as the
    file says, else -y."""
    splat = read_splat(path, report, available_memory_gb())
    around = extent(splat.gaussians)
    centre = torch.tensor(around.centre, dtype=torch.float64)
    scale = 1 / around.radius
    scene_from_file = Similarity(scale, torch.eye(3, dtype=torch.float64), -scale * centre)
    device = devices.named()
    raster = rasterizers.choose(device)
    settings = drawn_as_said(splat, RasterSettings())
    up = up_of(splat.header)
    stem = path.name.split(".")[0] if path.name != "meta.json" else path.resolve().parent.name
    offset = offset_of(splat.header)
    return Scene(
        name=path.name,
        rasterizer=raster,
        gaussians=splat.gaussians.transformed(scene_from_file).to(device),
        settings=settings,
        up=up,
        scene_from_file=scene_from_file,
        file=path.name,
        saver=FileSaver(path.resolve().parent, stem, raster, settings, (0.0, 0.0, 0.0), offset),
    )


@dataclass(frozen=True, eq=False)
class FileSaver:
    """A `viewer.scene.Saver` that writes into one folder, under names that are free."""

    folder: Path
    stem: str
    rasterizer: Rasterizer
    settings: RasterSettings
    background: tuple[float, float, float]
    offset: Offset = NO_OFFSET
    """Local origin of the file that is shown."""

    def splat(self, gaussians: Gaussians, recipe: Recipe) -> list[Path]:
        placed = placed_from_scene(recipe)
        offset = self.offset
        if not any(offset):
            centre, spread = placed.translation, float(placed.scale)
            offset = tidy(centre.tolist(), spread) if needs_local_origin(float(centre.norm()), spread) else NO_OFFSET
            local = Similarity(1.0, torch.eye(3, dtype=torch.float64), -torch.tensor(offset, dtype=torch.float64))
            placed = local @ placed
        header = {MODE: MIP if self.settings.mode == "antialiased" else "default"}
        path = self._free("edited", ".ply", ".edits.json")
        save_splat(path, gaussians.to("cpu").transformed(placed), with_offset(header, offset))
        beside = path.with_suffix(".edits.json")
        write_recipe(beside, recipe)
        return [path, beside]

    def video(
        self, gaussians: Gaussians, cameras: Sequence[PathCamera], fps: float, progress: Callable[[int, int], None]
    ) -> list[Path]:
        def frames() -> Iterator[np.ndarray]:
            for i, c in enumerate(cameras):
                drawn = render_frame(
                    *(gaussians, c.camera, c.world_from_cam, self.rasterizer, self.settings, self.background)
                )
                progress(i + 1, len(cameras))
                yield drawn.rgb

        path = self._free("path", ".mp4", ".path.json")
        write_video(path, frames(), fps)
        camera = cameras[0].camera
        about: dict[str, Any] = {"fps": fps, "width": camera.width, "height": camera.height}
        about |= {"intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy]}
        poses = [c.world_from_cam.matrix()[:3].tolist() for c in cameras]
        beside = path.with_suffix(".path.json")
        write_json(beside, {"frame": "scene", **about, "world_from_cam": poses})
        return [path, beside]

    def _free(self, word: str, *suffixes: str) -> Path:
        """`STEM.WORD-1.ply`, or the next number that no file has."""
        for number in range(1, 100_000):
            names = [self.folder / f"{self.stem}.{word}-{number}{suffix}" for suffix in suffixes]
            if not any(n.exists() or n.is_symlink() for n in names):
                return names[0]
        raise SplatError(f"{shown(self.folder)} has no free name for another {word}: move some away.")


def _rgb(colour: Any) -> tuple[float, float, float]:
    r, g, b = (float(v) for v in colour)
    return r, g, b
