"""The ingest stage: files -> Capture at full size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from splat import ingest as readers
from splat.core.capture import Capture
from splat.core.slots import ReadOptions
from splat.run.capture_io import load_capture, save_capture
from splat.run.code import code_hash
from splat.run.folder import fingerprint, hash_of
from splat.stages.context import Context


def ingest(c: Context, photos: Path, options: ReadOptions) -> Capture:
    """What a folder, a video or a dataset holds. `options.workdir` is filled in: the stage's own folder."""
    c.report.begin("ingest")
    key = hash_of("ingest", str(photos.resolve()), _files_of(photos), replace(options, workdir=None))

    def make(folder: Path) -> Capture:
        capture = readers.read(photos, replace(options, workdir=folder), c.report)
        save_capture(folder, capture)
        return capture

    return c.run.stage("ingest", key, options, make, load_capture, code=code_hash("splat.ingest"))


def _files_of(path: Path) -> str:
    """A fingerprint of everything the readers may look at."""
    if path.is_file():
        return fingerprint([path])
    files: Iterable[Path] = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return fingerprint(files)
