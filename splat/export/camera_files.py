"""Cameras as deliverables: a COLMAP model in a folder, and nerfstudio's `transforms.json`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Similarity
from splat.core.slots import Reporter
from splat.export.colmap_model import write_colmap_model
from splat.export.deliverable import Deliverable, Scene
from splat.export.transforms_json import write_transforms


@dataclass(frozen=True)
class ColmapFolder(Deliverable):
    suffixes = ("colmap",)
    about = "folder: COLMAP model of the photos' cameras and sparse points, binary"
    needs_run = True
    holds_gaussians = False
    text = False

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        write_colmap_model(path, capture_in_frame(scene), report, self.text)
        return sorted(path.glob("*.txt" if self.text else "*.bin"))


@dataclass(frozen=True)
class ColmapTextFolder(ColmapFolder):
    suffixes = ("colmap-txt",)
    about = "folder: the same as text files"
    text = True


@dataclass(frozen=True)
class TransformsFile(Deliverable):
    suffixes = ("transforms.json",)
    about = "the photos' cameras for nerfstudio; their sparse points beside it"
    needs_run = True
    holds_gaussians = False

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        write_transforms(path, capture_in_frame(scene), report)
        points = path.with_name(f"{path.stem}_points.ply")
        return [path, *([points] if points.exists() else [])]


def capture_in_frame(scene: Scene) -> Capture:
    """The capture whose source frame is that of the output."""
    if scene.trained is None:
        raise SplatError("Cameras are those of a run: give its folder.")
    capture, file_from_world = scene.trained.capture, scene.trained.file_from_world
    undo = file_from_world.inverse()
    if _same(undo, capture.world_from_source):
        return capture  # to the last bit
    return replace(capture, world_from_source=undo)


def _same(a: Similarity, b: Similarity) -> bool:
    return bool(torch.allclose(a.matrix(), b.matrix(), rtol=1e-12, atol=1e-12))
