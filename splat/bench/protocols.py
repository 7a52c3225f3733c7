"""Named datasets: which scenes, run with which flags. A protocol fixes everything that a published figure depends on
except method, preset and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from splat.bench.cells import Value
from splat.core.errors import SplatError
from splat.core.image import PHOTO_SUFFIXES

_VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"})
_MIN_PHOTOS = 3


@dataclass(frozen=True)
class Scene:
    """One scene of a protocol."""

    name: str
    source: Path
    """What `splat reconstruct` is given."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Flags that belong to this scene."""


@dataclass(frozen=True)
class Protocol:
    """A named way to measure."""

    name: str
    about: str
    scenes: Callable[[Path], list[Scene]]
    """All scenes that a data folder holds, by name."""

    def select(self, data: Path, names: list[str]) -> list[Scene]:
        """The named scenes, or all where none is named."""
        if not data.is_dir():
            raise SplatError(f"{data} is not a folder: give --data the folder that holds one folder per scene.")
        scenes = {s.name: s for s in self.scenes(data)}
        if not scenes:
            raise SplatError(f"{data} holds no scene: each needs a folder with photos or a video in it.")
        unknown = [n for n in names if n not in scenes]
        if unknown:
            raise SplatError(f"{data} has no scene {unknown[0]!r}: it has {', '.join(scenes)}.")
        return [scenes[n] for n in names] if names else list(scenes.values())


def captures(data: Path) -> list[Scene]:
    """Every folder with photos or a video, from the photos alone; NeRF-synthetic scenes, which are rendered and whose
    few textures SfM cannot use, with their poses. Held out are the photos of the scene's `split.json`, or every 8th."""
    found = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if (folder / "transforms_train.json").exists():
            found.append(Scene(folder.name, folder))
        elif _holds_photos(folder) or _holds_video(folder):
            found.append(Scene(folder.name, folder, {"ignore-poses": True}))
    return found


def _holds_photos(folder: Path) -> bool:
    places = [folder, *(p for p in folder.iterdir() if p.is_dir() and p.name.startswith("images"))]
    return any(sum(p.suffix.lower() in PHOTO_SUFFIXES for p in place.iterdir()) >= _MIN_PHOTOS for place in places)


def _holds_video(folder: Path) -> bool:
    return sum(p.suffix.lower() in _VIDEO_SUFFIXES for p in folder.iterdir()) == 1


PROTOCOLS = {
    p.name: p
    for p in (Protocol("captures", "every capture of a folder from its photos alone, default hold-out", captures),)
}
