"""NeRF-synthetic datasets: `transforms_train.json`, `transforms_test.json` (`transforms_val.json`), RGBA images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from splat.core.capture import Capture, View
from splat.core.foreign import read_json
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.exif import read_info
from splat.ingest.folders import name_in, posix_path
from splat.ingest.nerfstudio import find_photos
from splat.ingest.transforms import frames_of, report_missing, view_of


class BlenderReader:
    """A folder with `transforms_train.json`.

    Test views come from `transforms_test.json`, else from `transforms_val.json`; with a test file the validation views
    are not used, as in published protocols. There are no points.
    """

    name = "blender"

    def accepts(self, path: Path) -> bool:
        return (path / "transforms_train.json").is_file()

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        views = _views(path / "transforms_train.json", "train", options, report)
        held_out = next((p for s in ("test", "val") if (p := path / f"transforms_{s}.json").is_file()), None)
        if held_out is not None:
            known = {v.image_path for v in views}
            views += [v for v in _views(held_out, "test", options, report) if v.image_path not in known]
        return Capture(tuple(views), source=self.name)


def _views(path: Path, role: Literal["train", "test"], options: ReadOptions, report: Reporter) -> list[View]:
    frames = frames_of(read_json(path), path)
    files = [posix_path(f["file_path"]) for f in frames]
    photos = find_photos(path.parent, files, options)
    report_missing([f for f, p in zip(files, photos) if p is None], len(files), path, report.warn)
    views = list[View]()
    for frame, photo in zip(frames, photos):
        info = read_info(photo) if photo else "it does not exist"
        if isinstance(info, str):
            if photo:
                report.warn(f"{photo} is left out: {info}.")
            continue
        view = view_of(name_in(path.parent, info.path), frame, info, path)
        if view is None:
            report.warn(f"{info.path} is left out: it has no pose in {path.name}.")
        else:
            views.append(replace(view, role=role))
    return views
