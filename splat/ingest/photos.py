"""A folder of photos without poses."""

from __future__ import annotations

from pathlib import Path

from splat.core.capture import Capture, View
from splat.core.foreign import shown
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.cameras import camera_of_photo, group_of_photo
from splat.ingest.exif import PhotoInfo, read_info
from splat.ingest.folders import list_photos, name_in, named_folder, photo_folders, photos_among
from splat.ingest.passed_over import report_passed_over
from splat.ingest.splits import Split
from splat.ingest.validation import LimitedWarnings


class PhotosReader:
    """JPEG, PNG, WebP, TIFF, AVIF, ... files (HEIC with its extra) in a folder, in its `images/`, or in sub-folders."""

    name = "photos"

    def accepts(self, path: Path) -> bool:
        return path.is_dir() and bool(list_photos(path) or photo_folders(path))

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        folder = photo_folder(path, options)
        photos = list_photos(folder)
        report_passed_over(path, folder, photos, report)
        infos = headers(photos, report)
        views = []
        for info in infos:
            camera, focal_from = camera_of_photo(info)
            view = View(
                name=name_in(folder, info.path),
                image_path=info.path,
                photo_size=info.size,
                camera=camera,
                camera_group=group_of_photo(info),
                focal_from=focal_from,
                gps=info.gps,
            )
            views.append(view)
        return Capture(tuple(views), source=self.name)


def photo_folder(root: Path, options: ReadOptions) -> Path:
    """The folder that --images names, else `split.json`, else `images/` or another usual name, else `root`."""
    named = options.images or Split.load(root).images
    if named:
        return named_folder(root, named)
    # photos may also lie beside an `images/` folder (previews, scans of notes): the fuller folder is the capture; those
    # below other folders (images_2, input beside images) are copies of the same photos
    usual = photo_folders(root)[:1]
    direct = len(photos_among(p for p in root.iterdir() if p.is_file()))
    return usual[0] if usual and len(list_photos(usual[0])) >= direct else root


def headers(photos: list[Path], report: Reporter) -> list[PhotoInfo]:
    """Headers of the files that are photos, with a warning for each that is not."""
    infos = []
    with LimitedWarnings(report) as warnings:
        for photo in photos:
            info = read_info(photo)
            if isinstance(info, str):
                warnings.warn(f"{shown(photo)} is left out: {info}.")
            else:
                infos.append(info)
    return infos
