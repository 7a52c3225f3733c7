"""Photos that match the others only with left and right exchanged."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.image import read_pixels
from splat.core.slots import Silent
from splat.poses import features as feature_files
from splat.poses.features import FeatureSettings, PhotoFeatures, feature_size
from splat.poses.matching import MatchSettings, match_pair, verify_pair

MAX_PHOTOS, MAX_OTHERS = 4, 16
_MIN_INLIERS, _MIN_GAIN = 50, 3.0
"""Verified matches that a mirrored photo needs, and how many times as many as the photo itself."""


def mirrored_reasons(
    views: Sequence[View],
    features: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    geometries: Mapping[tuple[int, int], Any],
    registered: Sequence[int],
    settings: tuple[FeatureSettings, MatchSettings],
    workdir: Path,
    seed: int,
) -> dict[str, str]:
    """One sentence by name for those of up to MAX_PHOTOS photos without a pose that are mirror images: the photo is
    exchanged left and right and matched with MAX_OTHERS registered ones, its neighbours by name among them."""
    out: dict[str, str] = {}
    lost = [i for i in range(len(views)) if i not in set(registered) and len(features[i]) >= 100]
    if len(registered) < 3 or not 0 < len(lost) <= max(MAX_PHOTOS, len(views) // 10):
        return out
    folder = workdir / "mirrored"
    try:
        for i in lost[:MAX_PHOTOS]:
            others = sorted(registered, key=lambda j: abs(j - i))
            near, rest = others[:6], sorted(others[6:])
            near += [rest[k] for k in np.linspace(0, len(rest) - 1, min(len(rest), MAX_OTHERS - 6)).astype(int)]
            usual = max((len(g.inlier_matches) for p, g in geometries.items() if i in p), default=0)
            flipped = _flipped(views[i], i, settings[0], folder)
            best, where = 0, i
            for j in near:
                rows = match_pair(flipped, features[j], settings[1])
                if len(rows) >= _MIN_INLIERS:
                    found = verify_pair(cameras[i], flipped, cameras[j], features[j], rows, settings[1], seed)
                    best, where = max((best, where), (len(found.inlier_matches), j))
            if best >= max(_MIN_INLIERS, _MIN_GAIN * usual):
                out[views[i].name] = (
                    f"it is mirrored: with left and right exchanged {best} points match {shown(views[where].name)}, as "
                    f"it is at most {usual} match any photo"
                )
    except (SplatError, OSError):  # a look beyond the poses: nothing depends on it
        pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def _flipped(view: View, index: int, settings: FeatureSettings, folder: Path) -> PhotoFeatures:
    """Features of the mirrored photo, in the pixels of the mirrored photo."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = feature_size(view, settings.max_size)
    photo = read_pixels(view.image_path, white=view.white)[..., :3]
    pixels = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    path = folder / f"{index}.png"
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels[:, ::-1, ::-1])):
        raise SplatError(f"{path} was not written: is the disk full?")
    mirror = replace(view, image_path=path, mask_path=None, photo_size=(width, height), white=None, cached=None)
    return feature_files.extract((mirror,), settings, folder / "features", Silent(), 1)[0]
