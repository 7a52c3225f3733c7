"""Photos as arrays: read with EXIF orientation, undistorted and resampled to a camera; written atomically."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.foreign import shown
from splat.core.lens import undistort
from splat.core.pixels import (
    cv2_values,
    deep_values,
    from_deep,
    in_srgb,
    is_deep,
    loses_bits,
    own_white,
    to_uint8,
    turned,
)
from splat.core.resampling import resampled, resize_area

_SUFFIXES = "jpg jpeg jpe jfif jif mpo png webp tif tiff bmp gif avif jp2 j2k jpx ppm pgm pnm heic heif heics hif"
PHOTO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Of what Pillow opens and people have as photos; the contents decide how a file is read."""
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_MAX_LABEL = 127
"""Masks without a larger value, of 255, hold labels."""
_MAX_FLOAT_PIXELS = 200_000_000
"""Of a TIFF that OpenCV reads, at 12 bytes a pixel."""
Image.MAX_IMAGE_PIXELS = None  # panoramas of hundreds of megapixels are legitimate photos


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo at its view's working size."""

    rgb: np.ndarray
    """uint8 [h w 3]; not premultiplied by `alpha`."""
    alpha: np.ndarray | None = None
    """uint8 [h w], 0 = empty space, where the scene must be transparent."""
    weight: np.ndarray | None = None
    """uint8 [h w], 0 = the pixel is unknown (masked, or outside the lens image) and gets no loss."""

    def usable(self) -> np.ndarray:
        """bool [h w]: pixels that are neither masked nor empty."""
        masks = [m > 127 for m in (self.weight, self.alpha) if m is not None]
        return np.logical_and.reduce(masks) if masks else np.ones(self.rgb.shape[:2], bool)


def open_photo(path: Path, min_size: tuple[int, int] | None = None, as_stored: bool = False) -> Image.Image:
    """Open with the EXIF orientation applied, unless `as_stored`. (The decoder of HEIF applies it itself, so its tag is
    ignored.) With `min_size` (width, height), a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is faster,
    but not below `min_size`."""
    if is_heif(path):
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise SplatError(f"{shown(path)} is HEIC: install the reader with `pip install splat3d[heif]`.") from None
        register_heif_opener()
        return Image.open(path)
    image = Image.open(path)
    if min_size is not None and image.format == "JPEG":
        turned = not as_stored and _orientation(image) in (5, 6, 7, 8)
        width, height = reversed(min_size) if turned else min_size
        for share in (8, 4, 2):  # only where no row or column would be cut
            small, rest = (image.width // share, image.height // share), (image.width % share, image.height % share)
            if rest == (0, 0) and small[0] >= width and small[1] >= height:
                image.draft(None, small)
                break
    if not as_stored:
        with suppress(*BROKEN_EXIF):
            ImageOps.exif_transpose(image, in_place=True)  # in place: without rotation nothing is decoded and copied
    return image


BROKEN_EXIF = (ValueError, TypeError, AttributeError, LookupError, OverflowError, SyntaxError, struct.error)
"""What Pillow raises for EXIF values of the wrong type or size; the pixels may still be valid."""


def is_heif(path: Path) -> bool:
    """Whether the contents of a file are HEIC or HEIF, whatever its suffix."""
    with path.open("rb") as f:
        head = f.read(32)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except BROKEN_EXIF:
        return 1


def stored_orientation(path: Path) -> int:
    """The EXIF orientation, 1..8, by which the stored pixels of a photo are turned when it is opened; 1 where the
    decoder turns them (HEIF), or there is no such photo."""
    try:
        if is_heif(path):
            return 1
        with Image.open(path) as image:
            orientation = _orientation(image)
    except (OSError, SplatError):
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def read_pixels(
    path: Path, min_size: tuple[int, int] | None = None, as_stored: bool = False, white: float | None = None
) -> np.ndarray:
    """The whole photo in sRGB, uint8 [h w 3] or, with transparency, [h w 4]; `min_size` and `as_stored` as in
    `open_photo`. `white`: the value of 16-bit pixels that is white, where files do not use all of their bits; None: as
    the format says."""
    try:
        if white is not None and (deep := _all_bits(path, as_stored)) is not None:
            values, profile = deep
            return in_srgb(from_deep(values, white), profile) if profile else from_deep(values, white)
        try:
            image = open_photo(path, min_size, as_stored)
        except UnidentifiedImageError:
            if (floats := deep_tiff(path)) is None:
                raise
            return from_deep(floats, own_white(floats))
        image.load()
    except FileNotFoundError:
        raise SplatError(f"{shown(path)} does not exist: check the folder or the file that names it.") from None
    except (UnidentifiedImageError, OSError, EOFError, Image.DecompressionBombError, *BROKEN_EXIF) as e:
        raise SplatError(f"{shown(path)} cannot be read ({shown(e)}): replace or remove this photo.") from None
    return to_uint8(image)


def deep_tiff(path: Path) -> np.ndarray | None:
    """Values [h w] or [h w 3|4] of a TIFF that Pillow does not know: colours in floats. None for other files."""
    try:
        with path.open("rb") as f:
            tags = TiffImagePlugin.ImageFileDirectory_v2(f.read(8))
            f.seek(tags.next)
            tags.load(f)
        pixels = int(tags[256]) * int(tags[257])
    except (OSError, *BROKEN_EXIF):
        return None
    explained = pixels <= min(_MAX_FLOAT_PIXELS, 100 * path.stat().st_size)
    return cv2_values(path) if explained else None


def _all_bits(path: Path, as_stored: bool) -> tuple[np.ndarray, bytes | None] | None:
    """Values of a photo of more than 8 bits, [h w] or [h w 3|4], upright unless `as_stored`, and the profile of its
    colours, if any; None for other photos."""
    try:
        image = open_photo(path, as_stored=True)
    except UnidentifiedImageError:
        return None if (floats := deep_tiff(path)) is None else (floats, None)
    grey = is_deep(image)
    values = deep_values(image) if grey else cv2_values(path) if loses_bits(image) else None
    if values is None or values.dtype.itemsize == 1:
        return None
    profile = None if grey or values.ndim == 2 else image.info.get("icc_profile")
    return turned(values, 1 if as_stored else _orientation(image)), profile


def load_photo(
    path: Path,
    camera: Camera,
    mask_path: Path | None = None,
    invert_mask: bool = False,
    mask_mode: Literal["ignore", "empty"] = "ignore",
    quick: bool = False,
    as_stored: bool = False,
    white: float | None = None,
) -> Photo:
    """Read a photo as `camera` would have taken it: oriented (unless `as_stored`), undistorted, at the camera's size.
    With `quick`, a JPEG is decoded at reduced size, at least twice the camera's; values may then differ by 1 or 2 of
    255. `white` as in `read_pixels`.

    Colour is averaged premultiplied by alpha, so transparent pixels do not leak into their neighbours. With `mask_mode`
    "empty" the mask becomes alpha (the minimum of both, if the photo has one); with "ignore" it becomes `weight`.
    """
    pixels = read_pixels(path, (2 * camera.width, 2 * camera.height) if quick else None, as_stored, white)
    mask = _read_mask(mask_path, pixels.shape[:2], invert_mask) if mask_path else None
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    if mask is not None and mask_mode == "empty":
        alpha, mask = (mask if alpha is None else np.minimum(alpha, mask)), None
    if alpha is not None and alpha.min() == 255:
        alpha = None
    if camera.lens is not None:
        return Photo(*undistort(pixels, alpha, mask, camera))
    rgb, alpha = resampled(pixels[..., :3], alpha, lambda p: resize_area(p, camera.width, camera.height))
    weight = None if mask is None else resize_area(mask, camera.width, camera.height)
    return Photo(rgb=np.ascontiguousarray(rgb), alpha=alpha, weight=weight)


def _use_of(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """What a mask's pixels [h w 3 or 4] say: uint8 [h w], above 127 = use, and whether it is a label map. An alpha
    channel that is not opaque everywhere wins over the colour. Of label maps, whose values are all below 128, every
    label but 0 means use."""
    says = pixels.shape[2] == 4 and pixels[..., 3].min() < 255
    mask = pixels[..., 3] if says else pixels[..., :3].max(2)
    labels = bool(0 < mask.max() <= _MAX_LABEL)
    return (np.where(mask > 0, np.uint8(255), np.uint8(0)) if labels else mask), labels


def mask_share(path: Path, invert: bool) -> tuple[float, bool]:
    """The share of a mask's pixels that are used, and whether it is a label map."""
    mask, labels = _use_of(_mask_pixels(path))
    share = float((mask > 127).mean())
    return 1 - share if invert else share, labels


def _mask_pixels(path: Path) -> np.ndarray:
    """As `read_pixels`; labels that are stored in 16 or 32 bits, which 8 bits would round to 0, are 1."""
    pixels = read_pixels(path)
    if pixels.shape[2] == 3 and pixels.max(initial=0) <= _MAX_LABEL and (deep := _all_bits(path, False)) is not None:
        values = deep[0]
        if values.dtype.kind != "f" and values.max(initial=0) > 0:
            return from_deep(np.minimum(values, 1), 255.0)
    return pixels


def _read_mask(path: Path, size: tuple[int, int], invert: bool) -> np.ndarray:
    """uint8 [h w], 255 = use. White means use unless `invert`."""
    mask, _ = _use_of(_mask_pixels(path))
    mask = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    mask = np.where(mask > 127, np.uint8(255), np.uint8(0))
    return 255 - mask if invert else mask


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 or uint16 [h w] or uint8 [h w 3] RGB; atomically."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    ok, encoded = cv2.imencode(".png", bgr)
    if not ok:
        raise SplatError(f"{path} could not be encoded as PNG: shape {pixels.shape}, type {pixels.dtype}.")
    write_atomic(path, encoded.tobytes())
