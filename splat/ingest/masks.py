"""Masks: found by name, validated, and assigned to the views."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.image import mask_share
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.folders import MaskIndex, image_size, normal
from splat.ingest.names import some_of
from splat.ingest.validation import LimitedWarnings, check_image


def attach_masks(capture: Capture, root: Path, options: ReadOptions, report: Reporter) -> Capture:
    """The capture with `mask_path` set on the views that have a mask.

    In this order: --masks, the path that the dataset gives, `masks/` beside the photos of all cameras, `masks/` in the
    folder of the photo's camera, `<photo>.png` or `<name>.mask.png` next to the photo. A mask whose aspect ratio is not
    that of its photo is left out with a warning.
    Raises SplatError where --masks is no folder.
    """
    folder = _default_folder(capture, root)
    inside: dict[Path, MaskIndex | None] = {}  # left/masks, right/masks
    if options.masks is not None:
        folder = next((f for f in (options.masks, root / options.masks) if f.is_dir()), None)
        if folder is None:
            raise SplatError(f"{shown(options.masks)} is not a folder of masks: correct --masks.")
    index = MaskIndex.of(folder) if folder else None
    beside: dict[Path, MaskIndex] = {}
    files = Counter(normal(PurePosixPath(v.name).name) for v in capture.views)

    def find(view: View) -> Path | None:
        if options.masks is None and view.mask_path is not None:
            return view.mask_path
        if index is not None:
            return index.find(view.name, alone=files[normal(PurePosixPath(view.name).name)] == 1)
        parent = view.image_path.parent
        if parent not in inside:
            inside[parent] = MaskIndex.of(parent / "masks") if (parent / "masks").is_dir() else None
        if (own := inside[parent]) is not None and (mask := own.find(view.image_path.name)) is not None:
            return mask
        if parent not in beside:
            beside[parent] = MaskIndex.of(parent, below=False)
        return beside[parent].find(view.image_path.name, marked=True)

    found = [find(v) for v in capture.views]
    if index is not None and not any(found):
        report.warn(
            f"{shown(folder)} matches no photo: name each mask as its photo, "
            f"for example {shown(capture.views[0].name)}.png."
        )
    with LimitedWarnings(report) as warnings:
        usable = [_usable(mask, view, warnings) for mask, view in zip(found, capture.views)]
    empty = _judge(usable, capture, options.invert_masks, report)
    count = sum(m is not None for m in usable)
    if count:
        report.info(f"Masks for {count} of {len(usable)} photos ({options.mask_mode}).")
    mode: Literal["ignore", "empty"] = "empty" if options.mask_mode == "empty" else "ignore"
    views = [
        replace(v, mask_path=m, invert_mask=options.invert_masks, mask_mode=mode) if m or v.mask_path else v
        for v, m in zip(capture.views, usable)
    ]
    capture = capture.with_views(tuple(views))
    return capture.select([not e for e in empty]) if any(empty) else capture


def _judge(masks: list[Path | None], capture: Capture, invert: bool, report: Reporter) -> list[bool]:
    """Which photos are masked wholly, with a warning that names them. Raises SplatError where all are."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        shares = list(pool.map(lambda m: None if m is None else mask_share(m, invert), masks))
    labels = [m.name for m, s in zip(masks, shares) if m is not None and s is not None and s[1]]
    if labels:
        report.info(f"{len(labels)} masks hold labels ({shown(labels[0])}, ...): every label but 0 is used.")
    empty = [s is not None and s[0] == 0 for s in shares]
    names = [v.name for v, e in zip(capture.views, empty) if e]
    if len(names) > len(empty) - 2 and names:
        other = "" if invert else " (--invert-masks, if black is what to use)"
        where = next(m for m in masks if m is not None).parent
        raise SplatError(f"The masks in {shown(where)} leave no pixel of {len(names)} photos: white is used{other}.")
    if names:
        report.warn(f"{len(names)} photos are masked wholly and left out: {some_of(names)}.")
    return empty


def _default_folder(capture: Capture, root: Path) -> Path | None:
    parents = {v.image_path.parent for v in capture.views}

    def common(d: Path) -> bool:  # masks in one camera's folder are not those of the others
        return d == root or d not in parents or all(p.is_relative_to(d) for p in parents)

    parent = capture.views[0].image_path.parent
    scaled = parent.name.removeprefix("images")  # masks_4 belong to images_4
    candidates = [d / f"masks{s}" for s in dict.fromkeys([scaled, ""]) for d in (root, parent, parent.parent)]
    return next((c for c in candidates if common(c.parent) and c.is_dir()), None)


def _usable(mask: Path | None, view: View, report: LimitedWarnings) -> Path | None:
    if mask is None:
        return None
    if not mask.is_file():
        report.warn(f"{shown(mask)} does not exist: {shown(view.name)} is used without a mask.")
        return None
    problem = check_image(mask).problem
    size = image_size(mask)
    if problem or size is None:
        report.warn(f"{shown(mask)} cannot be decoded ({problem}): {shown(view.name)} is used without a mask.")
        return None
    # Another size is resized later; another aspect ratio means another picture, or a mask of the unrotated photo.
    stretch = (size[0] / size[1]) / (view.photo_size[0] / view.photo_size[1])
    if not 0.97 < stretch < 1.03:
        w, h = view.photo_size
        report.warn(
            f"{shown(mask)} is {size[0]}x{size[1]} where its photo is {w}x{h}: {shown(view.name)} is used without a "
            "mask; make the mask from the upright photo."
        )
        return None
    return mask
