"""Decoded pictures of every mode, bit depth and colour space -> uint8 sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms

_TRANSPARENT_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_WITHOUT_RGB = frozenset({"CMYK", "L", "LA", "La", "1"})
"""Modes whose profiles, if any, are not for RGB."""
_SAME_COLOUR = 4
"""Largest difference in 1/255 between colours before and after conversion from a profile that counts as sRGB."""
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
"""EXIF orientation -> quarter turns (counter-clockwise, as `np.rot90`), then whether the columns are reversed."""
_INTEGER_WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)


def to_uint8(image: Image.Image) -> np.ndarray:
    """A decoded picture as uint8 [h w 3], or [h w 4] with transparency, in sRGB.

    The value of 16-bit pixels that becomes 255 is the format's, of integers of 32 bits and floats it is `own_white`. An
    embedded profile that is not sRGB (Display P3, Adobe RGB, a printer's CMYK) is applied; a damaged one is ignored.
    """
    if is_deep(image):
        values = deep_values(image)
        return from_deep(values, own_white(values))
    has_alpha = image.mode in _TRANSPARENT_MODES or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        lab = ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")
        return np.array(ImageCms.applyTransform(image, lab))
    if profile and image.mode == "CMYK" and (transform := _to_srgb(profile, "CMYK")):
        return np.array(ImageCms.applyTransform(image, transform))
    wanted = "RGBA" if has_alpha else "RGB"
    rgb = image if image.mode == wanted else image.convert(wanted)
    pixels = np.array(rgb)  # a copy: what PIL lends is read-only
    return in_srgb(pixels, profile) if profile and image.mode not in _WITHOUT_RGB else pixels


def in_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Colours of an RGB profile, uint8 [h w 3 or 4], as sRGB; `pixels` itself where the profile is sRGB or damaged."""
    transform = _to_srgb(profile, "RGB")
    if transform is None:
        return pixels
    opaque = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return np.dstack([np.asarray(ImageCms.applyTransform(opaque, transform)), pixels[..., 3:]])


# ---------------------------------------------------------------------------------------------- more than 8 bits


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels have more than 8 bits in PIL's memory: one channel of 16 or 32 bits or of floats."""
    return image.mode.startswith("I") or image.mode == "F"


def loses_bits(image: Image.Image) -> bool:
    """Whether PIL will keep only the upper 8 of 16 bits (colours of PNG and TIFF). To be asked before it is decoded."""
    return not is_deep(image) and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def deep_values(image: Image.Image) -> np.ndarray:
    """Values of a picture that `is_deep`, [h w], integers of "I" modes as they are; not a number counts as 0."""
    values = np.asarray(image)
    return np.nan_to_num(values) if image.mode == "F" else values


def cv2_values(path: Path) -> np.ndarray | None:
    """All bits of a PNG or TIFF as stored (not turned), [h w] or [h w 3|4] RGB(A); None where OpenCV cannot read it."""
    try:
        data = np.fromfile(path, np.uint8)  # not by name: OpenCV opens only names in UTF-8
        values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (cv2.error, OSError, ValueError):
        return None
    if values is None or values.dtype.kind not in "uf":
        return None
    if values.ndim == 3:
        swap = cv2.COLOR_BGRA2RGBA if values.shape[2] == 4 else cv2.COLOR_BGR2RGB
        values = cv2.cvtColor(values, swap) if values.shape[2] in {3, 4} else values[..., 0]
    return np.nan_to_num(values) if values.dtype.kind == "f" else values


def from_deep(values: np.ndarray, white: float) -> np.ndarray:
    """uint8 [h w 3|4] of values [h w] or [h w 3|4] of which `white` is the largest."""
    levels = np.arange(65536) if values.dtype == np.uint16 else values  # a table saves copies in float32
    scaled = np.clip(levels.astype(np.float32) / np.float32(white) * 255 + 0.5, 0, 255).astype(np.uint8)
    scaled = scaled[values] if values.dtype == np.uint16 else scaled
    return np.repeat(scaled[..., None], 3, 2) if scaled.ndim == 2 else scaled


def level_of(values: np.ndarray) -> float:
    """How large the values of a picture are: the largest integer, or the 99th percentile of floats, of which a few may
    lie above white."""
    if not values.size:
        return 0.0
    top = float(values.max())
    if top <= 1 or values.dtype.kind != "f":
        return top
    colours = values[..., :3] if values.ndim == 3 else values
    return max(float(np.percentile(colours, 99)), 0.0)


def own_white(values: np.ndarray) -> float:
    """The white of a picture of which nothing else is known: only integers of 32 bits and floats tell by their values
    how far they go."""
    return 65535.0 if values.dtype.itemsize == 2 else white_of(level_of(values), values.dtype.kind == "f")


def white_of(level: float, floats: bool, bits_in_use: bool = False) -> float:
    """The white of pictures whose largest `level_of` is this: 1, 255 or 65535 for floats, 255 or 65535 for integers;
    with `bits_in_use` also that of 10, 12 and 14 bits, which cameras write into 16."""
    if floats and level <= 1:
        return 1.0
    whites = _INTEGER_WHITES if bits_in_use and not floats else (255.0, 65535.0)
    return next((w for w in whites if level <= w), 65535.0)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as stored -> upright, by the EXIF orientation 1..8."""
    quarters, mirrored = _TURNS.get(orientation, (0, False))
    pixels = np.rot90(pixels, quarters)
    return np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)


# --------------------------------------------------------------------------------------------------------- colour


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile's colours to sRGB; None where these are sRGB already, or the profile is of no use."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
        if mode == "RGB":
            levels = np.linspace(0, 255, 5).astype(np.uint8)
            colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(5, 25, 3)
            converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform))
            if np.abs(converted.astype(int) - colours).max() <= _SAME_COLOUR:
                return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform
