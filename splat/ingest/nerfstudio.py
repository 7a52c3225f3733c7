"""`transforms.json` as nerfstudio and instant-ngp write it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch

from splat.core.capture import Capture, PointCloud
from splat.core.errors import SplatError
from splat.core.foreign import read_json, shown
from splat.core.geometry import Similarity
from splat.core.ply import read_ply
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.cameras import MAX_COORDINATE
from splat.ingest.exif import read_info
from splat.ingest.folders import is_photo_name, named_folder, photo_folders, posix_path
from splat.ingest.left_out import LeftOut, report_missing
from splat.ingest.names import find_in_folder, is_file, match_names, some_of
from splat.ingest.splits import Split
from splat.ingest.transforms import common_folder, frames_of, view_of

_FILE = "transforms.json"


class NerfstudioReader:
    """A folder with `transforms.json`, or a file of that format."""

    name = "nerfstudio"

    def accepts(self, path: Path) -> bool:
        return (path / _FILE).is_file() or (path.is_file() and path.suffix.lower() == ".json")

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        path = path / _FILE if path.is_dir() else path
        data = read_json(path)
        frames = sorted(frames_of(data, path, report), key=lambda f: posix_path(f["file_path"]))
        files = [posix_path(f["file_path"]) for f in frames]
        photos, folder = find_photos(path.parent, files, options)
        missing = [f for f, p in zip(files, photos) if p is None]
        report_missing(missing, len(files), path, folder, report)
        base = common_folder(files)
        views = []
        left_out = LeftOut(path, report)
        for file, frame, photo in zip(files, frames, photos):
            if photo is None:
                continue
            info = read_info(photo)
            if isinstance(info, str):
                report.warn(f"{shown(photo)} is left out: {info}.")
                continue
            inside = PurePosixPath(file)
            inside = inside.relative_to(base) if inside.is_relative_to(base) else inside
            name = (inside.parent / photo.name).as_posix()
            view = view_of(name, frame, info, path)
            if isinstance(view, str):
                left_out.add(name, view)
            else:
                views.append(view)
        left_out.close(len(views))
        capture = Capture(
            tuple(views),
            points=_points(data, path, report),
            world_from_source=_world_from_source(data, path, report),
            source=self.name,
        )
        return _with_roles(capture, data, base, path, report)


def find_photos(root: Path, files: list[str], options: ReadOptions) -> tuple[list[Path | None], Path]:
    """The photo of each `file_path`, or None, and the folder that was searched.

    All are found in the same way: in the folder that --images or `split.json` names; else at the paths themselves,
    where at least half of them exist; else by name in the photo folder that has most of them (`images_8/` where the
    file says `images/`).
    """
    named = options.images or Split.load(root).images
    if named:
        folder = named_folder(root, named)
        found = find_in_folder(folder, files)
        if options.images or any(found):
            return found, folder
    found, folder = [_literal(root, f) for f in files], _shown_folder(root, files)
    count = len(files) - found.count(None)
    if 2 * count < len(files):
        for other in [*photo_folders(root), root]:
            elsewhere = find_in_folder(other, files)
            if len(files) - elsewhere.count(None) > count:
                found, folder, count = elsewhere, other, len(files) - elsewhere.count(None)
    return found, folder


def _shown_folder(root: Path, files: list[str]) -> Path:
    base = common_folder(files)
    return root if base.is_absolute() or ".." in base.parts else root / base


def _literal(root: Path, file: str) -> Path | None:
    photo = root / file
    if is_photo_name(photo) and is_file(photo):
        return photo
    # NeRF-synthetic files name photos without their suffix
    return next((p for s in (".png", ".jpg", ".jpeg", ".JPG", ".webp") if is_file(p := Path(f"{photo}{s}"))), None)


def _world_from_source(data: dict[str, Any], path: Path, report: Reporter) -> Similarity:
    """The transform from COLMAP's frame (the source) to the file's (world): `applied_transform`, `applied_scale`."""
    if "applied_transform" not in data and "applied_scale" not in data:
        return Similarity.identity()
    try:
        m = torch.tensor(data.get("applied_transform", np.eye(4)[:3].tolist()), dtype=torch.float64)[:3]
        outer = float(data.get("applied_scale", 1.0))
        scale = float(torch.linalg.det(m[:, :3])) ** (1 / 3)
        rotation = m[:, :3] / scale
        deviation = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
        good = 1e-9 < outer < 1e9 and 1e-9 < scale < 1e9 and bool(m.isfinite().all()) and deviation < 1e-4
    except (TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError, OverflowError):
        good = False
    if not good:
        report.warn(f'"applied_transform" of {path} is not a similarity: exports will be in the frame of this file.')
        return Similarity.identity()
    return Similarity(outer * scale, rotation.contiguous(), outer * m[:, 3])


def _points(data: dict[str, Any], path: Path, report: Reporter) -> PointCloud | None:
    """Points of `ply_file_path` in the frame of the file, float64; None where there are none."""
    if not isinstance(data.get("ply_file_path"), str):
        return None
    ply = path.parent / posix_path(data["ply_file_path"])
    if not is_file(ply):
        report.warn(f"{shown(ply)}, which {path.name} names, does not exist: training starts without sparse points.")
        return None
    vertex = read_ply(ply).get("vertex")
    names = set[str]()
    if vertex is not None:
        names = {n for n in vertex.dtype.names or () if vertex.dtype[n].kind in "fiu"}  # no lists
    if vertex is None or not {"x", "y", "z"} <= names:
        raise SplatError(
            f"{shown(ply)} has no vertices with x, y, z: export it again or remove ply_file_path from {path}."
        )
    positions = np.stack([vertex[a].astype(np.float64) for a in "xyz"], 1)
    rgb = np.full_like(positions, 0.5)
    channels = next((c for c in (("red", "green", "blue"), ("r", "g", "b")) if set(c) <= names), None)
    if channels:
        peak = 1.0 if vertex.dtype[channels[0]].kind == "f" else float(np.iinfo(vertex.dtype[channels[0]]).max)
        rgb = np.stack([vertex[c].astype(np.float64) / peak for c in channels], 1)
    finite = (np.abs(positions) < MAX_COORDINATE).all(1) & np.isfinite(rgb).all(1)
    if not finite.any():
        return None
    return PointCloud(torch.from_numpy(positions[finite]), torch.from_numpy(rgb[finite].clip(0, 1)))


def _with_roles(capture: Capture, data: dict[str, Any], base: PurePosixPath, path: Path, report: Reporter) -> Capture:
    """Roles by `train_filenames` and `test_filenames` (or `val_filenames`); views in no list are left out. Lists in
    which no photo is found are ignored with a warning."""
    lists = {k: data.get(f"{k}_filenames") for k in ("train", "val", "test")}
    given = {k: [f for f in names if isinstance(f, str)] for k, names in lists.items() if isinstance(names, list)}
    if not given.get("train"):
        return capture
    files = [(base / v.name).as_posix() for v in capture.views]
    found = dict(zip(names := [n for k in given for n in given[k]], match_names(names, files)))
    ids = {k: {i for n in given[k] if (i := found[n]) is not None} for k in given}
    for k in given:
        if given[k] and not ids[k]:
            report.warn(
                f'None of the photos in "{k}_filenames" of {shown(path)} is there ({some_of(given[k])}): ignored.'
            )
    held_out = ids.get("test") or ids.get("val") or set()
    train = ids["train"] or (set(range(len(files))) - held_out if held_out else set())
    if not train:
        return capture
    roles: list[Literal["train", "test"] | None] = [
        "test" if i in held_out else "train" if i in train else None for i in range(len(files))
    ]
    views = tuple(replace(v, role=r or "train") for v, r in zip(capture.views, roles))
    return capture.with_views(views).select([r is not None for r in roles])
