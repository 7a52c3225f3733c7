"""Which frame an exported splat is in, written beside it: the files themselves cannot say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity

Frame = Literal["source", "world"]


def to_original_frame(gaussians: Gaussians, capture: Capture) -> Gaussians:
    """Gaussians in the frame of the capture's source (the dataset's or SfM's), harmonics turned along."""
    return gaussians.transformed(capture.world_from_source.inverse())


def sidecar_path(splat_path: Path) -> Path:
    """`scene.ply` -> `scene.frame.json`."""
    return splat_path.with_name(splat_path.name.split(".")[0] + ".frame.json")


def write_sidecar(splat_path: Path, capture: Capture, frame: Frame = "source", **extra: Any) -> Path:
    """Write `sidecar_path(splat_path)`: the frame of the file and the transform to the other frame; returns its path.

    "source": coordinates as the dataset or SfM has them. "world": normalized, as the training saw them.
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


def read_world_from_source(path: Path) -> Similarity:
    """The transform of a sidecar."""
    try:
        value = json.loads(path.read_text())["world_from_source"]
        return _similarity_from_json(value)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise SplatError(f"{path} is not a frame file ({e}): remove it or export the splat again.") from None


def _similarity_json(a_from_b: Similarity) -> dict[str, Any]:
    return {
        "scale": float(a_from_b.scale),
        "rotation": a_from_b.rotation.tolist(),
        "translation": a_from_b.translation.tolist(),
        "matrix": a_from_b.matrix().tolist(),
    }


def _similarity_from_json(value: dict[str, Any]) -> Similarity:
    import torch

    rotation = torch.tensor(value["rotation"], dtype=torch.float64)
    translation = torch.tensor(value["translation"], dtype=torch.float64)
    return Similarity(float(value["scale"]), rotation, translation)
