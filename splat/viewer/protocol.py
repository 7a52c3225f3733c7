"""The messages between server and browser, each defined once.

Browser -> server: JSON objects with a `kind`, decoded into the dataclasses below. Server -> browser: JSON objects with
a `type` (`hello`, `progress`, `edited`, `picked`, `path`, `saved`, `notice`), and binary messages that start with a
header of little-endian uint32: 1, step, count, SH degree, part, parts for `splats` (the parts joined are the planes of
`pack_splats`), 2, id for `picture` (an image file follows), and 3, count for `mask` (a bit per Gaussian of the last
`splats`, least significant first: whether it is kept).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from splat.viewer.decoding import MalformedMessage, decode
from splat.viewer.edits import Operation, Pinhole

MAX_MESSAGE = 1_000_000
"""Bytes of a message of the browser."""
MAX_PART = 1_000_000
"""Bytes of a part of `splats`: what a slow connection has to take in one go."""
SPLATS, PICTURE, MASK = 1, 2, 3

Mode = Literal["colour", "depth", "normal", "alpha", "support", "difference"]


@dataclass(frozen=True)
class Shown:
    """The splats of a step are on the screen: more may be sent."""

    kind: Literal["shown"]
    step: int


@dataclass(frozen=True)
class Look:
    """Draw a picture. Of several that wait, a browser gets the last."""

    kind: Literal["look"]
    id: int
    mode: Mode
    view: Pinhole
    photo: int = -1
    """For `difference`: index of the photo that it is compared with."""


@dataclass(frozen=True)
class Pick:
    """Where the surface at a pixel is; `picked` comes back, with `point` null where there is none."""

    kind: Literal["pick"]
    id: int
    view: Pinhole
    x: float
    y: float


@dataclass(frozen=True)
class Steer:
    """Pause training, resume it, or end it and keep the result."""

    kind: Literal["steer"]
    action: Literal["pause", "resume", "stop"]


@dataclass(frozen=True)
class Edit:
    """Add an operation; with `replace`, in place of the last one if that is of the same kind (a slider that moves)."""

    kind: Literal["edit"]
    operation: Operation
    replace: bool = False


@dataclass(frozen=True)
class Undo:
    """Take the last operation back, or all."""

    kind: Literal["undo"]
    all: bool = False


@dataclass(frozen=True)
class Save:
    """Write the edited splat and its recipe."""

    kind: Literal["save"]


@dataclass(frozen=True)
class Path:
    """A camera path: preview it (`path` comes back), or write it as a video."""

    kind: Literal["path"]
    action: Literal["preview", "render"]
    keyframes: tuple[Pinhole, ...]
    seconds: float
    fps: float = 30.0

    def __post_init__(self) -> None:
        if not 2 <= len(self.keyframes) <= 200:
            raise ValueError("a path has 2 to 200 keyframes")
        if not 0.1 <= self.seconds <= 600 or not 1 <= self.fps <= 120:
            raise ValueError("a path lasts 0.1 to 600 s at 1 to 120 frames per second")
        if self.seconds * self.fps > 20_000:
            raise ValueError("a path has at most 20,000 frames")
        if max(*(k.width for k in self.keyframes), *(k.height for k in self.keyframes)) > 3840:
            raise ValueError("a frame has at most 3840 px a side")

    @property
    def frames(self) -> int:
        return max(2, round(self.seconds * self.fps))


Message = Shown | Look | Pick | Steer | Edit | Undo | Save | Path


@dataclass(frozen=True)
class _Envelope:
    message: Message


def parse(text: str | bytes) -> Message:
    """A message of the browser. Raises MalformedMessage."""
    if isinstance(text, bytes):
        raise MalformedMessage("messages are text")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedMessage("it is not JSON") from None
    return decode(_Envelope, {"message": data}).message


def to_text(message: dict[str, Any]) -> str:
    """A JSON message of the server. Numbers that are not finite, which JSON has not, become null."""
    return json.dumps(_finite(message), separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def splats_messages(step: int, count: int, sh_degree: int, planes: bytes) -> Iterator[bytes]:
    """The binary `splats`, in parts."""
    parts = max(1, -(-len(planes) // MAX_PART))
    for part in range(parts):
        head = struct.pack("<6I", SPLATS, step, count, sh_degree, part, parts)
        yield head + planes[part * MAX_PART : (part + 1) * MAX_PART]


def picture_message(id: int, image: bytes) -> bytes:
    """The binary `picture`: a PNG."""
    return struct.pack("<2I", PICTURE, id & 0xFFFFFFFF) + image


def mask_message(kept: Bool[Tensor, "n"]) -> bytes:
    """The binary `mask`."""
    bits = np.packbits(kept.numpy(), bitorder="little")
    return struct.pack("<2I", MASK, len(kept)) + bits.tobytes()
