"""The user's own depth maps: which file belongs to which photo, by name."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from splat.core.capture import Capture
from splat.core.depth_file import DEPTH_SUFFIXES
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.image import PHOTO_SUFFIXES
from splat.ingest.folders import normal
from splat.ingest.names import match_names

_WORD = r"(?:depths?|disp|disparity)"
_MARKED = re.compile(rf"^(?:{_WORD}[ _.-])?(?P<bare>.+?)(?:[ _.-]{_WORD})?$", re.I)


def find_depth_files(folder: Path, capture: Capture) -> dict[str, Path]:
    """Name of a view -> its depth map below `folder`, for the views that have one.

    A map has its photo's path and stem (a/b.npy or a/b.jpg.npy for a/b.jpg), as `names.match` compares them, or the
    stem with a mark: b_depth.png, depth_b.png, b_disp.tiff. Raises SplatError where `folder` is no folder, or none of
    its files belongs to a photo.
    """
    if not folder.is_dir():
        raise SplatError(f"{shown(folder)} is not a folder of depth maps: correct --depth.")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in DEPTH_SUFFIXES and p.is_file())
    files = [p for p in files if not p.name.startswith(".")]
    names = [v.name for v in capture.views]
    best: list[Path | None] = []
    for marked in (False, True):
        by_stem = dict[str, Path]()
        for path in sorted(files, key=lambda p: (DEPTH_SUFFIXES.index(p.suffix.lower()), p.as_posix())):
            by_stem.setdefault(normal(_stem(path.relative_to(folder), marked)), path)
        found = match_names(names, list(by_stem))
        paths = list(by_stem.values())
        matched = [None if i is None else paths[i] for i in found]
        if len(matched) - matched.count(None) > len(best) - best.count(None):
            best = matched
    out = {name: path for name, path in zip(names, best) if path is not None}
    if not out:
        there = f"{len(files)} maps" if files else f"no {', '.join(DEPTH_SUFFIXES)}"
        raise SplatError(
            f"{shown(folder)} has {there}, and none that belongs to a photo: name each map as its photo, for example "
            f"{shown(PurePosixPath(names[0]).with_suffix('.npy'))}."
        )
    return out


def _stem(path: Path, marked: bool) -> str:
    """The relative path as a photo's name: without the suffix of a map and, if `marked`, without a word for depth."""
    whole = PurePosixPath(path.as_posix())
    stem = whole.name[: -len(whole.suffix)]
    found = _MARKED.match(stem) if marked else None
    photo = found["bare"] if found else stem
    # a suffix keeps a part of the name from being taken for one
    return whole.with_name(
        photo if PurePosixPath(photo).suffix.lower() in PHOTO_SUFFIXES else f"{photo}.png"
    ).as_posix()
