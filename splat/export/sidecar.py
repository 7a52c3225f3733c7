"""The coordinate frame of an exported splat, in a JSON file beside it: the splat formats have no field for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from splat.core.capture import Capture
from splat.core.files import write_json
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity

Frame = Literal["source", "world"]


def to_original_frame(gaussians: Gaussians, capture: Capture) -> Gaussians:
    """Gaussians in the source frame of the capture (that of the dataset or of SfM), with rotated SH."""
    return gaussians.transformed(capture.world_from_source.inverse())


def sidecar_path(splat_path: Path) -> Path:
    """`scene.ply` -> `scene.frame.json`."""
    return splat_path.with_name(splat_path.name.split(".")[0] + ".frame.json")


def write_sidecar(splat_path: Path, capture: Capture, frame: Frame = "source", **extra: Any) -> Path:
    """Write `sidecar_path(splat_path)` with the frame of the splat and the transforms between both frames; return its
    path.

    "source": the coordinates of the dataset or of SfM. "world": the normalized coordinates of training.
    """
    path = sidecar_path(splat_path)
    write_json(
        path,
        {
            "file": splat_path.name,
            "frame": frame,
            "frames": {
                "source": "coordinates of the input: the dataset's poses, or structure from motion",
                "world": "normalized coordinates that training used",
            },
            "camera_axes": "+x right, +y down, +z ahead",
            "source": capture.source,
            "world_from_source": _similarity_json(capture.world_from_source),
            "source_from_world": _similarity_json(capture.world_from_source.inverse()),
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
