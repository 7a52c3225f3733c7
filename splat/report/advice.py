"""What to shoot again: every line rests on a figure of this run and names the photos it is about."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from splat.core.errors import SplatError
from splat.core.layout import Layout, azimuths, layout_of
from splat.report.data import ReportData
from splat.report.pictures import thumbnail


@dataclass(frozen=True)
class Advice:
    """One thing to do, and why."""

    todo: str
    because: str


def advice(data: ReportData) -> list[Advice]:
    """In the order of how much it would help."""
    lines = [
        *_about_unregistered(data),
        *_about_coverage(data),
        *_about_weak_views(data),
        *_about_blur(data),
        *_about_exposure(data),
        *_about_overlap(data),
        *_about_fit(data),
        *_about_resolution(data),
    ]
    return lines


def _about_unregistered(data: ReportData) -> list[Advice]:
    """A photo without a pose shares too little with the others: bridge it to its neighbours in time."""
    lost = sorted(name for name, reason in data.unregistered.items() if not _is_about_the_file(reason))
    if not lost or data.capture is None:
        n = len(lost)
        why = f"{n} of {data.registered[1]} photos could not be used."
        return [Advice("Take more photos between those that were used and those that were not.", why)] if n else []
    used = sorted(v.name for v in data.capture.views)
    gaps: dict[tuple[str | None, str | None], list[str]] = {}
    for name in lost:
        before = max((u for u in used if u < name), default=None)
        after = min((u for u in used if u > name), default=None)
        gaps.setdefault((before, after), []).append(name)
    lines = []
    for (before, after), names in sorted(gaps.items(), key=lambda item: -len(item[1])):
        if before and after:
            where = f"on the way from {before} to {after}"
        else:
            where = f"on the way from {before or after} to {names[0]}"
        todo = f"Take a few more photos {where}, each sharing more than half of its picture with the one before."
        lines.append(Advice(todo, f"{_list(names)} found no place among the others."))
    return lines[:4]


def _is_about_the_file(reason: str) -> bool:
    """More photos do not mend a file that cannot be read."""
    return any(words in reason for words in ("cannot be read", "cut short", "damaged", "does not exist"))


def _about_coverage(data: ReportData) -> list[Advice]:
    """Around an object: wide gaps between neighbouring azimuths, and all cameras at one height."""
    if data.capture is None or sum(v.world_from_cam is not None for v in data.capture.views) < 4:
        return []
    layout = layout_of(data.capture)
    if layout.kind != "inward":
        return []
    names = [v.name for v in data.capture.train_views if v.world_from_cam is not None]
    names = names or [v.name for v in data.capture.views if v.world_from_cam is not None]
    lines = []
    for gap, left, right in _gaps(layout)[:3]:
        if gap >= 180:
            continue  # the photographer stayed on one side: that is a choice
        todo = f"Take photos from the side between {names[left]} and {names[right]}."
        lines.append(Advice(todo, f"Nothing was taken there: {gap:.0f} degrees around the scene."))
    offset = layout.centres - layout.focus
    height = torch.rad2deg(torch.asin((offset @ layout.up / offset.norm(dim=1)).clamp(-1, 1)))
    if float(height.max() - height.min()) < 8 and len(names) >= 8:
        why = f"All photos look at the scene from one height (within {float(height.max() - height.min()):.0f} degrees)."
        lines.append(Advice("Walk round once more, holding the camera higher or lower.", why))
    return lines


def _gaps(layout: Layout) -> list[tuple[float, int, int]]:
    """(degrees, view, next view) of gaps over 35 degrees that are twice the usual one, widest first."""
    a = torch.rad2deg(azimuths(layout.centres, layout.focus, layout.up))
    by_azimuth = a.argsort().tolist()
    pairs = list(zip(by_azimuth, [*by_azimuth[1:], by_azimuth[0]]))
    widths = [float((a[j] - a[i]) % 360) for i, j in pairs]
    usual = statistics.median(widths)
    wide = [(w, i, j) for w, (i, j) in zip(widths, pairs) if w > max(35.0, 2 * usual)]
    return sorted(wide, reverse=True)


def _about_weak_views(data: ReportData) -> list[Advice]:
    """Views far below the usual PSNR: their surroundings are seen too little, or something moved."""
    lines = []
    tests, trains = data.scores("test"), data.scores("train")
    for scores, what in ((tests, "held-out"), (trains, "training")):
        if len(scores) < 4:
            continue
        usual = statistics.median(v.fit for v in scores)
        weak = sorted((v for v in scores if v.fit < usual - 3), key=lambda v: v.fit)
        if not weak:
            continue
        names = _list([v.name for v in weak])
        why = f"{weak[0].fit:.1f} dB there, {usual:.1f} dB in the middle of all {what} photos."
        if what == "held-out":
            lines.append(Advice(f"Take two or three more photos close to {names}.", why))
        else:
            lines.append(Advice(f"Look at {names} below: did something move, or is the photo blurred or flared?", why))
    return lines


def _about_blur(data: ReportData) -> list[Advice]:
    sharpness = dict(data.sharpness) or measured_sharpness(data)
    if len(sharpness) < 4:
        return []
    usual = statistics.median(sharpness.values())
    blurred = sorted((n for n, s in sharpness.items() if s < 0.35 * usual), key=lambda n: sharpness[n])
    if not blurred or len(blurred) > len(sharpness) / 2:
        return []
    why = f"{_share(len(blurred), len(sharpness))} much less sharp than the others ({_list(blurred)})."
    return [Advice("Take these again, holding still, with more light or a shorter exposure.", why)]


def measured_sharpness(data: ReportData) -> dict[str, float]:
    """Energy of the Laplacian over energy of the picture, per photo of `views`, at a common size."""
    found = {}
    for v in data.views:
        if v.photo is None:
            continue
        try:
            grey = cv2.cvtColor(thumbnail(v.photo, 640), cv2.COLOR_RGB2GRAY).astype(np.float32)
        except SplatError:  # the picture is gone
            continue
        found[v.name] = float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(float(grey.var()), 1.0))
    return found


def _about_exposure(data: ReportData) -> list[Advice]:
    """Photos of differing brightness, or held-out ones whose colours alone are off."""
    todo = "Lock exposure and white balance before the first photo."
    if len(data.exposure_ev) >= 3:
        low = min(data.exposure_ev, key=lambda n: data.exposure_ev[n])
        high = max(data.exposure_ev, key=lambda n: data.exposure_ev[n])
        span = data.exposure_ev[high] - data.exposure_ev[low]
        if span >= 1:
            why = f"Brightness differs by {span:.1f} stops between {low} (darkest) and {high} (brightest)."
            return [Advice(todo, why)]
    tests = data.scores("test")
    if tests and (lost := statistics.fmean(v.fit for v in tests) - statistics.fmean(v.psnr for v in tests)) > 3:
        return [Advice(todo, f"Held-out photos differ in colour from what is around them: that costs {lost:.1f} dB.")]
    return []


def _about_overlap(data: ReportData) -> list[Advice]:
    """Most sparse points seen by two photos only: depth rests on single pairs."""
    tracks = data.capture.tracks if data.capture is not None else None
    if tracks is None or len(tracks.point_ids) == 0 or data.registered[0] < 4:
        return []
    seen = torch.bincount(tracks.point_ids.long())
    seen = seen[seen > 0]
    pairs = float((seen <= 2).double().mean())
    if pairs < 0.6:
        return []
    why = f"{100 * pairs:.0f} % of the points found in the photos are seen by two photos only."
    return [Advice("Take more photos with more overlap: every detail in at least three.", why)]


def _about_fit(data: ReportData) -> list[Advice]:
    """Training photos fit much better than held-out ones: too few photos for the detail asked of them."""
    tests, trains = data.scores("test"), data.scores("train")
    if not tests or not trains:
        return []
    test, train = (statistics.fmean(v.fit for v in s) for s in (tests, trains))
    if train - test < 6 or not math.isfinite(train - test):
        return []
    why = f"Photos it learned from are matched at {train:.1f} dB, photos it never saw at {test:.1f} dB."
    return [Advice("Take more photos: the scene between the present ones is guessed.", why)]


def _about_resolution(data: ReportData) -> list[Advice]:
    if data.resolution is None or data.photo_size is None:
        return []
    used, full = max(data.resolution), max(data.photo_size)
    if full < 1.9 * used:
        return []
    why = f"The photos have {full} px on the long side, {used} px were used."
    return [Advice("For finer detail run again with a higher --max-resolution (nothing to shoot).", why)]


def _list(names: Sequence[str], max_names: int = 4) -> str:
    shown = ", ".join(names[:max_names])
    return shown if len(names) <= max_names else f"{shown} and {len(names) - max_names} more"


def _share(some: int, of: int) -> str:
    return f"{some} of {of} photos {'is' if some == 1 else 'are'}"
