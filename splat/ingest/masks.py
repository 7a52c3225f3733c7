"""Masks: found by name, validated, and assigned to the views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.folders import MaskIndex, image_size
from splat.ingest.validation import LimitedWarnings, check_image


def attach_masks(capture: Capture, root: Path, options: ReadOptions, report: Reporter) -> Capture:
    """The capture with `mask_path` set on the views that have a mask.

    In this order: --masks, the path that the dataset gives, `masks/` beside the photos, `<photo>.png` or
    `<name>.mask.png` next to the photo. A mask whose aspect ratio is not that of its photo is left out with a warning.
    Raises SplatError where --masks is no folder.
    """
    folder = _default_folder(capture, root)
    if options.masks is not None:
        folder = next((f for f in (options.masks, root / options.masks) if f.is_dir()), None)
        if folder is None:
            raise SplatError(f"{options.masks} is not a folder of masks: correct --masks.")
    index = MaskIndex.of(folder) if folder else None
    beside: dict[Path, MaskIndex] = {}

    def find(view: View) -> Path | None:
        if options.masks is None and view.mask_path is not None:
            return view.mask_path
        if index is not None:
            return index.find(view.name)
        parent = view.image_path.parent
        if parent not in beside:
            beside[parent] = MaskIndex.of(parent, below=False)
        return beside[parent].find(view.image_path.name, marked=True)

    found = [find(v) for v in capture.views]
    if index is not None and not any(found):
        report.warn(f"{folder} matches no photo: name each mask as its photo, for example {capture.views[0].name}.png.")
    with LimitedWarnings(report) as warnings:
        usable = [_usable(mask, view, warnings) for mask, view in zip(found, capture.views)]
    count = sum(m is not None for m in usable)
    if count:
        report.info(f"Masks for {count} of {len(usable)} photos ({options.mask_mode}).")
    views = [
        replace(v, mask_path=m, invert_mask=options.invert_masks, mask_mode=options.mask_mode)
        if m or v.mask_path
        else v
        for v, m in zip(capture.views, usable)
    ]
    return capture.with_views(tuple(views))


def _default_folder(capture: Capture, root: Path) -> Path | None:
    parent = capture.views[0].image_path.parent
    scaled = parent.name.removeprefix("images")  # masks_4 belong to images_4
    candidates = [d / f"masks{s}" for s in dict.fromkeys([scaled, ""]) for d in (root, parent, parent.parent)]
    return next((c for c in candidates if c.is_dir()), None)


def _usable(mask: Path | None, view: View, report: LimitedWarnings) -> Path | None:
    if mask is None:
        return None
    if not mask.is_file():
        report.warn(f"{mask} does not exist: {view.name} is used without a mask.")
        return None
    problem = check_image(mask).problem
    size = image_size(mask)
    if problem or size is None:
        report.warn(f"{mask} cannot be decoded ({problem}): {view.name} is used without a mask.")
        return None
    # Another size is resized later; another aspect ratio means another picture, or a mask of the unrotated photo.
    stretch = (size[0] / size[1]) / (view.photo_size[0] / view.photo_size[1])
    if not 0.97 < stretch < 1.03:
        w, h = view.photo_size
        report.warn(
            f"{mask} is {size[0]}x{size[1]} where its photo is {w}x{h}: {view.name} is used without a mask; "
            "make the mask from the upright photo."
        )
        return None
    return mask
