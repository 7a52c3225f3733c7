"""The coordinate frame of an exported splat, in a JSON file beside it: the splat formats have no field for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from splat.core.capture import Capture
from splat.core.files import write_json
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity, needs_local_origin
from splat.core.slots import RasterSettings, SplatFile
from splat.export.deliverable import Frame
from splat.export.header import MODE, NO_OFFSET, OFFSET, Offset, is_antialiased, offset_of, tidy

_OFFSET_MEANS = "to be added to the coordinates of the splat file (float32) for those of the frame (float64)"


def local_origin(capture: Capture, frame: Frame = "source") -> Offset:
    """The origin, in the source frame, that coordinates of exported files are relative to: zero, except where the
    scene is so far from its own (UTM) that float32 would round them. Splat files have float32 alone."""
    if frame == "world":
        return NO_OFFSET
    return origin_for(capture.world_from_source.inverse())


def origin_for(file_from_world: Similarity) -> Offset:
    """`local_origin` of any frame of output, given by its transform from the world frame, in which the scene is at the
    origin and about one in size."""
    centre, spread = file_from_world.translation, float(file_from_world.scale)
    return tidy(centre.tolist(), spread) if needs_local_origin(float(centre.norm()), spread) else NO_OFFSET


def about(offset: Offset) -> Similarity:
    """Takes coordinates to those relative to `offset`."""
    return _source_from_file(offset).inverse()


def _source_from_file(offset: Offset) -> Similarity:
    return Similarity(1.0, torch.eye(3, dtype=torch.float64), torch.tensor(offset, dtype=torch.float64))


def to_original_frame(gaussians: Gaussians, capture: Capture, offset: Offset = NO_OFFSET) -> Gaussians:
    """Gaussians in the source frame of the capture (that of the dataset or of SfM), with rotated SH; their coordinates
    relative to `offset`."""
    return gaussians.transformed(_source_from_file(offset).inverse() @ capture.world_from_source.inverse())


def from_original_frame(splat: SplatFile, capture: Capture) -> Gaussians:
    """The Gaussians of a file in the source frame, its offset included, in the world frame of the capture."""
    return splat.gaussians.transformed(capture.world_from_source @ _source_from_file(offset_of(splat.header)))


def drawn_as_said(splat: SplatFile, settings: RasterSettings) -> RasterSettings:
    """`settings`, with or without anti-aliasing where the file says which."""
    if MODE not in splat.header:
        return settings
    return replace(settings, mode="antialiased" if is_antialiased(splat.header) else "classic")


def sidecar_path(splat_path: Path) -> Path:
    """`scene.ply` -> `scene.frame.json`."""
    return splat_path.with_name(splat_path.name.split(".")[0] + ".frame.json")


def write_sidecar(
    splat_path: Path,
    capture: Capture,
    frame: Frame = "source",
    offset: Offset | None = None,
    file_from_source: Similarity | None = None,
    **extra: Any,
) -> Path:
    """Write `sidecar_path(splat_path)` with the frame of the splat and the transforms between both frames; return its
    path.

    "source": the coordinates of the dataset or of SfM, relative to the `offset` that the file then has (default:
    `local_origin`). "world": the normalized coordinates of training. "y-up": turned such that +y is up.
    `file_from_source`: from the source frame to that of the file, without its offset, where there is more to it.
    """
    path = sidecar_path(splat_path)
    offset = local_origin(capture, frame) if offset is None else offset
    if file_from_source is not None:
        extra["source_from_file"] = _similarity_json(file_from_source.inverse() @ _source_from_file(offset))
    write_json(
        path,
        {
            "file": splat_path.name,
            "frame": frame,
            "frames": {
                "source": "coordinates of the input: the dataset's poses, or structure from motion",
                "world": "normalized coordinates that training used",
                **({"y-up": "those of the input, turned such that +y is up"} if frame == "y-up" else {}),
            },
            "camera_axes": "+x right, +y down, +z ahead",
            "source": capture.source,
            "world_from_source": _similarity_json(capture.world_from_source),
            "source_from_world": _similarity_json(capture.world_from_source.inverse()),
            **({OFFSET: list(offset), "offset_means": _OFFSET_MEANS} if any(offset) else {}),
            **extra,
        },
    )
    return path


def _similarity_json(a_from_b: Similarity) -> dict[str, Any]:
    return {
        "scale": float(a_from_b.scale),
        "rotation": a_from_b.rotation.tolist(),
        "translation": a_from_b.translation.tolist(),
        "matrix": a_from_b.matrix().tolist(),
    }
