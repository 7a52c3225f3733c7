"""The splat formats as deliverables: Gaussians in a file, with the frame in a JSON beside it where a run knows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from splat.core.capture import Capture
from splat.core.slots import Codec, Reporter
from splat.export.deliverable import Deliverable, Scene
from splat.export.header import notes_path
from splat.export.sidecar import write_sidecar


@dataclass(frozen=True)
class SplatDeliverable(Deliverable):
    """The Gaussians of a scene in the format of a codec."""

    codec: Codec

    @property
    def suffixes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.codec.suffixes

    @property
    def about(self) -> str:  # type: ignore[override]
        return self.codec.about

    def codec_of(self, scene: Scene) -> Codec:
        """The codec, told what it needs to know of the scene besides its header."""
        return self.codec

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        self.codec_of(scene).save(path, scene.gaussians, scene.header, report)
        files = [path, notes_path(path)]
        if scene.trained is not None:
            files.append(self.sidecar(path, scene, scene.trained.capture))
        return [f for f in files if f.exists()]

    def sidecar(self, path: Path, scene: Scene, capture: Capture) -> Path:
        """Write the frame of the file beside it."""
        return write_sidecar(path, capture, scene.frame, scene.offset, scene.file_from_source)
