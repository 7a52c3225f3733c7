"""Checks of the photos before processing: undecodable, duplicate and blank files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import Reporter
from splat.ingest.exif import open_image

_THUMBNAIL = (24, 24)
_EMPTY_DEVIATION = 2.0
"""Standard deviation (of 255) of the thumbnail below which a photo is blank: a lens cap, an empty page."""
_MAX_WARNINGS = 4


@dataclass(frozen=True, eq=False)
class ImageCheck:
    """The result of decoding an image."""

    problem: str | None = None
    """Why it cannot be decoded; None where it can."""
    fingerprint: bytes = b""
    """Size and thumbnail: equal for duplicates."""
    blank: bool = False


def check_image(path: Path) -> ImageCheck:
    """Decode a whole image file, at reduced resolution where the format allows (JPEG: low frequencies only)."""
    try:
        with open_image(path) as image:
            size, has_alpha = image.size, "A" in image.getbands() or "transparency" in image.info
            image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
            image.load()
            grey = image if image.mode.startswith(("I", "F")) else image.convert("L")
            thumbnail = np.asarray(grey.resize(_THUMBNAIL, Image.Resampling.BOX), dtype=np.float32)
    except SplatError:
        raise
    except Exception as e:  # decoders of broken files raise all kinds
        return ImageCheck(problem=str(e) or type(e).__name__)
    deviation = float(thumbnail.std()) * (1 if thumbnail.max() <= 255 else 255 / float(thumbnail.max()))
    return ImageCheck(None, repr(size).encode() + thumbnail.tobytes(), deviation < _EMPTY_DEVIATION and not has_alpha)


def check_photos(capture: Capture, report: Reporter) -> Capture:
    """The capture without photos that cannot be decoded, are duplicates or are blank, with a warning for each.

    Duplicate and blank photos that have a pose are kept, with a warning. Raises SplatError when fewer than two photos
    remain.
    """
    paths = [v.image_path for v in capture.views]
    checks = list[ImageCheck]()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for check in pool.map(check_image, paths):
            checks.append(check)
            report.progress(len(checks), len(paths))
    keep, first_with = [], dict[bytes, str]()
    with LimitedWarnings(report) as warnings:
        for view, check in zip(capture.views, checks):
            usable = not (check.blank or check.problem)
            original = first_with.setdefault(check.fingerprint, view.name) if usable else view.name
            if check.problem:
                problem = f"it cannot be decoded ({check.problem}); copy it again"
            elif check.blank:
                problem = "it is one flat colour"
            elif original != view.name:
                problem = f"it is the same picture as {original}"
            else:
                keep.append(True)
                continue
            keep.append(view.world_from_cam is not None and not check.problem)
            warnings.warn(f"{view.image_path} {'looks wrong' if keep[-1] else 'is left out'}: {problem}.")
    if sum(keep) < 2:
        where = paths[0].parent if paths else Path(capture.source)
        raise too_few(where, sum(keep), len(keep) - sum(keep))
    return capture if all(keep) else capture.select(keep)


def too_few(where: Path, usable: int, unusable: int = 0) -> SplatError:
    """The error of a capture with fewer than two photos."""
    left_out = f" ({unusable} cannot be used)" if unusable else ""
    count = {0: "no usable photo", 1: "only one usable photo"}.get(usable, f"{usable} usable photos")
    return SplatError(f"{where} has {count}{left_out}: a scene needs at least two that overlap.")


class LimitedWarnings:
    """A context manager that collects warnings of one kind. On exit it reports the first few and counts the others."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._messages: list[str] = []

    def warn(self, message: str) -> None:
        self._messages.append(message)

    def __enter__(self) -> LimitedWarnings:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for message in self._messages[:_MAX_WARNINGS]:
            self._report.warn(message)
        if len(self._messages) > _MAX_WARNINGS:
            self._report.warn(f"The same holds for {len(self._messages) - _MAX_WARNINGS} more files.")
