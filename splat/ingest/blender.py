"""NeRF-synthetic datasets: `transforms_train.json`, `transforms_test.json` (`transforms_val.json`), RGBA images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import read_json, shown
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.exif import read_info
from splat.ingest.folders import name_in, posix_path
from splat.ingest.left_out import LeftOut, report_missing
from splat.ingest.nerfstudio import find_photos
from splat.ingest.transforms import Json, frames_of, view_of


class BlenderReader:
    """A folder with `transforms_train.json`.

    Test views come from `transforms_test.json`, else from `transforms_val.json`; with a test file the validation views
    are not used, as in published protocols. There are no points.
    """

    name = "blender"

    def accepts(self, path: Path) -> bool:
        return (path / "transforms_train.json").is_file()

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        train = path / "transforms_train.json"
        frames = {train: frames_of(read_json(train), train, report)}
        for file in (path / "transforms_test.json", path / "transforms_val.json"):
            if file.is_file():
                try:
                    frames[file] = frames_of(read_json(file), file, report)
                except SplatError as e:
                    report.warn(f"Held-out photos are not read, others are held out instead: {e}")
        files = {file: [posix_path(f["file_path"]) for f in part] for file, part in frames.items()}
        photos, folder = find_photos(path, [n for names in files.values() for n in names], options)
        found = dict[Path, list[Path | None]]()
        for file, names in files.items():  # all were looked for in the same way
            found[file], photos = photos[: len(names)], photos[len(names) :]
        missing = {file: [n for n, p in zip(files[file], found[file]) if p is None] for file in files}
        report_missing(missing[train], len(files[train]), train, folder, report)
        views = _views(path, train, frames[train], found[train], report)
        known = {v.image_path for v in views}
        for file in [f for f in files if f != train]:
            try:
                report_missing(missing[file], len(files[file]), file, folder, report)
                held_out = _views(path, file, frames[file], found[file], report)
            except SplatError as e:
                report.warn(f"Held-out photos are not read, others are held out instead: {e}")
                continue
            views += [replace(v, role="test") for v in held_out if v.image_path not in known]
            break
        return Capture(tuple(views), source=self.name)


def _views(root: Path, path: Path, frames: list[Json], photos: list[Path | None], report: Reporter) -> list[View]:
    """Views of the frames of one file whose photos were found, all for training."""
    views = list[View]()
    left_out = LeftOut(path, report)
    for frame, photo in zip(frames, photos):
        if photo is None:
            continue
        info = read_info(photo)
        if isinstance(info, str):
            report.warn(f"{shown(photo)} is left out: {info}.")
            continue
        name = name_in(root, photo) if photo.is_relative_to(root) else posix_path(frame["file_path"])
        view = view_of(name, frame, info, path)
        if isinstance(view, str):
            left_out.add(name, view)
        else:
            views.append(view)
    left_out.close(len(views))
    return views
