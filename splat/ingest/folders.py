"""Finding photos and masks: their folder, their names, and the file that a name refers to."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from splat.core.errors import SplatError
from splat.core.files import is_run_folder
from splat.core.foreign import shown
from splat.core.image import PHOTO_SUFFIXES

_RAW_SUFFIXES = frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"})
_NOT_PHOTOS = re.compile(
    r"^(masks?(_\d+)?|thumb(nail)?s?|@eadir|__macosx|(.*_)?depths?(_.*)?|normals?|alpha|sparse|colmap|distorted|stereo)$",
    re.I,
)
_USUAL_NAMES = ("images", "input", "photos", "image", "rgb", "frames")
_SCALED = re.compile(r"^images_(\d+)$")


def is_photo_name(path: Path) -> bool:
    """Whether a file is a photo by its suffix; hidden files and masks (`a.mask.png`, `a.jpg.png`) are not."""
    name = path.name
    if name.startswith(".") or path.suffix.lower() not in PHOTO_SUFFIXES:
        return False
    inner = PurePosixPath(path.stem).suffix.lower()
    return inner != ".mask" and inner not in PHOTO_SUFFIXES


def list_photos(folder: Path) -> list[Path]:
    """Photos of a folder, or where it has none, of its direct sub-folders; sorted by relative path."""
    if not folder.is_dir():
        return []
    entries = list(folder.iterdir())
    photos = [p for p in entries if p.is_file() and is_photo_name(p)]
    if not photos:
        below = [d for d in entries if d.is_dir() and _may_hold_photos(d)]
        photos = [p for d in below for p in d.iterdir() if p.is_file() and is_photo_name(p)]
    return sorted(photos, key=lambda p: p.relative_to(folder).as_posix())


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
    suffixes = Counter(p.suffix.lower() for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    raw = [s for s, _ in suffixes.most_common() if s in _RAW_SUFFIXES]
    if raw:
        return f"only raw files ({raw[0]}): export them as JPEG first"
    if not suffixes:
        return "no files: give a folder of photos, a video, or a dataset"
    common = ", ".join(f"{n} {s or 'without suffix'}" for s, n in suffixes.most_common(3))
    return f"no photos ({common}): give a folder of photos, a video, or a dataset"


def list_photos_deep(folder: Path) -> list[Path]:
    """All photos below a folder, without those in hidden folders and folders of masks or depth maps."""
    if not folder.is_dir():
        return []
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and _may_hold_photos(entry):
            found += list_photos_deep(entry)
        elif entry.is_file() and is_photo_name(entry):
            found.append(entry)
    return found


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
    """Relative path in lower case -> file."""

    @staticmethod
    def of(folder: Path, below: bool = True) -> MaskIndex:
        """below: include sub-folders."""
        files = [p for p in (folder.rglob("*") if below else folder.iterdir()) if not p.name.startswith(".")]
        masks = [p for p in files if p.suffix.lower() in PHOTO_SUFFIXES]
        return MaskIndex(folder, {name_in(folder, p).lower(): p for p in sorted(masks)})

    def find(self, name: str, marked: bool = False) -> Path | None:
        """The mask of photo `name`. For a/b.jpg: a/b.jpg.png, a/b.jpg.mask.png, a/b.mask.png, then (unless `marked`)
        a/b.png, a/b.jpg, ...; else the same without the folder. None without a mask.

        marked: only names that cannot be those of photos."""
        for photo in (PurePosixPath(name.lower()), PurePosixPath(PurePosixPath(name).name.lower())):
            bare = photo.with_suffix("").as_posix()
            names = [f"{photo}.png", f"{photo}.mask.png", f"{bare}.mask.png"]
            if not marked:
                names += [f"{bare}.png", photo.as_posix(), *(f"{bare}{s}" for s in sorted(PHOTO_SUFFIXES))]
            for candidate in names:
                if candidate in self.by_name:
                    return self.by_name[candidate]
        return None
