"""The ingest stage: files -> Capture at full size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from splat import ingest as readers
from splat.core.capture import Capture
from splat.core.slots import ReadOptions
from splat.ingest.object_masks import with_object_masks
from splat.ingest.sources import source_files
from splat.run.capture_io import load_capture, save_capture
from splat.run.code import code_hash
from splat.run.folder import fingerprint, hash_of
from splat.stages.context import Context


def ingest(c: Context, photos: Path, options: ReadOptions) -> Capture:
    """What a folder, a video or a dataset holds. `options.workdir` is filled in: the stage's own folder."""
    c.report.begin("ingest")
    files = fingerprint(source_files(photos, options, c.run.root))
    key = hash_of("ingest", photos.name if photos.is_file() else "", files, replace(options, workdir=None, masks=None))

    def make(folder: Path) -> Capture:
        capture = readers.read(photos, replace(options, workdir=folder), c.report)
        if options.object:
            capture = with_object_masks(capture, folder / "masks", c.report)
        save_capture(folder, capture, photos)
        return capture

    def load(folder: Path) -> Capture:
        return load_capture(folder, photos)

    return c.run.stage("ingest", key, options, make, load, code=code_hash("splat.ingest"))
