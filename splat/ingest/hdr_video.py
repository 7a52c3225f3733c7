"""Video in HLG or PQ (ITU-R BT.2100), as phones record "HDR" clips: shown as sRGB, as everything here is.

Before FFmpeg 8, OpenCV hands out the stored values, which look grey and dull as sRGB. They are turned into light, from
BT.2020's primaries to BT.709's, with what is brighter than paper white rolled off. FFmpeg 8 converts frames by itself
(what is brighter than paper white is then clipped); converting them again would double the contrast, so whether the
decoder at hand converts is measured.
"""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

Transfer = Literal["HLG", "PQ"]
_CODES: dict[int, Transfer] = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of ITU-T H.273."""
_HEAD = 4 * 2**20
_BT709_FROM_BT2020 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
"""ITU-R BT.2087."""
_WHITE_NITS = 203.0
"""Of paper white (ITU-R BT.2408); 0.265 of an HLG scene's light."""
_KNEE = 0.8
"""Of paper white: brighter light is compressed."""


def transfer_of(video: Path) -> Transfer | None:
    """HLG or PQ where the file's header says so (MP4 and MOV: an `nclx` colour box; Matroska: TransferCharacteristics);
    else None. The header is at either end of the file."""
    size = video.stat().st_size
    with video.open("rb") as f:
        head = f.read(_HEAD)
        f.seek(max(0, size - _HEAD))
        data = head + (f.read(_HEAD) if size > _HEAD else b"")
    at = data.find(b"colrnclx")
    if at >= 0 and at + 14 <= len(data):
        return _CODES.get(struct.unpack_from(">HHH", data, at + 8)[1])
    if data[:4] == b"\x1a\x45\xdf\xa3":  # EBML
        at = data.find(b"\x55\xba\x81")
        if 0 <= at < len(data) - 3:
            return _CODES.get(data[at + 3])
    return None


@cache
def decoder_converts() -> bool:
    """Whether OpenCV converts HDR frames to sRGB itself: a grey clip is read with and without its colours marked as
    PQ."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grey.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
        for _ in range(2):
            writer.write(np.full((64, 64, 3), 128, np.uint8))
        writer.release()
        if not path.is_file():
            return False
        plain = _first_frame(path)
        mark_colours(path, 9, 16, 9)
        marked = _first_frame(path)
    return plain is not None and marked is not None and abs(float(marked.mean()) - float(plain.mean())) > 10


def _first_frame(video: Path) -> np.ndarray | None:
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    found, frame = capture.read()
    capture.release()
    return frame if found else None


def mark_colours(video: Path, primaries: int, transfer: int, matrix: int) -> None:
    """Add a colour box (`nclx`, ISO 14496-12) to the sample entry of an MP4 of one track that has `moov` last, as
    OpenCV writes it."""
    data = bytearray(video.read_bytes())
    box = struct.pack(">I4s4sHHHB", 19, b"colr", b"nclx", primaries, transfer, matrix, 0)
    around = [data.find(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")]
    if min(around) < 0:
        return
    entry = around[-1] + 16
    for at in (*around, entry):
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(box))
    end = entry + struct.unpack_from(">I", data, entry)[0] - len(box)
    data[end:end] = box
    video.write_bytes(data)


def linear_light(signal: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Values of [0, 1] as they are stored -> light, 1 = paper white (BT.2100 tables 4 and 5)."""
    e = signal.astype(np.float64)
    if transfer == "PQ":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        p = e ** (1 / m2)
        return 10000 * (np.maximum(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1) / _WHITE_NITS
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    light = np.where(e <= 0.5, e**2 / 3, (np.exp((e - c) / a) + b) / 12)
    return light / 0.265


def srgb_from_light(light: np.ndarray) -> np.ndarray:
    """float32 light [... 3] of BT.2020 primaries, 1 = paper white -> sRGB values in [0, 1]."""
    light = np.maximum(light @ _BT709_FROM_BT2020.T, 0)
    peak = light.max(-1, keepdims=True)  # by the brightest channel, so that the hue stays
    rolled = _KNEE + (1 - _KNEE) * (1 - np.exp((_KNEE - np.maximum(peak, _KNEE)) / (1 - _KNEE)))
    light *= np.where(peak > _KNEE, rolled / np.maximum(peak, 1e-9), 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).clip(0, 1)


class ToneMap:
    """Maps the frames of a video of 8 bits a channel."""

    def __init__(self, transfer: Transfer) -> None:
        self._light = linear_light(np.arange(256) / 255, transfer).astype(np.float32)

    def __call__(self, bgr: np.ndarray) -> np.ndarray:
        """uint8 [h w 3] BGR as stored -> the same in sRGB."""
        mapped = srgb_from_light(self._light[bgr[..., ::-1]])
        return np.ascontiguousarray((255 * mapped[..., ::-1] + 0.5).astype(np.uint8))
