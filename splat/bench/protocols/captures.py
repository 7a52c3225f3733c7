"""`captures`: every capture of a folder, from its photos alone."""

from __future__ import annotations

from pathlib import Path

from splat.bench.protocols.protocol import Protocol, Scene, scene_name
from splat.core.image import PHOTO_SUFFIXES

_VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"})
_MIN_PHOTOS = 3


def captures(data: Path) -> list[Scene]:
    """Every folder with photos or a video, from the photos alone; NeRF-synthetic scenes, which are rendered and whose
    few textures SfM cannot use, with their poses. Held out are the photos of the scene's `split.json`, or every 8th."""
    found = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if (folder / "transforms_train.json").exists():
            found.append(Scene(scene_name(folder, data), folder))
        elif _has_photos(folder) or _has_video(folder):
            found.append(Scene(scene_name(folder, data), folder, {"ignore-poses": True}))
    return found


def _has_photos(folder: Path) -> bool:
    places = [folder, *(p for p in folder.iterdir() if p.is_dir() and p.name.startswith("images"))]
    return any(sum(p.suffix.lower() in PHOTO_SUFFIXES for p in place.iterdir()) >= _MIN_PHOTOS for place in places)


def _has_video(folder: Path) -> bool:
    return sum(p.suffix.lower() in _VIDEO_SUFFIXES for p in folder.iterdir()) == 1


CAPTURES = Protocol(
    name="captures",
    about="every capture of a folder from its photos alone, default hold-out",
    split="the photos of the scene's split.json, else every 8th by name, held out",
    resolution="the preset's",
    truth="the held-out photos, whose poses are found with all others",
    any_scene=captures,
)
