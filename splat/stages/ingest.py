"""The ingest stage: files -> Capture at full size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from splat import ingest as readers
from splat.core.capture import Capture
from splat.core.slots import ReadOptions
from splat.ingest.object_masks import with_object_masks
from splat.ingest.sources import source_files
from splat.run.capture_io import capture_files, is_capture, load_capture, save_capture
from splat.run.code import code_hash
from splat.run.fingerprint import fingerprint
from splat.run.folder import hash_of
from splat.stages.context import Context


def ingest(c: Context, photos: Path, options: ReadOptions) -> Capture:
    """What a folder, a video or a dataset holds; or the capture that a run wrote to a folder (`run.capture_io`), as it
    is. `options.workdir` is filled in: the stage's own folder."""
    c.report.begin("ingest")
    written = is_capture(photos)
    files = fingerprint(capture_files(photos) if written else source_files(photos, options, c.run.root))
    key = hash_of("ingest", photos.name if photos.is_file() else "", files, replace(options, workdir=None, masks=None))

    def make(folder: Path) -> Capture:
        if written:
            capture = load_capture(photos, photos)
            save_capture(folder, capture, photos)
            return capture
        capture = readers.read(photos, replace(options, workdir=folder), c.report)
        if options.object:
            capture = with_object_masks(capture, folder / "masks", c.report)
        save_capture(folder, capture, photos)
        return capture

    def load(folder: Path) -> Capture:
        return load_capture(folder, photos)

    return c.run.stage("ingest", key, options, make, load, code=code_hash("splat.ingest"))
