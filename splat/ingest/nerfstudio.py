"""`transforms.json` as nerfstudio and instant-ngp write it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch

from splat.core.capture import Capture, PointCloud, View
from splat.core.errors import SplatError
from splat.core.foreign import read_json
from splat.core.geometry import Similarity
from splat.core.ply import read_ply
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.exif import read_info
from splat.ingest.folders import PhotoIndex, is_photo_name, named_folder, photo_folders, posix_path
from splat.ingest.splits import Split
from splat.ingest.transforms import common_folder, frames_of, report_missing, view_of

_FILE = "transforms.json"


class NerfstudioReader:
    """A folder with `transforms.json`, or a file of that format."""

    name = "nerfstudio"

    def accepts(self, path: Path) -> bool:
        return (path / _FILE).is_file() or (path.is_file() and path.suffix.lower() == ".json")

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        path = path / _FILE if path.is_dir() else path
        data = read_json(path)
        frames = sorted(frames_of(data, path), key=lambda f: posix_path(f["file_path"]))
        files = [posix_path(f["file_path"]) for f in frames]
        photos = find_photos(path.parent, files, options)
        report_missing([f for f, p in zip(files, photos) if p is None], len(files), path, report.warn)
        base = common_folder(files)
        views, no_pose = [], []
        for file, frame, photo in zip(files, frames, photos):
            if photo is None:
                continue
            info = read_info(photo)
            if isinstance(info, str):
                report.warn(f"{photo} is left out: {info}.")
                continue
            name = PurePosixPath(file).relative_to(base).with_suffix(photo.suffix).as_posix()
            view = view_of(name, frame, info, path)
            if view is None:
                no_pose.append(file)
            else:
                views.append(view)
        if no_pose:
            report.warn(f"{len(no_pose)} photos of {path} have no pose: left out (first: {no_pose[0]}).")
        views = _without_repeats(views, path, report)
        capture = Capture(
            tuple(views),
            points=_points(data, path, report),
            world_from_source=_world_from_source(data, path, report),
            source=self.name,
        )
        return _with_roles(capture, data, base)


def find_photos(root: Path, files: list[str], options: ReadOptions) -> list[Path | None]:
    """The photo of each `file_path`, or None.

    In this order: in the folder that --images or `split.json` names, at the path itself, and by name in other photo
    folders (`images_8/` where the file says `images/`). With --images only the first.
    """
    named = options.images or Split.load(root).images
    found: list[Path | None] = [None] * len(files)
    if named:
        index = PhotoIndex(named_folder(root, named))
        found = [index.find(f) for f in files]
        if options.images:
            return found  # an explicit choice: no photos of another size
    found = [p or _literal(root, f) for p, f in zip(found, files)]
    for folder in photo_folders(root) if None in found else []:
        index = PhotoIndex(folder)
        found = [p or index.find(f) for p, f in zip(found, files)]
    return found


def _literal(root: Path, file: str) -> Path | None:
    photo = root / file
    if photo.is_file() and is_photo_name(photo):
        return photo
    # NeRF-synthetic files name photos without their suffix
    return next((p for s in (".png", ".jpg", ".jpeg", ".JPG", ".webp") if (p := Path(f"{photo}{s}")).is_file()), None)


def _without_repeats(views: list[View], path: Path, report: Reporter) -> list[View]:
    first: dict[str, View] = {}
    for view in views:
        first.setdefault(view.name, view)
    if len(first) < len(views):
        report.warn(f"{path} names {len(views) - len(first)} photos more than once: the first entry of each is used.")
    return list(first.values())


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
        good = outer > 0 and deviation < 1e-4
    except (TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError):
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
    if not ply.is_file():
        report.warn(f"{ply}, which {path.name} names, does not exist: training starts without sparse points.")
        return None
    vertex = read_ply(ply).get("vertex")
    names = vertex.dtype.names or () if vertex is not None else ()
    if vertex is None or not {"x", "y", "z"} <= set(names):
        raise SplatError(f"{ply} has no vertices with x, y, z: export it again or remove ply_file_path from {path}.")
    positions = np.stack([vertex[a].astype(np.float64) for a in "xyz"], 1)
    rgb = np.full_like(positions, 0.5)
    channels = next((c for c in (("red", "green", "blue"), ("r", "g", "b")) if set(c) <= set(names)), None)
    if channels:
        peak = 1.0 if vertex.dtype[channels[0]].kind == "f" else float(np.iinfo(vertex.dtype[channels[0]]).max)
        rgb = np.stack([vertex[c].astype(np.float64) / peak for c in channels], 1)
    finite = np.isfinite(positions).all(1) & np.isfinite(rgb).all(1)
    if not finite.any():
        return None
    return PointCloud(torch.from_numpy(positions[finite]), torch.from_numpy(rgb[finite].clip(0, 1)))


def _with_roles(capture: Capture, data: dict[str, Any], base: PurePosixPath) -> Capture:
    """Roles by `train_filenames` and `test_filenames` (or `val_filenames`); views in neither list are left out."""
    lists = {k: data.get(f"{k}_filenames") for k in ("train", "val", "test")}
    given = {k: {posix_path(f) for f in names} for k, names in lists.items() if isinstance(names, list)}
    if not given.get("train"):
        return capture
    held_out = given.get("test") or given.get("val") or set()

    def role(view: View) -> Literal["train", "test"] | None:
        file = (base / view.name).as_posix()
        names = {file, PurePosixPath(file).with_suffix("").as_posix()}
        if names & held_out:
            return "test"
        return "train" if names & given["train"] else None

    roles = [role(v) for v in capture.views]
    views = tuple(replace(v, role=r or "train") for v, r in zip(capture.views, roles))
    return capture.with_views(views).select([r is not None for r in roles])
