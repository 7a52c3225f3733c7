"""What was captured: photos, their cameras, and sparse points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.bundle import TensorBundle
from splat.core.camera import Camera
from splat.core.geometry import Rigid, Similarity
from splat.core.image import Photo, load_photo
from splat.core.machine import threads_that_fit

_MAX_PIXELS_READ = 50_000_000
"""Limit on the total pixels of the photos that are read in parallel, at full size."""
BYTES_PER_READ_PIXEL = 12.0
"""Of a photo at full size, while it is read."""


@dataclass(frozen=True, eq=False)
class PointCloud(TensorBundle):
    """n points with colours in [0, 1]."""

    positions: Float[Tensor, "n 3"]
    rgb: Float[Tensor, "n 3"]


@dataclass(frozen=True, eq=False)
class Tracks:
    """m observations of sparse points in views."""

    view_ids: Int[Tensor, "m"]
    """Index into `Capture.views`."""
    point_ids: Int[Tensor, "m"]
    """Index into `Capture.points`."""
    pixels: Float[Tensor, "m 2"]
    """In pixels of the view's `camera` (working size, without the lens)."""


@dataclass(frozen=True, eq=False)
class View:
    """One photo and the camera that took it."""

    name: str
    """Unique in the capture: the path relative to the photo folder."""
    image_path: Path
    photo_size: tuple[int, int]
    """Width and height of the file, after its EXIF orientation."""
    camera: Camera
    """Intrinsics at the working size, always a pinhole (a lens is removed when the photo is read)."""
    world_from_cam: Rigid | None = None
    """None until the photo is registered."""
    role: Literal["train", "test"] = "train"
    as_stored: bool = False
    """The photo's EXIF orientation is not applied: it would mirror the photo, and its pose is that of the pixels."""
    white: float | None = None
    """Value of the file that is white, where its photos use fewer than their 16 bits; None: as the format says."""
    mask_path: Path | None = None
    invert_mask: bool = False
    mask_mode: Literal["ignore", "empty"] = "ignore"
    """"ignore": masked pixels are left out of the losses. "empty": they are background, like transparent pixels."""
    camera_group: str = ""
    """Views of one group share their intrinsics."""
    focal_from: Literal["file", "exif", "guess"] = "guess"
    """Where the focal length comes from: a dataset's file, the photo's EXIF, or a guess of 1.2 x the long side."""
    bounds: tuple[float, float] | None = None
    """Nearest and farthest depth (z, world units) of what the photo shows, where that is known: LLFF brings it, and a
    coarse plane sweep finds it where there are no sparse points."""
    gps: tuple[float, float, float] | None = None
    """Latitude and longitude in degrees (WGS84), altitude in metres."""
    cached: tuple[Camera, Photo] | None = field(default=None, compare=False, repr=False)
    """The photo in memory and the camera that it was resampled to: see `Capture.in_memory`."""

    @property
    def pose(self) -> Rigid:
        """`world_from_cam` of a registered view."""
        assert self.world_from_cam is not None
        return self.world_from_cam

    def load(self, camera: Camera | None = None, quick: bool = False) -> Photo:
        """Read the photo at the working size, or as another `camera` of the same view; `quick` as in `load_photo`."""
        camera = camera or self.camera
        if self.cached is not None and self.cached[0] == camera:
            return self.cached[1]
        masking = self.mask_path, self.invert_mask, self.mask_mode
        return load_photo(self.image_path, camera, *masking, quick, self.as_stored, self.white)

    def rgb(self, scale: float = 1.0) -> Float[Tensor, "h w 3"]:
        """The photo as float32 in [0, 1], without alpha or mask, at `scale` x the working size."""
        return torch.from_numpy(self.load(self.camera.scaled(scale)).rgb).float() / 255


@dataclass(frozen=True, eq=False)
class Capture:
    """The photos, with all that is known before Gaussians are made. Immutable: edits return a new capture."""

    views: tuple[View, ...]
    points: PointCloud | None = None
    tracks: Tracks | None = None
    world_from_source: Similarity = None  # type: ignore[assignment]  # identity, see __post_init__
    """From the frame of the dataset or of SfM to the world frame; exports apply the inverse."""
    kind: Literal["photos", "video"] = "photos"
    """"video": consecutive views are neighbours in time."""
    source: str = ""
    """The reader that made it, for messages: "photos", "colmap", ..."""

    def __post_init__(self) -> None:
        if self.world_from_source is None:
            object.__setattr__(self, "world_from_source", Similarity.identity())

    @property
    def posed(self) -> bool:
        """True when every view has a pose."""
        return all(v.world_from_cam is not None for v in self.views)

    @property
    def train_views(self) -> tuple[View, ...]:
        return tuple(v for v in self.views if v.role == "train")

    @property
    def test_views(self) -> tuple[View, ...]:
        return tuple(v for v in self.views if v.role == "test")

    def camera_centres(self) -> Float[Tensor, "n 3"]:
        """Centres of the views that have a pose, in order."""
        centres = [v.world_from_cam.translation for v in self.views if v.world_from_cam is not None]
        return torch.stack(centres) if centres else torch.zeros(0, 3, dtype=torch.float64)

    def with_views(self, views: tuple[View, ...]) -> Capture:
        """Replace the views by edited ones, in the same order, so that tracks stay valid."""
        return replace(self, views=views)

    def training(self) -> Capture:
        """Without the held-out photos."""
        return self.select([v.role == "train" for v in self.views])

    def select(self, keep: list[bool]) -> Capture:
        """Only the views marked true; tracks are re-indexed."""
        tracks = self.tracks
        if tracks is not None:
            kept = torch.tensor(keep, dtype=torch.bool)
            new_ids = kept.cumsum(0) - 1
            m = kept[tracks.view_ids.long()]
            tracks = Tracks(new_ids[tracks.view_ids[m].long()], tracks.point_ids[m], tracks.pixels[m])
        return replace(self, views=tuple(v for v, k in zip(self.views, keep) if k), tracks=tracks)

    def in_memory(self, threads: int = 2) -> Capture:
        """The same capture with all photos read (`quick`) at their working size, so that they are read only once. Takes
        3 bytes per pixel, plus 1 with alpha and 1 with a mask."""
        largest = max((v.photo_size[0] * v.photo_size[1] for v in self.views), default=1)
        at_once = max(1, min(threads, _MAX_PIXELS_READ // largest))
        at_once = threads_that_fit(at_once, largest * BYTES_PER_READ_PIXEL)
        with ThreadPoolExecutor(at_once) as pool:
            photos = list(pool.map(lambda v: v.load(quick=True), self.views))
        cached = tuple(replace(v, cached=(v.camera, p)) for v, p in zip(self.views, photos, strict=True))
        return self.with_views(cached)

    def resized(self, max_resolution: int | None = None, downscale: float = 1.0) -> Capture:
        """Every view's working size divided by `downscale`, then its long side capped at `max_resolution` px."""
        views, ratios = [], []
        for v in self.views:
            factor = 1 / downscale
            long_side = max(v.camera.width, v.camera.height) * factor
            if max_resolution and long_side > max_resolution:
                factor *= max_resolution / long_side
            camera = v.camera.scaled(factor) if factor != 1 else v.camera
            ratios.append((camera.width / v.camera.width, camera.height / v.camera.height))
            views.append(replace(v, camera=camera))
        tracks = self.tracks
        if tracks is not None:
            ratio = torch.tensor(ratios, dtype=tracks.pixels.dtype)[tracks.view_ids.long()]
            tracks = replace(tracks, pixels=tracks.pixels * ratio)
        return replace(self, views=tuple(views), tracks=tracks)

    def transformed(self, a_from_world: Similarity) -> Capture:
        """The same capture in another world frame; `world_from_source` is updated."""

        def placed(v: View) -> View:
            if v.world_from_cam is None:
                return v
            scale = float(a_from_world.scale)
            bounds = None if v.bounds is None else (scale * v.bounds[0], scale * v.bounds[1])
            return replace(v, world_from_cam=a_from_world.apply_pose(v.world_from_cam), bounds=bounds)

        views = tuple(map(placed, self.views))
        points = self.points
        if points is not None:
            moved = a_from_world.apply(points.positions.double()).to(points.positions)
            points = replace(points, positions=moved)
        return replace(self, views=views, points=points, world_from_source=a_from_world @ self.world_from_source)
