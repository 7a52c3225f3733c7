"""Frames -> `.webm` with VP8, or `.mp4` with VP9, which every browser plays, by OpenCV.

Of the same frames at the same quality VP8 takes a quarter of the time, and a third more space.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from splat.core.errors import SplatError
from splat.core.files import atomic_path, utf8_path

_CODECS = {".webm": "VP80", ".mp4": "vp09"}
"""Tags of the codecs in their containers. (FFmpeg's own name for VP9 is VP90.)"""
_AHEAD = 4
"""Maximum number of frames in the queue of the encoder."""


def check_flight(frames: int, size: int, fps: float, flags: str) -> None:
    """Raises SplatError for an orbit or a path that cannot be; `size`: its long side in px; `flags`: what the names of
    its flags begin with."""
    if frames < 2 or size < 16 or not 0 < fps <= 1000:
        raise SplatError(
            f"{flags}frames must be at least 2, {flags}size at least 16, {flags}fps above 0 and at most 1000."
        )


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float = 30.0) -> int:
    """Encode a stream of uint8 RGB frames [h w 3] of one size; returns their number.

    Chroma has half the resolution, so an odd last row or column is cropped. The file is written atomically. Raises
    SplatError when there is no frame or OpenCV cannot encode.
    """
    tag = _CODECS.get(path.suffix.lower())
    if tag is None:
        raise SplatError(f"{path} must end in {' or '.join(_CODECS)}.")
    count = 0
    writer: cv2.VideoWriter | None = None
    pending: deque[Future[None]] = deque()
    # libvpx uses one core: encode in a thread while the next frames are rendered
    with atomic_path(path) as temporary, utf8_path(temporary) as writable, ThreadPoolExecutor(1) as encoder:
        try:
            for frame in frames:
                height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
                if writer is None:
                    size = (width, height)
                    code = cv2.VideoWriter.fourcc(*tag)
                    with _without_stderr():  # OpenCV prints there that WebM has no tags, and goes on
                        writer = cv2.VideoWriter(str(writable), cv2.CAP_FFMPEG, code, fps, size)
                    if not writer.isOpened():
                        raise SplatError(
                            f"{path} was not written: this OpenCV has no encoder for it; "
                            "`pip install opencv-python-headless` has one."
                        )
                if (width, height) != size:
                    raise SplatError(
                        f"{path} was not written: frame {count} is {width}x{height}, not {size[0]}x{size[1]}."
                    )
                bgr = cv2.cvtColor(np.ascontiguousarray(frame[:height, :width]), cv2.COLOR_RGB2BGR)
                pending.append(encoder.submit(_encode, writer, bgr))
                if len(pending) > _AHEAD:
                    pending.popleft().result()
                count += 1
            for write in pending:
                write.result()
        finally:
            if writer is not None:
                encoder.submit(writer.release).result()
        if count == 0:
            raise SplatError(f"{path} was not written: the camera path has no frames.")
        if not temporary.is_file() or not _first_frame_reads(temporary):  # OpenCV does not report a full disk
            raise SplatError(f"{path} was not written whole: is the disk full? Free some space and run again.")
    return count


@contextmanager
def _without_stderr() -> Iterator[None]:
    """What libraries print to standard error meanwhile is lost."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _encode(writer: cv2.VideoWriter, bgr: np.ndarray) -> None:
    writer.write(bgr)


def _first_frame_reads(path: Path) -> bool:
    with utf8_path(path) as readable:
        capture = cv2.VideoCapture(str(readable), cv2.CAP_FFMPEG)
    try:
        return bool(capture.isOpened() and capture.read()[0])
    finally:
        capture.release()
