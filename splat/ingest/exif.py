"""The header of a photo: size, orientation, focal length, GPS position. Pixels are not decoded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from splat.core.errors import SplatError
from splat.core.image import deep_tiff, is_heif, open_photo
from splat.core.pixels import from_deep, own_white

_ORIENTATION, _MAKE, _MODEL = 0x0112, 0x010F, 0x0110
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_FOCAL_MM, _FOCAL_35MM = 0x920A, 0xA405
_PIXELS_X, _PIXELS_Y = 0xA002, 0xA003
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0}
_PNG_TEXT = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
_MAX_PNG_CHUNKS = 100_000
_MAX_PIXELS_PER_PNG_BYTE = 8 * 1032
"""At one bit a pixel: deflate makes at most 1,032 bytes of one."""
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)

_SENSOR_WIDTHS_MM: tuple[tuple[str, float], ...] = (
    (r"canon eos[- ]?(1d x|1ds|5d|6d|r5|r6|r3|r1|rp|r8|ra?$)", 36.0),
    (r"canon eos[- ]?1d", 28.1),
    (r"canon (eos|eos[- ]?(rebel|kiss))", 22.3),
    (r"canon powershot (g1 x)", 18.7),
    (r"canon powershot (g[579] x|g7x)", 13.2),
    (r"nikon (d[3-6](s|x)?|d6[01]0|d7[05]0|d780|d8[0-9]0e?|df|z ?(5|6|7|8|9|f)( ?_?i+)?)$", 35.9),
    (r"nikon (d[0-9]+|z ?(30|50|fc))", 23.5),
    (r"sony (ilce-[179]|dslr-a[89]|slt-a99|dsc-rx1)(?!\d{3})", 35.8),
    (r"sony (ilce|nex|slt|dslr|zv-e10)", 23.5),
    (r"sony (dsc-rx100|dsc-rx10|zv-1)", 13.2),
    (r"fujifilm (x-|x100|x70|xf10)", 23.5),
    (r"fujifilm gfx", 43.8),
    (r"leica (m |m1|m9|m-|q|sl)", 36.0),
    (r"pentax k-?1", 35.9),
    (r"pentax k", 23.5),
    (r"(olympus|om digital solutions) (e-|om-|pen)", 17.3),
    (r"panasonic dmc-(g|gf|gh|gm|gx)|panasonic dc-(g|gh|gx)", 17.3),
    (r"panasonic dc-s", 35.6),
    (r"gopro", 6.17),
    (r"dji fc(6310|6510|7303x)|hasselblad l1d", 13.2),
    (r"dji fc(6520|550)", 17.3),
    (r"dji (fc(200|220|300|330|350|3411|7203|2103)|phantom)", 6.17),
)
"""Sensor widths of cameras that often write only FocalLength: patterns for "make model" in lower case; first match."""


@dataclass(frozen=True)
class PhotoInfo:
    """The header of a photo."""

    path: Path
    stored_size: tuple[int, int]
    """Width and height as stored, before the EXIF orientation is applied."""
    orientation: int
    """EXIF orientation 1..8; 1 where the decoder already applies it (HEIF)."""
    make_model: str = ""
    focal_px: float | None = None
    """Focal length in pixels of this file; None where the EXIF data do not give it."""
    focal_tag: str = ""
    """The EXIF focal length as text, such as "28 mm film": photos with the same text share a lens setting."""
    gps: tuple[float, float, float] | None = field(default=None)
    """Latitude, longitude in degrees (WGS84), altitude in metres."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright photo."""
        w, h = self.stored_size
        return (h, w) if self.orientation >= 5 else (w, h)


def open_image(path: Path) -> Image.Image:
    """Pillow's image, not decoded and not rotated. Raises SplatError for HEIC without its reader, OSError otherwise."""
    if is_heif(path):
        return open_photo(path)  # registers the HEIF reader, or says how to install it
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        if (values := deep_tiff(path)) is None:
            raise
        return Image.fromarray(from_deep(values, own_white(values)))


def read_info(path: Path) -> PhotoInfo | str:
    """The header, or the reason why the file is no photo."""
    try:
        with open_image(path) as image:
            return _info(path, image, is_heif(path))
    except SplatError:
        raise
    except FileNotFoundError:
        return "it does not exist"
    except UnidentifiedImageError:
        return "it is empty" if path.stat().st_size == 0 else "it is not an image that can be read here"
    except PermissionError:
        return "it may not be read; change its permissions"
    except Exception as e:  # decoders of broken headers raise all kinds
        return f"its header cannot be read ({e})"


def _info(path: Path, image: Image.Image, heif: bool) -> PhotoInfo:
    try:
        # Pillow decodes a whole PNG to find what follows its pixels
        needless = image.format == "PNG" and not _text_follows_pixels(path, image.size)
        exif = Image.Image.getexif(image) if needless else image.getexif()
        main, detail, gps = dict(exif), dict(exif.get_ifd(_EXIF_IFD)), dict(exif.get_ifd(_GPS_IFD))
    except Exception:  # broken EXIF data are common, and the pixels may still be valid
        main, detail, gps = {}, {}, {}
    orientation = main.get(_ORIENTATION, 1)
    if heif or not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    make_model = _make_model(main)
    focal_px, tag = focal_from_exif(make_model, detail, image.size)
    return PhotoInfo(path, image.size, orientation, make_model, focal_px, tag, _gps(gps))


def _text_follows_pixels(path: Path, size: tuple[int, int]) -> bool:
    """Whether a PNG has EXIF data or text (XMP) behind its pixels, which cannot be more than its size explains."""
    if size[0] * size[1] > _MAX_PIXELS_PER_PNG_BYTE * path.stat().st_size:
        return False
    with path.open("rb") as f:
        f.seek(8)
        pixels = False
        for _ in range(_MAX_PNG_CHUNKS):
            head = f.read(8)
            kind = head[4:]
            if pixels and kind in _PNG_TEXT:
                return True
            if len(head) < 8 or kind == b"IEND":
                return False
            pixels |= kind == b"IDAT"
            f.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return False


def _make_model(main: dict[int, Any]) -> str:
    make, model = (str(main.get(k) or "").replace("\0", "").strip() for k in (_MAKE, _MODEL))
    # "NIKON CORPORATION" + "NIKON D3200", "Canon" + "Canon EOS 5D": the model often repeats the maker
    first = make.split()[0] if make else ""
    return model if first and model.lower().startswith(first.lower()) else f"{first} {model}".strip()


def focal_from_exif(make_model: str, exif: dict[int, Any], size: tuple[int, int]) -> tuple[float | None, str]:
    """Focal length in pixels (None where it is unknown), and the EXIF focal length as text ("" without one).

    In this order: FocalPlaneXResolution (the pixel density of the sensor), the 35 mm equivalent focal length (by the
    diagonal, CIPA DCG-001), and a table of sensor widths. Values outside 0.3 to 20 times the long side are ignored.
    """
    long_side = max(size)
    mm, film = _number(exif.get(_FOCAL_MM)), _number(exif.get(_FOCAL_35MM))
    tag = f"{film:g} mm film" if film else f"{mm:g} mm" if mm else ""
    candidates: list[float] = []
    resolution, unit = _number(exif.get(_PLANE_X_RESOLUTION)), _MM_PER_UNIT.get(exif.get(_PLANE_UNIT, 2))
    if mm and resolution and unit:
        taken = max(_number(exif.get(_PIXELS_X)) or 0, _number(exif.get(_PIXELS_Y)) or 0) or long_side
        candidates.append(mm * resolution / unit * long_side / taken)
    if film:
        candidates.append(film / _FILM_DIAGONAL_MM * math.hypot(*size))
    if mm:
        name = make_model.lower()
        sensor = next((w for pattern, w in _SENSOR_WIDTHS_MM if re.match(pattern, name)), None)
        if sensor:
            candidates.append(mm / sensor * long_side)
    believable = [f for f in candidates if 0.3 * long_side < f < 20 * long_side]
    if film and len(believable) > 1 and not 0.8 < believable[0] / believable[1] < 1.25:
        believable = believable[1:]  # FocalPlaneXResolution is wrong more often than the 35 mm equivalent
    return (believable[0], tag) if believable else (None, tag)


def _number(value: Any) -> float | None:
    """A finite positive number of an EXIF value, else None."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _gps(gps: dict[int, Any]) -> tuple[float, float, float] | None:
    """Latitude, longitude, altitude of the GPS tags; None where they are missing or invalid."""
    try:
        degrees = []
        for value, reference, negative in ((2, 1, "S"), (4, 3, "W")):
            d, m, s = (float(x) for x in gps[value])
            sign = -1.0 if str(gps.get(reference, "")).strip().upper().startswith(negative) else 1.0
            degrees.append(sign * (d + m / 60 + s / 3600))
        below = gps.get(5) in {1, b"\x01"}
        altitude = float(gps[6]) * (-1.0 if below else 1.0) if 6 in gps else 0.0
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    lat, lon = degrees
    known = all(map(math.isfinite, (lat, lon, altitude))) and abs(lat) <= 90 and abs(lon) <= 180
    return (lat, lon, altitude) if known and (lat, lon) != (0.0, 0.0) else None
