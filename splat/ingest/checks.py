"""Before hours of work: can every photo be decoded, is one there twice, does it show anything?"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import Reporter
from splat.ingest.complaints import Complaints
from splat.ingest.exif import open_image

_THUMBNAIL = (24, 24)
_EMPTY_DEVIATION = 2.0
"""Standard deviation (of 255) of the thumbnail below which a photo shows nothing: a lens cap, a blank page."""


@dataclass(frozen=True, eq=False)
class Glance:
    """What a full decode at the lowest resolution shows."""

    problem: str | None = None
    fingerprint: bytes = b""
    """Equal for photos that are the same picture."""
    empty: bool = False


def glance(path: Path) -> Glance:
    """Decode all of a photo's data, as cheaply as the format allows (JPEG: only the lowest frequencies)."""
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
        return Glance(problem=str(e) or type(e).__name__)
    deviation = float(thumbnail.std()) * (1 if thumbnail.max() <= 255 else 255 / float(thumbnail.max()))
    return Glance(None, repr(size).encode() + thumbnail.tobytes(), deviation < _EMPTY_DEVIATION and not has_alpha)


def check_photos(capture: Capture, report: Reporter) -> Capture:
    """The capture without photos that cannot be decoded, and, before poses are known, without copies and blank ones.

    Each one is named in a warning. Raises SplatError when fewer than two photos remain. With poses, copies and blank
    photos stay: the dataset's author placed them.
    """
    paths = [v.image_path for v in capture.views]
    glances = list[Glance]()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for g in pool.map(glance, paths):
            glances.append(g)
            report.progress(len(glances), len(paths))
    keep, first_with = [], dict[bytes, str]()
    with Complaints(report) as complaints:
        for view, g in zip(capture.views, glances):
            twin = view.name if g.empty or g.problem else first_with.setdefault(g.fingerprint, view.name)
            if g.problem:
                complaint = f"it cannot be decoded ({g.problem}); copy it again"
            elif g.empty:
                complaint = "it is one flat colour"
            elif twin != view.name:
                complaint = f"it is the same picture as {twin}"
            else:
                keep.append(True)
                continue
            keep.append(view.world_from_cam is not None and not g.problem)
            complaints.warn(f"{view.image_path} {'looks wrong' if keep[-1] else 'is left out'}: {complaint}.")
    if sum(keep) < 2:
        where = paths[0].parent if paths else Path(capture.source)
        raise too_few(where, sum(keep), len(keep) - sum(keep))
    return capture if all(keep) else capture.select(keep)


def too_few(where: Path, usable: int, unusable: int = 0) -> SplatError:
    """The error of a capture with fewer than two photos."""
    left_out = f" ({unusable} cannot be used)" if unusable else ""
    count = {0: "no usable photo", 1: "only one usable photo"}.get(usable, f"{usable} usable photos")
    return SplatError(f"{where} has {count}{left_out}: a scene needs at least two that overlap.")
