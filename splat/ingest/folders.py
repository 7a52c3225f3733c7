"""Finding photos and masks: their folder, their names, and the file that a name refers to."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from splat.core.errors import SplatError
from splat.core.files import is_run_folder
from splat.core.foreign import shown
from splat.core.image import PHOTO_SUFFIXES

RAW_SUFFIXES = frozenset(
    {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".gpr", ".3fr"}
)
_NOT_PHOTOS = re.compile(
    r"^(masks?(_\d+)?|thumb(nail)?s?|previews?|@eadir|__macosx|(.*_)?depths?(_.*)?|(.*_)?normals?|alpha|confidence"
    r"|sparse|colmap|distorted|stereo)$",
    re.I,
)
_USUAL_NAMES = ("images", "input", "photos", "image", "rgb", "frames")
_SCALED = re.compile(r"^images_(\d+)$")
_MASK_NAME = re.compile(r"^(?:masks?[ _.-])?(?P<bare>.+?)(?:[ _.-]masks?)?$", re.I)
_COPIES_RATIO = 1.2
"""Between the sizes of two folders' photos of the same names: above it they are copies of each other."""


def is_photo_name(path: Path) -> bool:
    """Whether a file is a photo by its suffix; hidden files and masks (`a.mask.png`) are not."""
    hidden = path.name.startswith(".")
    return not hidden and path.suffix.lower() in PHOTO_SUFFIXES and PurePosixPath(path.stem).suffix.lower() != ".mask"


def mask_of(name: str) -> str | None:
    """The photo, without its suffix, whose mask a file of this name would be, in lower case: `a` of a_mask.png,
    mask_a.jpg, a.jpg.png, a.jpg.mask.png; None where nothing marks the name as a mask's."""
    stem = PurePosixPath(normal(name)).stem
    found = _MASK_NAME.match(stem)
    bare = found["bare"] if found else stem
    doubled = PurePosixPath(bare).suffix in PHOTO_SUFFIXES
    if bare == stem and not doubled:
        return None
    return PurePosixPath(bare).stem if doubled else bare


def photos_among(files: Iterable[Path]) -> list[Path]:
    """The photos among the files of one folder, sorted by name: IMG_1.jpg.png and IMG_1_mask.png are masks where there
    is an IMG_1.jpg, and photos (of a converter, of Windows) where there is none."""
    photos = [p for p in files if is_photo_name(p)]
    named = {normal(p.name) for p in photos}
    stems = Counter(PurePosixPath(n).stem for n in named)

    def is_mask(photo: Path) -> bool:
        bare = mask_of(photo.name)
        if bare is None:
            return False
        inner = PurePosixPath(normal(photo.name)).stem
        return bare in stems if PurePosixPath(inner).suffix not in PHOTO_SUFFIXES else inner in named

    return sorted(p for p in photos if not is_mask(p))


def normal(name: str) -> str:
    """A name as it is compared: in lower case, and in one of Unicode's ways to write accents (macOS uses another)."""
    return unicodedata.normalize("NFC", name).lower()


def list_photos(folder: Path) -> list[Path]:
    """Photos of a folder, or where it has none, of its sub-folders (the cameras of a rig), or of theirs (DCIM); sorted
    by relative path. Of folders with smaller copies of each other's photos the largest counts."""
    if not folder.is_dir():
        return []
    photos = _photos_in(folder)
    if len(photos) < 2:  # a single one may be the preview of a scanner's export
        below = _holding_photos(folder)
        deeper = [p for d in _without_copies(below) for p in _photos_in(d)]
        photos = deeper if len(deeper) > len(photos) else photos
    return sorted(photos, key=lambda p: os.fsencode(p.relative_to(folder).as_posix()))


def _photos_in(folder: Path) -> list[Path]:
    try:
        return photos_among(p for p in folder.iterdir() if p.is_file())
    except OSError:
        return []


def _holding_photos(folder: Path, depth: int = 3) -> list[Path]:
    """The nearest folders below `folder` that hold photos."""
    try:
        below = [d for d in sorted(folder.iterdir()) if d.is_dir() and _may_hold_photos(d)]
    except OSError:
        return []
    found = [d for d in below if _photos_in(d)]
    if not found and depth > 1:
        found = [d for b in below for d in _holding_photos(b, depth - 1)]
    return found


def _without_copies(folders: list[Path]) -> list[Path]:
    """The folders without those whose photos are those of another one at a smaller size, or before a correction."""
    kept: list[Path] = []
    sizes = {f: _sizes(f) for f in folders}
    # the largest first; of equal ones a corrected or undistorted copy before its original
    order = sorted(folders, key=lambda f: (-_pixels(sizes[f]), not _IMPROVED.search(f.name), f.name))
    for folder in order:
        if not any(_copies(sizes[folder], sizes[k], folder, k) for k in kept):
            kept.append(folder)
    return sorted(kept)


_IMPROVED = re.compile(r"corrected|undistorted|rectified", re.I)
_Sizes = dict[str, tuple[int, int] | None]


def _sizes(folder: Path) -> _Sizes:
    """Stem -> size of up to three photos; the stems of all."""
    photos = _photos_in(folder)
    some = {photos[0], photos[len(photos) // 2], photos[-1]}
    return {normal(p.stem): image_size(p) if p in some else None for p in photos}


def _pixels(sizes: _Sizes) -> int:
    return max((s[0] * s[1] for s in sizes.values() if s), default=0)


def _copies(a: _Sizes, b: _Sizes, folder: Path, kept: Path) -> bool:
    common = a.keys() & b.keys()
    if folder.parent != kept.parent or len(common) < 0.5 * min(len(a), len(b)):
        return False
    if _IMPROVED.search(kept.name) and not _IMPROVED.search(folder.name):
        return True
    ratio = _pixels(b) / max(_pixels(a), 1)
    shapes = [{s[0] > s[1] for s in sizes.values() if s} for sizes in (a, b)]
    return ratio > _COPIES_RATIO and shapes[0] == shapes[1]


def name_in(folder: Path, photo: Path) -> str:
    """`View.name`: the path relative to the photo folder, with forward slashes."""
    return photo.relative_to(folder).as_posix()


def photo_folders(root: Path) -> list[Path]:
    """Photo folders of a dataset: those with a usual name first, then `images_2`, `images_4`, ..."""
    usual = [root / n for n in _USUAL_NAMES if list_photos(root / n)]
    scaled = [(int(m[1]), d) for d in root.iterdir() if (m := _SCALED.match(d.name)) and list_photos(d)]
    return usual + [d for _, d in sorted(scaled)]


def named_folder(root: Path, name: str) -> Path:
    """The folder that --images or `split.json` names. Raises SplatError when it contains no photos."""
    folder = root / name
    with suppress(OSError):  # no name of a folder: it has no photos either
        if list_photos(folder):
            return folder
    there = ", ".join(shown(d.name) for d in photo_folders(root)) or "none"
    raise SplatError(
        f"{shown(folder)[:300]} contains no photos: name a folder of {shown(root)} with --images (there: {there})."
    )


def image_size(path: Path) -> tuple[int, int] | None:
    """Stored width and height from the header; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # decoders of broken headers raise all kinds
        return None


def describe_contents(folder: Path) -> str:
    """The contents of a folder without photos, and the fix, for an error message."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    suffixes = Counter(p.suffix.lower() for p in files)
    raw = [s for s, _ in suffixes.most_common() if s in RAW_SUFFIXES]
    if raw:
        return f"only raw files ({raw[0]}): export them as JPEG first"
    if not suffixes:
        return "no files: give a folder of photos, a video, or a dataset"
    holding = Counter(p.parent for p in files if is_photo_name(p)).most_common(1)
    if holding:
        return f"no photos, but {shown(holding[0][0])} has {holding[0][1]}: give that folder"
    common = ", ".join(f"{n} {shown(s) or 'without suffix'}" for s, n in suffixes.most_common(3))
    return f"no photos ({common}): give a folder of photos, a video, or a dataset"


def list_photos_deep(folder: Path) -> list[Path]:
    """All photos below a folder, without those in hidden folders and folders of masks or depth maps."""
    if not folder.is_dir():
        return []
    found = _photos_in(folder)
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and _may_hold_photos(entry):
            found += list_photos_deep(entry)
    return sorted(found)


def _may_hold_photos(folder: Path) -> bool:
    """Not hidden, not of masks or depth maps, not a run of this program."""
    return not (folder.name.startswith(".") or _NOT_PHOTOS.match(folder.name) or is_run_folder(folder))


def posix_path(name: str) -> str:
    """A relative path written by another program, with forward slashes and without a leading `./`."""
    return PurePosixPath(name.replace("\\", "/")).as_posix().removeprefix("./")


@dataclass(frozen=True)
class MaskIndex:
    """Finds masks of a folder by the naming schemes in use."""

    folder: Path
    by_name: dict[str, Path]
    """Relative path, as `normal` writes it -> file."""
    by_photo: dict[str, Path]
    """Folder and bare name of the photo, for names that are marked as masks (`a_mask.png`) -> file."""

    @staticmethod
    def of(folder: Path, below: bool = True) -> MaskIndex:
        """below: include sub-folders."""
        files = [p for p in (folder.rglob("*") if below else folder.iterdir()) if not p.name.startswith(".")]
        masks = sorted(p for p in files if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
        by_photo = {}
        for p in masks:
            if (bare := mask_of(p.name)) is not None:
                by_photo[normal((p.parent.relative_to(folder) / bare).as_posix())] = p
        return MaskIndex(folder, {normal(name_in(folder, p)): p for p in masks}, by_photo)

    def find(self, name: str, marked: bool = False, alone: bool = True) -> Path | None:
        """The mask of photo `name`. For a/b.jpg: a/b.jpg.png, a/b.jpg.mask.png, a/b.mask.png, a/b_mask.png,
        a/mask_b.png, then (unless `marked`) a/b.png, a/b.jpg, ...; else, if no other photo has the file name
        (`alone`), the same without the folder. None without a mask.

        marked: only names that cannot be those of photos."""
        whole = PurePosixPath(normal(name))
        for photo in (whole, PurePosixPath(whole.name)) if alone else (whole,):
            bare = photo.with_suffix("").as_posix()
            if (candidate := f"{photo}.png") in self.by_name:
                return self.by_name[candidate]
            if bare in self.by_photo:
                return self.by_photo[bare]
            if marked:
                continue
            for candidate in (f"{bare}.png", photo.as_posix(), *(f"{bare}{s}" for s in sorted(PHOTO_SUFFIXES))):
                if candidate in self.by_name:
                    return self.by_name[candidate]
        return None
