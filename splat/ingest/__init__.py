"""Files -> Capture. `READERS` is ordered: the first reader that accepts a path reads it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.geometry import Similarity, needs_local_origin
from splat.core.image import PHOTO_SUFFIXES
from splat.core.slots import Reader, ReadOptions, Reporter, Silent
from splat.ingest.blender import BlenderReader
from splat.ingest.cameras import without_poses
from splat.ingest.colmap import ColmapReader
from splat.ingest.folders import describe_contents, photo_folders
from splat.ingest.idr import IdrReader
from splat.ingest.llff import LlffReader
from splat.ingest.masks import attach_masks
from splat.ingest.names import safe_names, some_of
from splat.ingest.nerfstudio import NerfstudioReader
from splat.ingest.photos import PhotosReader
from splat.ingest.splits import Split, assign_roles, by_numbers
from splat.ingest.validation import check_photos, too_few
from splat.ingest.video import VideoReader

READERS: tuple[Reader, ...] = (
    BlenderReader(),
    NerfstudioReader(),
    ColmapReader(),
    IdrReader(),
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
    try:
        capture = reader.read(path, options, report)
    except SplatError:
        if not options.ignore_poses or not PhotosReader().accepts(path):
            raise
        capture = PhotosReader().read(path, options, report)  # damaged poses are not what was asked for
    capture = _one_view_per_photo(capture, path, report)
    numbered = bool(options.train_ids or options.test_ids)
    if numbered:  # before damaged photos are left out, which would change the numbers of the others
        capture = by_numbers(capture, options.train_ids, options.test_ids)
    root = path if path.is_dir() else path.parent
    if len(capture.views) < 2:
        raise too_few(path, len(capture.views))
    if options.ignore_poses and capture.views[0].world_from_cam is not None:
        capture = without_poses(capture)
    capture = check_photos(capture, report, options.max_pixels)
    capture = attach_masks(capture, root, options, report)
    if not numbered:
        capture = assign_roles(capture, Split.load(root), options.test_every, report)
    if options.mask_mode == "test":
        capture = capture.with_views(tuple(v if v.role == "test" else _unmasked(v) for v in capture.views))
    return _near_origin(capture, report)


def expected(path: Path, options: ReadOptions) -> Capture:
    """The capture at `path` without its content: of a video how many frames will be taken, and how large; of photos
    what `read` says. Raises SplatError as `read` does."""
    reader = reader_for(path, options.ignore_poses)
    if isinstance(reader, VideoReader):
        return assign_roles(reader.expected(path, options), Split.load(path), options.test_every, Silent())
    return read(path, replace(options, object=False))


def _unmasked(view: View) -> View:
    return replace(view, mask_path=None, invert_mask=False)


def _one_view_per_photo(capture: Capture, path: Path, report: Reporter) -> Capture:
    """The capture with the first view of each photo, and with names that can be shown and written (`safe_names`)."""
    photos = [os.path.normpath(v.image_path) for v in capture.views]
    first = dict[str, int]()
    for i, photo in enumerate(photos):
        first.setdefault(photo, i)
    if len(first) < len(photos):
        repeated = [v.name for i, v in enumerate(capture.views) if first[photos[i]] != i]
        report.warn(
            f"{shown(path)} names {len(repeated)} photos more than once ({some_of(repeated)}): "
            "the first entry of each is used."
        )
        capture = capture.select([first[photo] == i for i, photo in enumerate(photos)])
    names = safe_names([v.name for v in capture.views])
    return capture.with_views(tuple(v if v.name == n else replace(v, name=n) for v, n in zip(capture.views, names)))


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
