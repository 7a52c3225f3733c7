"""Which files below a path decide what the readers make of it: those whose change makes a capture another one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from splat.core.files import is_run_folder, own_folders
from splat.core.image import PHOTO_SUFFIXES
from splat.core.slots import ReadOptions
from splat.ingest.video import VIDEO_SUFFIXES

_SUFFIXES = PHOTO_SUFFIXES | VIDEO_SUFFIXES | {".ply"}
_DATASET_FILE = re.compile(
    r"transforms.*\.json|split\.json|mesh_info\.json|(cameras|images|points3d|rigs|frames)\.(txt|bin)"
    r"|(train|test|val)\.txt|poses_bounds.*\.npy|cameras.*\.npz",
    re.I,
)


def source_files(path: Path, options: ReadOptions, run_folder: Path | None = None) -> list[tuple[str, Path]]:
    """(name, file) of the photos, masks, videos and dataset files below `path` and of the folder of `options.masks`,
    sorted by name: a path relative to the folder, which a capture keeps when it moves.

    Left out are notes and whatever else no reader opens, hidden files, and runs of this program: `run_folder`, which
    may be `path` itself, and others.
    """
    if not path.is_dir():
        if not _DATASET_FILE.fullmatch(path.name):
            return [(path.name, path)]
        path = path.parent  # a file of poses stands for its folder, whose photos it is about
    files = [(name, file) for name, file in _walk(path, run_folder) if _counts(file)]
    if options.masks is not None:
        masks = next((f for f in (options.masks, path / options.masks) if f.is_dir()), None)
        if masks is not None and not masks.resolve().is_relative_to(path.resolve()):
            files += [(f"--masks/{name}", file) for name, file in _walk(masks, run_folder) if _counts(file)]
    return sorted(files, key=lambda f: os.fsencode(f[0]))


def _counts(file: Path) -> bool:
    suffix = file.suffix.lower()
    # point clouds that a transforms.json names lie beside it; their names are free
    return (
        suffix in PHOTO_SUFFIXES or suffix in VIDEO_SUFFIXES or suffix == ".ply" or bool(_DATASET_FILE.match(file.name))
    )


def _walk(root: Path, run_folder: Path | None) -> Iterator[tuple[str, Path]]:
    own = None if run_folder is None else run_folder.resolve()
    visited = set[tuple[int, int]]()
    for folder, below, files in os.walk(root, followlinks=True):
        here = Path(folder)
        found = here.stat()
        if (found.st_dev, found.st_ino) in visited:  # a link that leads back
            below.clear()
            continue
        visited.add((found.st_dev, found.st_ino))
        if is_run_folder(here) or here.resolve() == own:
            if here != root:
                below.clear()
                continue
            written = own_folders(below)
            below[:] = [d for d in below if d not in written]
            files = [f for f in files if not f.endswith(".ply")]
        below[:] = [d for d in below if not d.startswith(".")]
        for name in files:
            file = here / name
            if not name.startswith(".") and file.is_file():
                yield file.relative_to(root).as_posix(), file
