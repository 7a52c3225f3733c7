"""Files -> Capture. `READERS` is ordered: the first reader that accepts a path reads it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Similarity, needs_local_origin
from splat.core.image import PHOTO_SUFFIXES
from splat.core.slots import Reader, ReadOptions, Reporter, Silent
from splat.ingest.blender import BlenderReader
from splat.ingest.cameras import without_poses
from splat.ingest.colmap import ColmapReader
from splat.ingest.folders import describe_contents, photo_folders
from splat.ingest.llff import LlffReader
from splat.ingest.masks import attach_masks
from splat.ingest.nerfstudio import NerfstudioReader
from splat.ingest.photos import PhotosReader
from splat.ingest.splits import Split, assign_roles
from splat.ingest.validation import check_photos, too_few
from splat.ingest.video import VideoReader

READERS: tuple[Reader, ...] = (
    BlenderReader(),
    NerfstudioReader(),
    ColmapReader(),
    LlffReader(),
    PhotosReader(),
    VideoReader(),
)
"""Datasets with poses first, the more specific formats before the others."""


def reader_for(path: Path, ignore_poses: bool = False) -> Reader:
    """The reader of a path. Raises SplatError where none accepts it."""
    if not path.exists():
        raise SplatError(f"{path} does not exist: check the path of the photos.")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise SplatError(f"{path} may not be read: change its permissions.")
    if ignore_poses and path.is_dir() and photo_folders(path):
        return PhotosReader()  # works even where the pose file is damaged
    for reader in READERS:
        if reader.accepts(path):
            return reader
    if path.is_dir():
        raise SplatError(f"{path} contains {describe_contents(path)}.")
    if path.suffix.lower() in PHOTO_SUFFIXES:
        raise SplatError(f"{path} is a single photo: give the folder of all photos of the scene.")
    raise SplatError(f"{path} is neither a folder of photos, a video, nor a dataset: give one of these.")


def read(path: Path | str, options: ReadOptions | None = None, report: Reporter | None = None) -> Capture:
    """The capture at `path` (a folder of photos, a video or a dataset), with validated photos, masks and a train/test
    split.

    Photos that cannot be used are left out with a warning. Raises SplatError where no reader accepts the path, a file
    is invalid, or fewer than two photos remain.
    """
    path, options, report = Path(path), options or ReadOptions(), report or Silent()
    reader = reader_for(path, options.ignore_poses)
    capture = reader.read(path, options, report)
    root = path if path.is_dir() else path.parent
    if len(capture.views) < 2:
        raise too_few(path, len(capture.views))
    if options.ignore_poses and capture.views[0].world_from_cam is not None:
        capture = without_poses(capture)
    capture = check_photos(capture, report)
    capture = attach_masks(capture, root, options, report)
    capture = assign_roles(capture, Split.load(root), options.test_every, report)
    return _near_origin(capture, report)


def _near_origin(capture: Capture, report: Reporter) -> Capture:
    """The capture shifted to the origin where float32 needs it (`world_from_source` undoes it), with float32 points."""
    centres = capture.camera_centres()
    if len(centres):
        middle = centres.median(0).values
        spread = float((centres - middle).norm(dim=1).median())
        if needs_local_origin(float(middle.norm()), spread):
            offset = ", ".join(f"{v:.0f}" for v in middle.tolist())
            report.info(f"The cameras are far from the origin ({offset}): shifted for training, restored on export.")
            capture = capture.transformed(Similarity(1.0, torch.eye(3, dtype=torch.float64), -middle))
    points = capture.points
    return capture if points is None else replace(capture, points=points.to(torch.float32))
