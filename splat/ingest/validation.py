"""Checks of the photos before processing: undecodable, duplicate and blank files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.image import deep_tiff
from splat.core.machine import threads_that_fit
from splat.core.pixels import cv2_values, deep_values, is_deep, level_of, loses_bits, white_of
from splat.core.slots import Reporter
from splat.ingest.exif import open_image

_THUMBNAIL = (24, 24)
_EMPTY_DEVIATION = 2.0
"""Standard deviation (of 255) of the thumbnail below which a photo is blank: a lens cap, an empty page."""
_MAX_WARNINGS = 4
MAX_PIXELS = 500_000_000
"""Of one photo: the largest panoramas that people stitch."""
_SMALL_PIXELS = 20_000_000
"""Photos up to this size are read whatever their files hold."""
_PIXELS_PER_BYTE = 100
"""JPEG of one flat colour reaches 130; photographs stay below 30."""
_PIXELS_AT_ONCE = 120_000_000
"""Of the photos that are decoded at the same time; a pixel takes about 4 bytes."""


@dataclass(frozen=True, eq=False)
class ImageCheck:
    """The result of decoding an image."""

    problem: str | None = None
    """Why it cannot be decoded; None where it can."""
    fingerprint: bytes = b""
    """Size and thumbnail: equal for duplicates."""
    blank: bool = False
    transparent: bool = False
    """No pixel is visible at all."""
    deviation: float = 0.0
    """Standard deviation of the thumbnail, in the values of the file."""
    deep: Literal["", "16 bits", "32 bits", "floats"] = ""
    """What the values of a photo with more than 8 bits are."""
    level: float = 0.0
    """The largest of them."""


def too_large(path: Path, size: tuple[int, int], max_pixels: int | None) -> str | None:
    """Why a photo of this size is not decoded: more pixels than `max_pixels`, or by default than photos have and the
    size of the file explains (a few hundred bytes can claim gigabytes)."""
    pixels = size[0] * size[1]
    explained = max(_SMALL_PIXELS, _PIXELS_PER_BYTE * path.stat().st_size)
    if pixels <= (min(MAX_PIXELS, explained) if max_pixels is None else max_pixels):
        return None
    return f"it has {size[0]}x{size[1]} pixels in {path.stat().st_size} bytes; --max-pixels {pixels} reads it"


def check_image(path: Path, max_pixels: int | None = None) -> ImageCheck:
    """Decode a whole image file, at reduced resolution where the format allows (JPEG: low frequencies only)."""
    try:
        with open_image(path) as image:
            size, has_alpha = image.size, "A" in image.getbands() or "transparency" in image.info
            if (problem := too_large(path, size, max_pixels)) is not None:
                return ImageCheck(problem=problem)
            halved = loses_bits(image)
            image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
            image.load()
            transparent = "A" in image.getbands() and image.getchannel("A").getextrema()[1] == 0
            if image.mode == "LAB":
                grey = image.getchannel("L")
            else:
                grey = image if image.mode.startswith(("I", "F")) else image.convert("L")
            thumbnail = np.asarray(grey.resize(_THUMBNAIL, Image.Resampling.BOX), dtype=np.float32)
        deep, level = _level(path, image, halved)
        unit = white_of(level, True) / 255 if deep == "floats" and not is_deep(image) else 257.0 if halved else 1.0
        if halved and level < 65535 / 4 and (values := cv2_values(path)) is not None:  # the upper 8 bits say little
            small = cv2.resize(values.astype(np.float32), _THUMBNAIL, interpolation=cv2.INTER_AREA) / 257
            thumbnail = np.asarray(small if small.ndim == 2 else small[..., :3].mean(2), dtype=np.float32)
    except SplatError:
        raise
    except Exception as e:  # decoders of broken files raise all kinds
        reason = "it may not be read" if isinstance(e, PermissionError) else shown(str(e) or type(e).__name__)[:200]
        return ImageCheck(problem=reason)
    deviation = float(thumbnail.std()) * (1 if thumbnail.max() <= 255 else 255 / float(thumbnail.max()))
    blank = deviation < _EMPTY_DEVIATION and not has_alpha
    fingerprint = repr(size).encode() + thumbnail.tobytes()
    return ImageCheck(None, fingerprint, blank, transparent, float(thumbnail.std()) * unit, deep, level)


def _level(path: Path, image: Image.Image, halved: bool) -> tuple[Literal["", "16 bits", "32 bits", "floats"], float]:
    """`ImageCheck.deep` and `level` of a decoded photo. halved: only the upper 8 of its 16 bits were decoded."""
    if image.format == "PPM":
        return "", 0.0  # says its white; Pillow has applied it
    if image.format is None and (floats := deep_tiff(path)) is not None:
        return "floats", level_of(floats)
    if is_deep(image):
        kind: Literal["16 bits", "32 bits", "floats"] = "16 bits" if image.mode.startswith("I;") else "32 bits"
        return "floats" if image.mode == "F" else kind, level_of(deep_values(image))
    if halved:
        extrema = [image.getchannel(b).getextrema()[1] for b in image.getbands() if b != "A"]
        return "16 bits", max(float(v) for v in extrema if not isinstance(v, tuple)) * 256 + 255
    return "", 0.0


def _with_whites(capture: Capture, checks: list[ImageCheck], report: Reporter) -> Capture:
    """The capture with `View.white` by the bits that all its photos together use, so that exposures stay comparable:
    cameras write 10, 12 or 14 bits into 16, and floats may end at 1, 255 or 65535."""
    whites: dict[str, float | None] = {}
    for deep in ("16 bits", "32 bits", "floats"):
        levels = [c.level for c in checks if c.deep == deep and not c.problem]
        white = white_of(max(levels), deep == "floats", bits_in_use=True) if levels else None
        whites[deep] = None if deep == "16 bits" and white == 65535 else white  # as the format says
        if white is not None and white not in {1, 255, 65535}:
            bits = int(white).bit_length()
            report.info(f"{len(levels)} photos use {bits} of their {deep}: {white:.0f} is white.")
    if not any(whites.values()):
        return capture
    return capture.with_views(tuple(replace(v, white=whites.get(c.deep)) for v, c in zip(capture.views, checks)))


def check_photos(capture: Capture, report: Reporter, max_pixels: int | None = None) -> Capture:
    """The capture without photos that cannot be decoded, are duplicates or are blank, with a warning for each.

    Duplicate and blank photos that have a pose are kept, with a warning. Raises SplatError when fewer than two photos
    remain.
    """
    paths = [v.image_path for v in capture.views]
    checks = list[ImageCheck]()
    largest = max((v.photo_size[0] * v.photo_size[1] for v in capture.views), default=1)
    at_once = max(1, min(8, os.cpu_count() or 1, _PIXELS_AT_ONCE // max(largest, 1)))
    with ThreadPoolExecutor(threads_that_fit(at_once, 5.0 * largest)) as pool:
        for check in pool.map(lambda p: check_image(p, max_pixels), paths):
            checks.append(check)
            report.progress(len(checks), len(paths))
    capture = _with_whites(capture, checks, report)
    invisible = [v for v, check in zip(capture.views, checks) if check.transparent]
    if len(invisible) > len(checks) - 2 and invisible:
        raise SplatError(
            f"{shown(invisible[0].image_path.parent)} has {len(invisible)} photos that are transparent everywhere "
            f"({shown(invisible[0].name)}, ...): save them without the alpha channel."
        )
    keep, first_with = [], dict[bytes, str]()
    with LimitedWarnings(report) as warnings:
        for view, check in zip(capture.views, checks):
            # a photo that uses 12 of its 16 bits has a sixteenth of the contrast
            blank = check.blank and (view.white is None or check.deviation * 255 / view.white < _EMPTY_DEVIATION)
            usable = not (blank or check.problem or check.transparent)
            original = first_with.setdefault(_clip(view) + check.fingerprint, view.name) if usable else view.name
            if check.problem:
                problem = f"it cannot be decoded ({check.problem}); copy it again"
                if "--max-pixels" in check.problem or "may not be read" in check.problem:
                    problem = check.problem
            elif check.transparent:
                problem = "it is transparent everywhere"
            elif blank:
                problem = "it is one flat colour"
            elif original != view.name:
                problem = f"it is the same picture as {shown(original)}"
            else:
                keep.append(True)
                continue
            keep.append(view.world_from_cam is not None and not (check.problem or check.transparent))
            warnings.warn(f"{shown(view.image_path)} {'looks wrong' if keep[-1] else 'is left out'}: {problem}.")
    if sum(keep) < 2:
        where = paths[0].parent if paths else Path(capture.source)
        raise too_few(where, sum(keep), len(keep) - sum(keep))
    return capture if all(keep) else capture.select(keep)


def _clip(view: View) -> bytes:
    """Frames of two clips are not compared: both belong to the capture."""
    return view.camera_group.encode(errors="replace") if view.camera_group.startswith("video ") else b""


def too_few(where: Path, usable: int, unusable: int = 0) -> SplatError:
    """The error of a capture with fewer than two photos."""
    left_out = f" ({unusable} cannot be used)" if unusable else ""
    count = {0: "no usable photo", 1: "only one usable photo"}.get(usable, f"{usable} usable photos")
    return SplatError(f"{shown(where)} has {count}{left_out}: a scene needs at least two that overlap.")


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
