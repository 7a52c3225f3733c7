"""Renders enhanced for presentation without weights: steady along a flight, with the detail of photos; and the account
of what was changed, which stands beside enhanced pictures of any method."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.files import write_json
from splat.core.geometry import Rigid
from splat.core.slots import EnhancedView, ReferencePhoto, RenderedView
from splat.geometry.photo_detail import NamedPhoto, with_photo_detail
from splat.geometry.temporal_filter import SOLID, steadied

ENHANCED_FILE = "enhanced.json"
"""Says what was changed, in a folder of enhanced pictures."""
_SAME_PLACE = 1e-6
"""Distance over that of the farthest camera at which two cameras stand in one place."""


@dataclass(eq=False)
class ReferencePhotos:
    """The photos that detail comes from, each read and drawn when it is first near, and forgotten again when others
    are."""

    views: Sequence[View]
    """Training photos with their poses."""
    draw: Callable[[Camera, Rigid], RenderedView]
    """Draws the scene, for the depth of what a photo shows."""
    held: int = 8
    """Photos in memory at once."""
    skip_own: bool = False
    """For pictures from the photos' own places: a photo is no reference for the picture from its place, which it would
    turn into itself."""
    _held: OrderedDict[tuple[int, Camera], NamedPhoto] = field(default_factory=OrderedDict)

    def near(self, view: RenderedView, count: int) -> tuple[list[NamedPhoto], float | None]:
        """The nearest photos by the places of their cameras, and the distance of the one after them (None: there is no
        other)."""
        centre = view.world_from_cam.translation
        away = [float((v.pose.translation - centre).norm()) for v in self.views]
        own = _SAME_PLACE * max(away, default=0) if self.skip_own else -1.0
        ranked = sorted((d, v.name, i) for i, (d, v) in enumerate(zip(away, self.views)) if d > own)
        following = ranked[count][0] if len(ranked) > count else None
        return [self._photo(i, view.camera) for _, _, i in ranked[:count]], following

    def _photo(self, index: int, like: Camera) -> NamedPhoto:
        """A photo with about as many pixels per degree as the view has, as far as the file goes."""
        view = self.views[index]
        finest = max(1.0, max(view.photo_size) / max(view.camera.width, view.camera.height))
        camera = view.camera.scaled(min(like.fx / view.camera.fx, finest))
        key = (index, camera)
        if key not in self._held:
            while len(self._held) >= self.held:
                self._held.popitem(last=False)
            photo, drawn = view.load(camera), self.draw(camera, view.pose)
            depth = torch.where(drawn.alpha >= SOLID, drawn.depth, 0)
            reference = ReferencePhoto(camera, view.pose, torch.from_numpy(photo.rgb).float() / 255, depth)
            self._held[key] = NamedPhoto(view.name, reference, photo.usable().astype(np.float32))
        self._held.move_to_end(key)
        return self._held[key]


@dataclass(frozen=True, eq=False)
class FrameFilter:
    """A `slots.FrameEnhancer` that needs no weights. It takes about 1 kB of memory for each pixel of a frame."""

    references: ReferencePhotos | None = None
    """None: nothing is taken from photos."""
    photos: int = 4
    """Nearest photos that a frame's detail comes from."""
    reach: int = 4
    """Frames on either side that a frame is compared with; 0 for pictures that are not neighbours in time."""

    def __call__(self, frames: Iterable[RenderedView]) -> Iterator[EnhancedView]:
        """At most 2 x `reach` + 1 frames are held."""
        window: deque[_Waiting] = deque(maxlen=2 * self.reach + 1)
        following = 0  # the next frame to be given back
        for i, view in enumerate(frames):
            window.append(self._detailed(i, view))
            if i - following >= self.reach:
                yield self._steadied(window, following)
                following += 1
        while window and following <= window[-1].index:
            yield self._steadied(window, following)
            following += 1

    def about(self) -> dict[str, Any]:
        return {
            "method": "filter",
            "what": "colours averaged over frames that show the same surface, detail of photos that agree",
            "frames_each_side": self.reach,
            "photos": self.photos if self.references is not None else 0,
            "weights": [],
        }

    def _detailed(self, index: int, view: RenderedView) -> _Waiting:
        if self.references is None:
            return _Waiting(index, view, np.zeros((*view.depth.shape, 3), np.float32), ())
        detailed = with_photo_detail(view, *self.references.near(view, self.photos))
        return _Waiting(index, view, detailed.rgb - view.rgb.numpy(), detailed.used)

    def _steadied(self, window: Iterable[_Waiting], index: int) -> EnhancedView:
        frame = next(w for w in window if w.index == index)
        others = [w for w in window if 0 < abs(w.index - index) <= self.reach]
        before, after = ([w.view for w in others if (w.index < index) == early] for early in (True, False))
        steady = steadied(frame.view, before, after, [w.detail for w in (frame, *others)])
        names = {name for w in (frame, *(others[k] for k in steady.used)) for name in w.photos}
        from_frames = tuple(others[k].index - index for k in steady.used)
        return EnhancedView(torch.from_numpy(steady.rgb), tuple(sorted(names)), from_frames)


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A frame of the window."""

    index: int
    view: RenderedView
    detail: np.ndarray
    """What the photos would add, float32 [h w 3]."""
    photos: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What an enhanced frame differs by."""

    changed_percent: float
    """Of the pixels, by at least 1/255 in a channel."""
    mean_change: float
    """Over pixels and channels, in 1/255."""
    photos: tuple[str, ...]
    frames: tuple[str, ...]

    @staticmethod
    def of(plain: np.ndarray, enhanced: np.ndarray, photos: Sequence[str], frames: Sequence[str]) -> Change:
        """Pictures: uint8 [h w 3]."""
        difference = np.abs(plain.astype(np.int16) - enhanced)
        percent = 100 * float((difference.max(-1) > 0).mean())
        return Change(round(percent, 3), round(float(difference.mean()), 4), tuple(photos), tuple(frames))


def describe_changes(path: Path, about: Mapping[str, Any], changes: Mapping[str, Change]) -> None:
    """Write the account of enhanced frames, by their names."""
    rows = {
        name: {
            "changed_percent": c.changed_percent,
            "mean_change": c.mean_change,
            "photos": list(c.photos),
            "frames": list(c.frames),
        }
        for name, c in changes.items()
    }
    count = max(1, len(rows))
    write_json(
        path,
        {
            **about,
            "use": "for presentation: never trained on, and no figure of metrics.json is of these pictures",
            "units": "changed_percent: of the pixels, by at least 1/255; mean_change: 1/255 over pixels and channels",
            "mean_changed_percent": round(sum(c.changed_percent for c in changes.values()) / count, 3),
            "mean_change": round(sum(c.mean_change for c in changes.values()) / count, 4),
            "frames": rows,
        },
    )
