"""The forms in which authors publish their scenes: where the photos are, and whether everything is there.

What is checked is cheap (names, counts, sizes from headers): whether poses are right is judged when a scene is read.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from splat.bench.cells import Value
from splat.core.errors import SplatError
from splat.core.foreign import path_inside, read_json, shown
from splat.core.image import PHOTO_SUFFIXES

_MAX_PIXELS_OFF = 2
"""By which a photo may differ from the size that is stated: programs round differently."""
_UNREADABLE = (OSError, ValueError, EOFError, TypeError, AttributeError, struct.error, zipfile.BadZipFile)
"""What numpy raises for files that are missing, empty, cut off, or of another format."""


@dataclass(frozen=True)
class Layout:
    """Photos in a folder, without poses. Others say more."""

    images: str = "images"
    """Folder of the photos."""
    size: tuple[int, int] | None = None
    """Width and height of the photos, where all scenes share it."""

    @property
    def overrides(self) -> Mapping[str, Value]:
        """Flags by which `splat reconstruct` reads this form."""
        return {}

    def source(self, folder: Path) -> Path:
        """What `splat reconstruct` is given."""
        return folder

    def faults(self, folder: Path, photos: int | None) -> list[str]:
        """What is missing or damaged, each in some words; `photos`: how many there must be."""
        found = photos_in(folder / self.images)
        if not found:
            return [f"{self.images}/ has no photos"]
        out = damaged(found, self.size)
        if photos is not None and len(found) != photos:
            out.append(f"{self.images}/ has {len(found)} photos, not {photos}")
        return out


@dataclass(frozen=True)
class Colmap(Layout):
    """`sparse/0/` and photos of one size of several (`images`, `images_2`, ...)."""

    @property
    def overrides(self) -> Mapping[str, Value]:
        return {"images": self.images}

    def faults(self, folder: Path, photos: int | None) -> list[str]:
        out = super().faults(folder, photos)
        model = next((m for m in (folder / "sparse" / "0", folder / "sparse") if _images_file(m)), None)
        if model is None:
            return [*out, "sparse/0/ has no images.bin or images.txt"]
        out += [
            f"sparse/0/ has no {name}"
            for name in ("cameras", "points3D")
            if not any((model / f"{name}.{suffix}").is_file() for suffix in ("bin", "txt"))
        ]
        posed, there = _number_of_images(model), len(photos_in(folder / self.images))
        if posed is None:
            out.append("sparse/0/images.bin is damaged")
        elif 0 < there < posed:
            out.append(f"sparse/0/ has poses of {posed} photos, {self.images}/ has {there}")
        return out


@dataclass(frozen=True)
class Llff(Layout):
    """`poses_bounds.npy` beside the photos (any folder of photos where `images` is empty). Its scenes bring a COLMAP
    model too, of other names: the file of poses is what is read."""

    @property
    def overrides(self) -> Mapping[str, Value]:
        return {"images": self.images} if self.images else {}

    def source(self, folder: Path) -> Path:
        return folder / "poses_bounds.npy"

    def faults(self, folder: Path, photos: int | None) -> list[str]:
        folders = [self.images] if self.images else ["images", *sorted(p.name for p in folder.glob("images_*"))]
        images = next((name for name in folders if photos_in(folder / name)), folders[0])
        out = Layout(images, self.size).faults(folder, photos)
        try:
            rows = np.load(folder / "poses_bounds.npy", allow_pickle=False, mmap_mode="r").shape
        except _UNREADABLE:
            return [*out, "poses_bounds.npy is missing or damaged"]
        there = len(photos_in(folder / images))
        if len(rows) != 2 or rows[1] != 17 or (there and rows[0] != there):
            out.append(f"poses_bounds.npy has {'x'.join(map(str, rows))} values, not {there}x17")
        return out


@dataclass(frozen=True)
class Idr(Layout):
    """IDR and NeuS: `cameras_sphere.npz` or `cameras.npz` beside `image/` and `mask/`."""

    images: str = "image"

    def faults(self, folder: Path, photos: int | None) -> list[str]:
        out = super().faults(folder, photos)
        count = len(photos_in(folder / self.images))
        masks = photos_in(folder / "mask") or photos_in(folder / "masks")
        if len(masks) < count:
            out.append(f"mask/ has {len(masks)} masks for {count} photos")
        out += damaged(masks, None)
        file = next((f for n in ("cameras_sphere.npz", "cameras.npz") if (f := folder / n).is_file()), None)
        if file is None:
            return [*out, "cameras_sphere.npz is missing"]
        try:
            with np.load(file, allow_pickle=False) as arrays:
                posed = sum(n.startswith("world_mat_") and "inv" not in n for n in arrays.files)
        except _UNREADABLE:
            return [*out, f"{file.name} is damaged"]
        if posed < count:
            out.append(f"{file.name} has {posed} cameras for {count} photos")
        return out


@dataclass(frozen=True)
class Blender(Layout):
    """NeRF-synthetic: `transforms_train.json` and `transforms_test.json`, photos where these say."""

    images: str = ""

    def faults(self, folder: Path, photos: int | None) -> list[str]:
        out: list[str] = []
        total = 0
        for role in ("train", "test"):
            name = f"transforms_{role}.json"
            try:
                frames = [_frame(folder, f) for f in read_json(folder / name)["frames"]]
            except (SplatError, OSError, KeyError, TypeError, AttributeError):
                out.append(f"{name} is missing or damaged")
                continue
            there = [f for f in frames if f.is_file()]
            total += len(frames)
            if len(there) < len(frames):
                out.append(f"{len(frames) - len(there)} photos of {name} are missing")
            out += damaged(there, self.size)
        if photos is not None and not out and total != photos:
            out.append(f"it has {total} photos, not {photos}")
        return out


def other_split(folder: Path, images: str, every: int) -> str | None:
    """What a `split.json`, which wins over every n-th photo, would change of the hold-out; None where nothing."""
    if not (folder / "split.json").is_file():
        return None
    try:
        held_out = read_json(folder / "split.json").get("test")
        names = None if held_out is None else sorted(map(str, held_out))
    except (SplatError, AttributeError, TypeError):
        return "split.json is damaged"
    there = [p.name for p in photos_in(folder / images)]
    if names is None or names == there[::every]:
        return None
    return f"split.json holds out other photos than every {every}th: remove it"


def photos_in(folder: Path) -> list[Path]:
    """Photos of a folder, by name; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith("."))


def damaged(photos: list[Path], size: tuple[int, int] | None) -> list[str]:
    """Photos whose header cannot be read, and those of another size than `size`; first name and count of each."""
    broken, other = [], []
    for photo in photos:
        try:
            with Image.open(photo) as image:
                width, height = image.size
        except Exception:  # decoders of broken headers raise all kinds
            broken.append(photo)
            continue
        if size is not None and max(abs(width - size[0]), abs(height - size[1])) > _MAX_PIXELS_OFF:
            other.append(f"{shown(photo.name)} is {width}x{height}")
    out = [f"{len(broken)} photos cannot be read (first: {shown(broken[0].name)})"] if broken else []
    if other and size is not None:
        out.append(f"{len(other)} photos are not of {size[0]}x{size[1]} pixels (first: {other[0]})")
    return out


def _frame(folder: Path, frame: Any) -> Path:
    name = frame["file_path"].removeprefix("./")
    return path_inside(folder, name if Path(name).suffix else f"{name}.png")


def _images_file(model: Path) -> Path | None:
    return next((f for n in ("images.bin", "images.txt") if (f := model / n).is_file()), None)


def _number_of_images(model: Path) -> int | None:
    """How many photos a model has poses of; None where the file is cut off."""
    file = _images_file(model)
    assert file is not None
    if file.suffix == ".bin":
        with file.open("rb") as f:
            head = f.read(8)
        return struct.unpack("<Q", head)[0] if len(head) == 8 else None
    with file.open(errors="replace") as f:
        lines = [line for line in f if not line.startswith("#")]
    while lines and not lines[-1].strip():  # the last photo's row of points may be empty
        lines.pop()
    return (len(lines) + 1) // 2
