"""SIFT features of oriented and masked photos, cached in one file per photo."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.files import atomic_path
from splat.core.foreign import shown
from splat.core.image import read_pixels
from splat.core.interrupts import import_module
from splat.core.machine import threads_that_fit
from splat.core.resampling import resize_area
from splat.core.slots import Reporter

_FORMAT = 2  # of the cached files; older ones are computed again


@dataclass(frozen=True)
class FeatureSettings:
    """Settings of SIFT detection."""

    max_size: int = 1600
    """Photos with a longer side (px) are downscaled to it first."""
    max_count: int = 4096
    """Features kept per photo, largest first."""
    peak_threshold: float = 0.0067
    """Smallest contrast of a blob (COLMAP's default, 0.02 / 3)."""
    robust: bool = False
    """Affine shape and domain-size pooling (Dong & Soatto 2015): for wide baselines; about ten times slower."""
    root: bool = True
    """RootSIFT (L1 normalization, then square root) instead of L2 normalization."""
    own_size: bool = False
    """Look at the photo's own size first, and at twice that only where more features are wanted: faster."""


@dataclass(frozen=True, eq=False)
class PhotoFeatures:
    """n features of one photo."""

    xy: np.ndarray
    """float32 [n 2], pixels of the photo at `size` (centres at .5)."""
    scales: np.ndarray
    """float32 [n], px; descending."""
    descriptors: np.ndarray
    """uint8 [n 128], with norm 512."""
    rgb: np.ndarray
    """uint8 [n 3], colour of the photo at each feature."""
    size: tuple[int, int]
    """Width and height of the photo in which features were detected."""
    sharpness: float
    """Variance of the Laplacian of the grey photo at 800 px: low for blurred or textureless photos."""

    def __len__(self) -> int:
        return len(self.xy)


def feature_size(view: View, max_size: int) -> tuple[int, int]:
    """Width and height of a photo downscaled for feature detection."""
    width, height = view.photo_size
    shrink = min(1.0, max_size / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


_PX_PER_FEATURE = 12 * 12
"""Pixels of a photo for each feature wanted, from which on its own size may have enough of them."""

_BYTES_PER_SCALE_SPACE_PIXEL = 310
"""SIFT's scale space of the photo at twice its size: 17 planes of float32 an octave, measured with what is beside."""
_BYTES_PER_DECODED_PIXEL = 12
"""Of the whole photo, while it is downscaled."""


def bytes_per_thread(size: tuple[int, int], photo_size: tuple[int, int]) -> float:
    """Memory that a thread of `extract` fills for a photo of `photo_size` that is downscaled to `size` (px)."""
    scale_space = size[0] * size[1] * _BYTES_PER_SCALE_SPACE_PIXEL
    return float(max(scale_space, photo_size[0] * photo_size[1] * _BYTES_PER_DECODED_PIXEL))


def extract(
    views: tuple[View, ...], settings: FeatureSettings, folder: Path, report: Reporter, threads: int
) -> list[PhotoFeatures]:
    """Features of every view, in order. Cached in `folder`, by photo and settings. Works with fewer than `threads`
    where memory would not do; that changes no feature."""
    make_folder(folder)
    paths = [folder / f"{_key(v, settings)}.npz" for v in views]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    done = len(views) - len(missing)
    each = [bytes_per_thread(feature_size(views[i], settings.max_size), views[i].photo_size) for i in missing]
    threads = threads_that_fit(min(threads, 8), max(each, default=0.0))
    chunk = max(2 * threads, 4)
    for start in range(0, len(missing), chunk):
        ids = missing[start : start + chunk]
        for i, features in zip(ids, _extract_chunk([views[i] for i in ids], settings, folder, threads)):
            _save(paths[i], features)
        done += len(ids)
        report.progress(done, len(views), step="features")
    return [_load(path) for path in paths]


def _extract_chunk(views: list[View], settings: FeatureSettings, folder: Path, threads: int) -> Iterator[PhotoFeatures]:
    """Runs COLMAP's extractor, which reads files, on temporary grey and oriented copies, one thread per photo.

    The scale space starts at twice the photo's size (Lowe 2004). With `own_size` it starts with that where it has
    enough features: those of the finest octave are the smallest, and would not be kept."""
    temporary = Path(tempfile.mkdtemp(prefix=".sift-", dir=folder))
    try:
        with ThreadPoolExecutor(threads) as pool:
            prepared = list(pool.map(lambda item: _prepare(item[1], settings, temporary / f"{item[0]}.pgm"),
                                     enumerate(views)))  # fmt: skip
        _check_space(temporary, len(views) * (_BYTES_PER_FEATURE * settings.max_count + 2**20))
        sizes = [p[0].shape[:2] for p in prepared]
        large = [settings.own_size and h * w >= _PX_PER_FEATURE * settings.max_count for h, w in sizes]
        found = {i: [f] for i, f in _detected([i for i, at in enumerate(large) if at], settings, temporary, threads, 0)}
        few = [i for i in found if _count(found[i][0][0], prepared[i][1]) < settings.max_count]
        for i, f in _detected(few, settings, temporary, threads, -1, 1):
            found[i].append(f)
        rest = [i for i in range(len(views)) if i not in found]
        found |= {i: [f] for i, f in _detected(rest, settings, temporary, threads, -1)}
        for i, of_photo in enumerate(prepared):
            keypoints, descriptors = (np.concatenate(kind) for kind in zip(*found.pop(i)))
            yield _select(keypoints, descriptors, *of_photo, settings.max_count)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _detected(
    ids: Sequence[int], settings: FeatureSettings, folder: Path, threads: int, octave: int, octaves: int | None = None
) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Keypoints, float32 [n 4] or [n 6], and descriptors, uint8 [n 128], of the photos `folder`/ID.pgm. octave: the
    first, -1 for twice the photo's size. octaves: how many; by default up to the same largest scale."""
    import pycolmap

    if not ids:
        return []
    quiet()
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = threads
    options.use_gpu = False
    sift = options.sift
    sift.max_num_features = settings.max_count
    sift.peak_threshold = settings.peak_threshold
    sift.estimate_affine_shape = settings.robust
    sift.domain_size_pooling = settings.robust
    sift.normalization = pycolmap.Normalization.L1_ROOT if settings.root else pycolmap.Normalization.L2
    sift.num_octaves = octaves or sift.num_octaves - (octave - sift.first_octave)
    sift.first_octave = octave
    path = folder / "features.db"
    path.unlink(missing_ok=True)
    pycolmap.extract_features(
        path,
        folder,
        [f"{i}.pgm" for i in ids],
        pycolmap.CameraMode.PER_IMAGE,
        extraction_options=options,
        device=pycolmap.Device.cpu,
    )
    database = pycolmap.Database.open(path)
    out = []
    for i in ids:
        image = database.read_image_with_name(f"{i}.pgm")
        keypoints, descriptors = np.zeros((0, 6 if settings.robust else 4), np.float32), np.zeros((0, 128), np.uint8)
        if image is not None and database.exists_keypoints(image.image_id):
            keypoints = database.read_keypoints(image.image_id)
            descriptors = np.array(database.read_descriptors(image.image_id).data)
        out.append((i, (keypoints, descriptors)))
    database.close()
    return out


_BYTES_PER_FEATURE = 2 * (128 + 6 * 4)  # descriptor and keypoint in COLMAP's database, and in its log of changes


def _check_space(folder: Path, size: int) -> None:
    """COLMAP ends the process where its database does not fit. Raises SplatError instead."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise SplatError(
            f"{shown(folder.parent)}: the disk is full ({free / 1e6:.1f} MB are left, features of photos may take "
            f"{size / 1e6:.0f}); free some space and run again."
        )


def read_photo(view: View, max_size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The photo as it was taken, lens included: uint8 [h w 3] with a long side of at most `max_size` px, over white
    where it has alpha; and its mask, bool [h w] (True = use), None without one."""
    width, height = feature_size(view, max_size)
    pixels = read_pixels(view.image_path, as_stored=view.as_stored, white=view.white)
    rgb = resize_area(np.ascontiguousarray(pixels[..., :3]), width, height)
    mask = None
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        alpha = resize_area(np.ascontiguousarray(pixels[..., 3]), width, height)
        mask = alpha > 127
        rgb = np.round(rgb * (alpha[..., None] / 255.0) + (255 - alpha[..., None])).astype(np.uint8)
    if view.mask_path is not None:
        # The mask in pixels of the distorted photo: features are detected before undistortion.
        plain = replace(view, mask_mode="ignore", camera=replace(view.camera, lens=None).resized(width, height))
        weight = plain.load().weight
        assert weight is not None
        mask = weight > 127 if mask is None else mask & (weight > 127)
    return rgb, mask


def _prepare(view: View, settings: FeatureSettings, path: Path) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Writes the grey photo to `path`; returns the downscaled colours, the mask (True = use) and the sharpness."""
    rgb, mask = read_photo(view, settings.max_size)
    height, width = rgb.shape[:2]
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if not cv2.imwrite(str(path), grey):
        raise SplatError(f"{path} was not written: is the disk full?")
    small_side = min(1.0, 800 / max(width, height))
    small_grey = resize_area(grey, max(1, round(width * small_side)), max(1, round(height * small_side)))
    return rgb, mask, float(cv2.Laplacian(small_grey, cv2.CV_64F).var())


def _cells(xy: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that positions [n 2] are in."""
    return np.clip(xy[:, 1].astype(int), 0, height - 1), np.clip(xy[:, 0].astype(int), 0, width - 1)


def _count(keypoints: np.ndarray, mask: np.ndarray | None) -> int:
    """Keypoints where `mask` is true."""
    return len(keypoints) if mask is None else int(mask[_cells(keypoints, *mask.shape[::-1])].sum())


def _select(
    keypoints: np.ndarray,
    descriptors: np.ndarray,
    rgb: np.ndarray,
    mask: np.ndarray | None,
    sharpness: float,
    max_count: int,
) -> PhotoFeatures:
    height, width = rgb.shape[:2]
    xy = np.ascontiguousarray(keypoints[:, :2], dtype=np.float32)
    if keypoints.shape[1] == 6:  # x, y and a 2x2 affine shape: the scale is the mean length of its columns
        scales = 0.5 * (np.hypot(keypoints[:, 2], keypoints[:, 4]) + np.hypot(keypoints[:, 3], keypoints[:, 5]))
    else:
        scales = keypoints[:, 2]
    rows, columns = _cells(xy, width, height)
    keep = np.arange(len(xy)) if mask is None else np.flatnonzero(mask[rows, columns])
    keep = keep[np.argsort(-scales[keep], kind="stable")][:max_count]
    return PhotoFeatures(
        xy=xy[keep],
        scales=scales[keep].astype(np.float32),
        descriptors=np.ascontiguousarray(descriptors[keep]),
        rgb=rgb[rows[keep], columns[keep]],
        size=(width, height),
        sharpness=sharpness,
    )


def _key(view: View, settings: FeatureSettings) -> str:
    def stamp(path: Path | None) -> tuple:
        if path is None or not path.exists():
            return ()
        stat = path.stat()
        return str(path.resolve()), stat.st_size, stat.st_mtime_ns

    white = () if view.white is None else (view.white,)
    parts = (_FORMAT, stamp(view.image_path), stamp(view.mask_path), view.invert_mask, astuple(settings), *white)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _save(path: Path, f: PhotoFeatures) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, xy=f.xy, scales=f.scales, descriptors=f.descriptors, rgb=f.rgb, size=np.array(f.size),
                 sharpness=np.array(f.sharpness))  # fmt: skip


def _load(path: Path) -> PhotoFeatures:
    with np.load(path) as d:
        return PhotoFeatures(d["xy"], d["scales"], d["descriptors"], d["rgb"],
                             (int(d["size"][0]), int(d["size"][1])), float(d["sharpness"]))  # fmt: skip


def quiet() -> None:
    """Turns off COLMAP's log, which is meant for its developers."""
    pycolmap = import_module("pycolmap")
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value


def make_folder(folder: Path) -> None:
    """Creates a folder. Raises SplatError where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise SplatError(f"{folder} cannot be made ({e.strerror}): choose another folder to write to.") from None
