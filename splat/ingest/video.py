"""A video as photos: the sharpest frame of each of many equal time windows, extracted once."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.files import utf8_path, write_atomic, write_json
from splat.core.foreign import path_inside, read_json, regular_file, shown
from splat.core.slots import ReadOptions, Reporter
from splat.ingest.cameras import GUESSED_FOCAL
from splat.ingest.folders import image_size, list_photos, photo_folders
from splat.ingest.hdr_video import ToneMap, decoder_converts, transfer_of
from splat.ingest.names import safe_names
from splat.ingest.validation import LimitedWarnings

_SUFFIXES = "mp4 mov avi mkv webm m4v mts m2ts mpg mpeg mpe wmv asf 3gp 3g2 flv ogv vob mxf qt divx"
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Of what FFmpeg opens and cameras or phones record."""
_SECONDS_PER_FRAME = 0.3
"""A hand-held camera moves by a few per cent of its view in this time: neighbours overlap well and have parallax."""
_MIN_FRAMES = 30
"""Short clips get shorter windows, down to every frame."""
_CANDIDATES = 12
"""Frames per window whose sharpness is measured; motion blur lasts several frames, so more add nothing."""
_MIN_CLIP_FRAMES = 8
"""Of each of several clips, which otherwise share `max_frames` by their lengths."""
_SHARPNESS_SIDE = 480
_INDEX_VERSION = 1
_FRAME = re.compile(r"frame_\d+\.jpg")


class VideoReader:
    """A video file, or a folder that contains some: several clips are one capture, each with intrinsics of its own."""

    name = "video"

    def accepts(self, path: Path) -> bool:
        if path.is_dir():
            return bool(_videos(path)) and not list_photos(path) and not photo_folders(path)
        return path.suffix.lower() in VIDEO_SUFFIXES

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture:
        if options.workdir is None:
            raise SplatError(f"{shown(path)} is a video and needs a folder for its frames: set workdir.")
        frames = options.workdir / "frames"
        if not path.is_dir():
            return Capture(tuple(_views(path, frames, "", options.max_frames, report)), kind="video", source=self.name)
        clips = _videos(path)
        if len(clips) == 1:
            return self.read(clips[0], options, report)
        names = safe_names([c.name for c in clips])
        readable, seconds = list[tuple[Path, str]](), list[float]()
        with LimitedWarnings(report) as warnings:
            for clip, name in zip(clips, names):
                try:
                    total, fps = _length(clip)
                except SplatError as e:
                    warnings.warn(f"{shown(clip)} is left out: {e}")
                    continue
                readable.append((clip, name))
                seconds.append(total / fps)
        if not readable:
            raise SplatError(
                f"{shown(path)} has {len(clips)} videos, none of which can be opened: convert them to H.264."
            )
        report.info(f"{len(readable)} clips are one capture: {', '.join(shown(n) for _, n in readable[:4])}.")
        views = list[View]()
        for (clip, name), length in zip(readable, seconds):
            share = max(_MIN_CLIP_FRAMES, round(options.max_frames * length / sum(seconds)))
            views += _views(clip, frames, f"{name}/", share, report)
        # frames of two clips are no neighbours in time, so this is a set of photos
        return Capture(tuple(views), kind="photos", source=self.name)

    def expected(self, path: Path, options: ReadOptions) -> Capture:
        """As `read`, but no frame is taken: views without photos, as many and as large as there will be."""
        clips = _videos(path) if path.is_dir() else [path]
        lengths = [_length(clip) for clip in clips]
        seconds = sum(total / fps for total, fps in lengths)
        views = list[View]()
        for clip, (total, fps) in zip(clips, lengths):
            share = options.max_frames
            if len(clips) > 1:
                share = max(_MIN_CLIP_FRAMES, round(options.max_frames * total / fps / seconds))
            video = _open(clip)
            size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
            video.release()
            focal = GUESSED_FOCAL * max(size)
            camera = Camera(focal, focal, size[0] / 2, size[1] / 2, *size)
            for i in range(windows_for(total / fps, total, share)):
                views.append(View(f"{clip.name}/{i:05d}.jpg", clip.with_suffix(".jpg"), size, camera))
        return Capture(tuple(views), kind="video" if len(clips) == 1 else "photos", source=self.name)


def _views(clip: Path, folder: Path, prefix: str, max_frames: int, report: Reporter) -> list[View]:
    """The frames of one clip. `prefix`: of their names; the clip's folder, or empty for a single one."""
    here = path_inside(folder, prefix) if prefix else folder
    index = extract_frames(clip, here, max_frames, report)
    width, height = index["width"], index["height"]
    focal = GUESSED_FOCAL * max(width, height)
    camera = Camera(focal, focal, width / 2, height / 2, width, height)
    group = f"video {prefix}".strip()
    return [View(prefix + name, here / name, (width, height), camera, camera_group=group) for name in index["frames"]]


def _videos(folder: Path) -> list[Path]:
    entries = [p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".")]
    return sorted(p for p in entries if p.is_file())


def windows_for(seconds: float, frames: int, max_frames: int) -> int:
    """Number of windows (frames to keep): one per 0.3 s, at least 30, at most `max_frames` and the number of frames."""
    wanted = max(_MIN_FRAMES, round(seconds / _SECONDS_PER_FRAME))
    return max(1, min(wanted, max_frames, frames))


def extract_frames(video: Path, folder: Path, max_frames: int, report: Reporter) -> dict[str, Any]:
    """Write the chosen frames as JPEG into `folder` and return its index: {"frames": [names], "width", "height", ...}.

    The index is written last, as `frames.json`. When it agrees with the video and `max_frames` and its files exist, the
    frames are not extracted again. Raises SplatError where no frame can be decoded or encoded.
    """
    index_path = folder / "frames.json"
    key = {"version": _INDEX_VERSION, "video": video.name, "fingerprint": _fingerprint(video), "max_frames": max_frames}
    old = _load_index(index_path)
    if old and all(old.get(k) == v for k, v in key.items()) and all((folder / n).is_file() for n in old["frames"]):
        report.info(f"{len(old['frames'])} frames of {shown(video.name)} are already there.")
        return old
    for stale in [*(old["frames"] if old else []), "frames.json"]:
        with suppress(IsADirectoryError):  # writing says so
            (folder / stale).unlink(missing_ok=True)
    total, fps = _length(video)
    windows = windows_for(total / fps, total, max_frames)
    report.info(
        f"{shown(video.name)}: {total} frames, {total / fps:.1f} s; keeping the sharpest of each of {windows} windows."
    )
    transfer = transfer_of(video)
    tone_map = ToneMap(transfer) if transfer and not decoder_converts() else None
    if transfer:
        how = "are mapped to sRGB" if tone_map else "are converted to sRGB by FFmpeg, which clips above paper white"
        report.info(f"{shown(video.name)} is HDR ({transfer}): its colours {how}.")
    names, sharpness, size = [], [], (0, 0)
    for number, score, frame in sharpest_frames(video, total, windows):
        name = f"frame_{number:06d}.jpg"
        frame = tone_map(frame) if tone_map else frame
        ok, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not ok:
            raise SplatError(f"Frame {number} of {shown(video)} cannot be encoded as JPEG: convert the video to H.264.")
        write_atomic(folder / name, encoded.tobytes())
        names.append(name)
        sharpness.append(round(score, 2))
        size = (frame.shape[1], frame.shape[0])
        report.progress(len(names), windows)
    if len(names) < windows:
        report.warn(f"{shown(video)} ends early: {len(names)} of {windows} windows could be read; check the file.")
    if not names:
        raise SplatError(
            f"{shown(video)} has no frame that can be decoded: convert it to H.264 (.mp4) or cut it into photos."
        )
    index = {**key, "width": size[0], "height": size[1], "fps": fps, "frames": names, "sharpness": sharpness}
    write_json(index_path, index)
    return index


def sharpest_frames(video: Path, total: int, windows: int) -> Iterator[tuple[int, float, np.ndarray]]:
    """Yields (frame number, sharpness, BGR pixels) of the sharpest frame of each window, in order."""
    capture = _open(video)
    stride = max(1, total // windows // _CANDIDATES)
    best: tuple[int, float, np.ndarray] | None = None
    window, number = 0, 0
    try:
        while capture.grab():
            here = min(number * windows // total, windows - 1)  # the header may count too few frames
            if here != window:
                if best is not None:
                    yield best
                window, best = here, None
            if number % stride == 0 or best is None:
                ok, frame = capture.retrieve()
                score = _sharpness(frame) if ok else -1.0
                if ok and (best is None or score > best[1]):
                    best = (number, score, frame)
            number += 1
    finally:
        capture.release()
    if best is not None:
        yield best


def _sharpness(frame: np.ndarray) -> float:
    """Variance of the Laplacian at a fixed, reduced size, which suppresses noise."""
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    shrink = min(1.0, _SHARPNESS_SIDE / max(grey.shape))
    if shrink < 1:
        grey = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _open(video: Path) -> cv2.VideoCapture:
    regular_file(video)  # FFmpeg would wait for a pipe
    # absolute: FFmpeg takes "2024-05-01T12:30.mp4" for a protocol, and "-" for standard input
    with utf8_path(video.absolute()) as readable:
        capture = cv2.VideoCapture(str(readable), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise SplatError(
            f"{shown(video)} cannot be opened as a video: convert it to H.264 (.mp4) or cut it into photos."
        )
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # phones store portrait clips sideways with a rotation tag
    return capture


def _length(video: Path) -> tuple[int, float]:
    """Number of frames (counted where the header does not give it) and frames per second."""
    capture = _open(video)
    try:
        total, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(total) and 0 < total < 1e8):
            total = 0
            while capture.grab():
                total += 1
    finally:
        capture.release()
    if not (math.isfinite(fps) and 0.1 < fps < 1000):
        fps = 30.0
    return max(1, int(total)), fps


def _fingerprint(video: Path) -> str:
    """File size and a checksum of the first and last MiB: changes with the content, not with the path."""
    size, end = regular_file(video), 1 << 20
    try:
        with video.open("rb") as f:
            head = f.read(end)
            f.seek(max(0, size - end))
            return f"{size}-{zlib.crc32(f.read(end), zlib.crc32(head)):08x}"
    except OSError as e:
        raise SplatError(f"{shown(video)} cannot be read ({e.strerror or e}): change its permissions.") from None


def _load_index(path: Path) -> dict[str, Any] | None:
    """The index of extracted frames; None where there is none, or one that this program did not write like that."""
    try:
        index = read_json(path)
    except SplatError:
        return None
    names, size = index.get("frames"), (index.get("width"), index.get("height"))
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and _FRAME.fullmatch(n) for n in names):
        return None
    known = all(type(s) is int for s in size) and len(set(names)) == len(names)
    return index if known and size == image_size(path.with_name(names[0])) else None  # cameras get that size
