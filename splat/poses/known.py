"""Poses that the dataset gives, used as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import PoseResult, Reporter


@dataclass(frozen=True)
class Known:
    """Uses the dataset's own poses."""

    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult:
        """Raises SplatError when no view has a pose."""
        keep = [v.world_from_cam is not None for v in capture.views]
        if not any(keep):
            raise SplatError(
                "the dataset gives no camera poses: leave --poses at auto, or use --poses sfm, to find them."
            )
        dropped = {v.name: "the dataset gives no pose for it" for v, k in zip(capture.views, keep) if not k}
        return PoseResult(capture=capture.select(keep), dropped=dropped, total=len(capture.views))
