"""What each stage of a run fills in memory, before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splat.core.capture import BYTES_PER_READ_PIXEL, Capture
from splat.poses.attempts import attempt_sequence
from splat.poses.features import bytes_per_thread, feature_size
from splat.poses.known import Known
from splat.poses.registration import LocalizeSettings
from splat.stages.work import Sizes, default_feature_side, finds_features

# Bytes, fitted to the peaks of runs by stage (`scripts/memory_forecast.py` tabulates them).
BYTES_BASE = 0.26e9
"""Python, torch, OpenCV and the compiled kernels, once loaded."""
BYTES_LEFT_OF_POSES = 0.12e9
"""pycolmap, the model and heaps that are not given back, while later stages work."""
BYTES_PER_MATCHED_PIXEL = 145.0
BYTES_BESIDE_MATCHING = 0.03e9
_BYTES_SFM_LIBRARY = 0.10e9
_BYTES_PER_FEATURE = 600.0  # the feature, its matches and its share of the model
_BYTES_PER_DECODED_PIXEL = 5.0
_PIXELS_DECODED = 120_000_000  # at once, at most, where photos are checked
_BYTES_PER_GAUSSIAN = 1600.0  # parameters, Adam moments, gradients and per-row buffers at SH degree 3
_BYTES_PER_TRAINED_GAUSSIAN = 240.0
_BYTES_PER_PHOTO_PIXEL = 5.0  # uint8, of the levels of the resolution schedule that are left when Gaussians are many
_BYTES_PER_RENDER_PIXEL = 220.0
_BYTES_PER_MEASURED_PIXEL = 450.0  # SSIM and the colour map that fits best, beside the render
_BYTES_PER_SEARCHED_PIXEL = 2300.0  # SSIM and its gradient, as torch keeps them
_BYTES_BESIDE_MEASURING = 0.03e9
_BYTES_PER_EXPORTED_GAUSSIAN = 1500.0
_BYTES_BESIDE_EXPORT = 0.03e9  # encoders of pictures and videos
MIN_FEATURE_SIDE = 480
"""px; no photo is made smaller than that to find its features."""


@dataclass(frozen=True)
class Memory:
    """Expected peak of the process in each stage, bytes."""

    stages: Mapping[str, float]

    @property
    def peak(self) -> float:
        return max(self.stages.values())

    @property
    def largest(self) -> str:
        """The stage that takes most."""
        return max(self.stages, key=lambda s: self.stages[s])


def expected_memory(sizes: Sizes, threads: int, spare: float | None = None) -> Memory:
    """Of a run on `threads` threads. `spare`: bytes that there are beyond BYTES_BASE; fewer threads find features where
    they would take more."""
    s, working, cap, finds = sizes, sizes.working, sizes.cap, finds_features(sizes.posing, sizes.needs_sfm)
    later = BYTES_BASE + (BYTES_LEFT_OF_POSES if finds else 0.0)
    reading = _reading_bytes(working, threads)
    pixels = max((v.camera.width * v.camera.height for v in working.views), default=0)
    kept = later + pixels * _BYTES_PER_RENDER_PIXEL + cap * _BYTES_PER_TRAINED_GAUSSIAN
    found = pose_bytes(s.posing, s.needs_sfm, threads, s.feature_side, spare)
    measuring = pixels * _BYTES_PER_MEASURED_PIXEL + _BYTES_BESIDE_MEASURING + reading / threads
    return Memory(
        {
            "ingest": BYTES_BASE + _decoding_bytes(s.posing, threads),
            "poses": BYTES_BASE + found,
            "init": later + (BYTES_BESIDE_MATCHING + s.matched * BYTES_PER_MATCHED_PIXEL if s.matched else 0.0),
            "train": later + reading + training_bytes(working, cap),
            "evaluate": kept + max(measuring, _localization_bytes(sizes, threads, spare)),
            "export": kept + cap * _BYTES_PER_EXPORTED_GAUSSIAN + _BYTES_BESIDE_EXPORT,
        }
    )


def _localization_bytes(sizes: Sizes, threads: int, spare: float | None) -> float:
    """Of features of all photos, found anew, or of the search that follows: what photos that were held out need to be
    placed in the finished scene."""
    if not sizes.held_out:
        return 0.0
    pixels = max(v.camera.width * v.camera.height for v in sizes.held_out)
    everything = Capture((*sizes.posing.views, *sizes.held_out))
    settings, found = LocalizeSettings(), 0.0
    if sizes.localizes:
        found = _feature_bytes(everything, settings.max_size, settings.max_count, threads, spare)
    return max(found, pixels * _BYTES_PER_SEARCHED_PIXEL)


def pose_bytes(
    capture: Capture, needs_sfm: bool, threads: int, feature_side: int | None = None, spare: float | None = None
) -> float:
    """What the poses stage fills beyond BYTES_BASE."""
    if not finds_features(capture, needs_sfm) or not capture.views:
        return 0.0
    side = feature_side or default_feature_side(capture, needs_sfm)
    count = attempt_sequence(len(capture.views))[0].features.max_count if needs_sfm else Known().max_features
    return _BYTES_SFM_LIBRARY + _feature_bytes(capture, side, count, threads, spare)


def _feature_bytes(capture: Capture, side: int, count: int, threads: int, spare: float | None) -> float:
    """Of `count` features of each photo, and of those at once in which they are being found."""
    kept = len(capture.views) * count * _BYTES_PER_FEATURE
    each = max(bytes_per_thread(feature_size(v, side), v.photo_size) for v in capture.views)
    at_once = min(threads, 8, len(capture.views))
    if spare is not None:
        at_once = max(1, min(at_once, int((spare - kept - _BYTES_SFM_LIBRARY) / each)))
    return kept + at_once * each


def training_bytes(working: Capture, cap: int) -> float:
    """What training `cap` Gaussians fills beyond what is there before."""
    sizes = [v.camera.width * v.camera.height for v in working.views]
    photos = sum(sizes) * _BYTES_PER_PHOTO_PIXEL + max(sizes, default=0) * _BYTES_PER_RENDER_PIXEL
    return photos + cap * _BYTES_PER_GAUSSIAN


def _reading_bytes(capture: Capture, threads: int) -> float:
    """Of photos at full size that are read at the same time."""
    largest = max((v.photo_size[0] * v.photo_size[1] for v in capture.views), default=0)
    return threads * largest * BYTES_PER_READ_PIXEL


def _decoding_bytes(capture: Capture, threads: int) -> float:
    """Of the check of all photos, which decodes several at once; JPEG at an eighth of its size."""
    whole = [v.photo_size[0] * v.photo_size[1] for v in capture.views if not _is_jpeg(v.image_path.suffix)]
    largest = max(whole, default=0)
    at_once = max(1, min(threads, 8, _PIXELS_DECODED // max(1, largest)))
    return at_once * largest * _BYTES_PER_DECODED_PIXEL


def _is_jpeg(suffix: str) -> bool:
    return suffix.lower() in {".jpg", ".jpeg", ".jpe", ".jfif"}
