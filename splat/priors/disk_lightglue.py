"""Matches of few photos by DISK (Tyszkiewicz et al. 2020) and LightGlue (Lindenberger et al. 2023), run by kornia.

Both networks are built empty and filled from the files that `priors/weights.py` finds: kornia's own loaders download.
On the CPU; features and matches are cached by the photos' pixels.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.errors import SplatError
from splat.core.files import atomic_path
from splat.core.machine import spare_bytes
from splat.core.slots import Reporter, SparseMatches
from splat.priors import weights

_NEEDS_KORNIA = 'DISK and LightGlue need kornia: pip install "splat3d[disk]".'
_FORMAT = 2  # of the cached files; others are computed again
_MAX_SIDE = 1024
"""Long side of a photo, px: the network's memory grows with the area."""
_MIN_SIDE = 32
_PIXELS_PER_FEATURE = 16 * 16
"""Small photos have fewer features than `max_features`: more would lie closer than the network sees."""
_BYTES_BESIDE = 0.3e9
"""kornia, and LightGlue with two photos' features."""
_BYTES_PER_PIXEL = 2200.0
"""What DISK fills, measured."""


@dataclass(frozen=True)
class DiskLightGlue:
    """Features by DISK, matched by LightGlue."""

    max_features: int = 2048
    """Features per photo, highest score first; at most one for each 16 x 16 px."""
    min_score: float = 0.1
    """Matches with a lower probability are left out."""
    name: str = "DISK + LightGlue"

    def unavailable(self) -> str | None:
        """One sentence that says what is missing, with the command that mends it; None where it can run."""
        for w in (weights.DISK, weights.LIGHTGLUE):
            reason = weights.missing(w.name)
            if reason is not None:
                return reason
        if importlib.util.find_spec("kornia") is None:
            return _NEEDS_KORNIA
        return None

    def check(self) -> None:
        """Raises SplatError where it cannot run, or where a file of weights has other contents."""
        if (reason := self.unavailable()) is not None:
            raise SplatError(reason)
        for w in (weights.DISK, weights.LIGHTGLUE):
            path = weights.find(w.name)
            assert path is not None
            weights.check(w.name, path)

    def __call__(
        self,
        photos: Sequence[np.ndarray],
        pairs: Sequence[tuple[int, int]],
        folder: Path,
        report: Reporter,
        threads: int = 1,
    ) -> SparseMatches:
        """Features of each photo (uint8 [h w 3]) and matches of each pair (i, j) of them. Photos above 1024 px, or what
        memory is there for, are downscaled on the way. `folder`: for cached results.

        Raises SplatError where weights or kornia are missing.
        """
        networks = _Networks(self.max_features, self.min_score)
        folder.mkdir(parents=True, exist_ok=True)
        total = len(photos) + len(pairs)
        features: list[dict[str, np.ndarray]] = []
        rows, scores = {}, {}
        sizes = [_size(photo) for photo in photos]
        keys = [self._key("disk", p.tobytes(), repr((p.shape, size)).encode()) for p, size in zip(photos, sizes)]
        with _torch_threads(threads):
            for key, photo, size in zip(keys, photos, sizes):
                cached = folder / f"{key}.npz"
                if not cached.exists():
                    _save(cached, networks.detect(photo, size))
                features.append(_load(cached))
                report.progress(len(features), total, step=self.name)
            for i, j in pairs:
                cached = folder / f"{self._key('lightglue', keys[i].encode(), keys[j].encode())}.npz"
                if not cached.exists():
                    pair = networks.match(features[i], features[j], photos[i].shape[:2], photos[j].shape[:2])
                    _save(cached, pair)
                found = _load(cached)
                rows[i, j], scores[i, j] = found["rows"], found["scores"]
                report.progress(len(features) + len(rows), total, step=self.name)
        return SparseMatches(tuple(f["xy"] for f in features), rows, scores)

    def _key(self, what: str, *parts: bytes) -> str:
        digest = hashlib.sha256(repr((_FORMAT, what, self, weights.DISK.sha256, weights.LIGHTGLUE.sha256)).encode())
        for part in parts:
            digest.update(part)
        return f"{what}-{digest.hexdigest()[:24]}"


@dataclass(frozen=True)
class _Networks:
    """The two networks, loaded when they are needed first."""

    max_features: int
    min_score: float

    @cached_property
    def disk(self) -> Any:
        published = weights.load(weights.DISK.name)["extractor"]
        network = _kornia().DISK()
        _fill(network, published, weights.DISK.title)
        return network

    @cached_property
    def lightglue(self) -> Any:
        published = weights.load(weights.LIGHTGLUE.name)
        # no name: a named one downloads
        network = _kornia().LightGlue(None, input_dim=128, filter_threshold=self.min_score)
        _fill(network, {_kornia_name(k): v for k, v in published.items()}, weights.LIGHTGLUE.title)
        return network

    @torch.inference_mode()
    def detect(self, photo: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Features of a photo, seen at `size` (height, width): "xy" float32 [n 2], pixels of `photo` (centres at .5),
        and "descriptors" float32 [n 128]."""
        from torch.nn.functional import interpolate

        height, width = photo.shape[:2]
        if min(height, width) < _MIN_SIDE:
            return {"xy": np.zeros((0, 2), np.float32), "descriptors": np.zeros((0, 128), np.float32)}
        image = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float() / 255
        if size != (height, width):
            image = interpolate(image, size, mode="bilinear", antialias=True)
        count = min(self.max_features, max(1, size[0] * size[1] // _PIXELS_PER_FEATURE))
        (found,) = self.disk(image, n=count, pad_if_not_divisible=True)
        scale = torch.tensor([width / size[1], height / size[0]])
        xy = (found.keypoints.float() + 0.5) * scale  # the network's are indices of pixels
        return {"xy": xy.numpy(), "descriptors": found.descriptors.float().numpy()}

    @torch.inference_mode()
    def match(
        self, a: dict[str, np.ndarray], b: dict[str, np.ndarray], shape_a: tuple[int, ...], shape_b: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """`shape_a`, `shape_b`: height and width of the photos. "rows" uint32 [m 2], indices of matching features, and
        "scores" float32 [m], their probabilities."""
        if not len(a["xy"]) or not len(b["xy"]):
            return {"rows": np.zeros((0, 2), np.uint32), "scores": np.zeros(0, np.float32)}
        sides = [
            {
                "keypoints": torch.from_numpy(f["xy"] - 0.5)[None],
                "descriptors": torch.from_numpy(f["descriptors"])[None],
                "image_size": torch.tensor(shape[::-1], dtype=torch.float32)[None],
            }
            for f, shape in ((a, shape_a), (b, shape_b))
        ]
        found = self.lightglue({"image0": sides[0], "image1": sides[1]})
        rows, scores = found["matches"][0].numpy(), found["scores"][0].float().numpy()
        return {"rows": rows.astype(np.uint32).reshape(-1, 2), "scores": scores}


def _kornia() -> Any:
    try:
        import kornia.feature
    except ImportError as e:
        raise SplatError(_NEEDS_KORNIA) from e
    return kornia.feature


def _size(photo: np.ndarray) -> tuple[int, int]:
    """Height and width at which the network sees a photo."""
    height, width = photo.shape[:2]
    shrink = _MAX_SIDE / max(height, width)
    if (spare := spare_bytes()) is not None:
        shrink = min(shrink, (max(0.0, spare - _BYTES_BESIDE) / (_BYTES_PER_PIXEL * height * width)) ** 0.5)
    if shrink >= 1:
        return height, width
    return max(_MIN_SIDE, round(height * shrink)), max(_MIN_SIDE, round(width * shrink))


def _kornia_name(name: str) -> str:
    """`self_attn.0.…` as published -> `transformers.0.self_attn.…`."""
    kind, _, rest = name.partition(".")
    if kind not in ("self_attn", "cross_attn"):
        return name
    layer, _, rest = rest.partition(".")
    return f"transformers.{layer}.{kind}.{rest}"


def _fill(network: torch.nn.Module, state: dict[str, Any], title: str) -> None:
    """Every learned parameter comes from `state`. Buffers that kornia computes need not be there, and what it does not
    know (`log_assignment.*.r`, a scalar without use) is left out."""
    try:
        found = network.load_state_dict(state, strict=False)
    except RuntimeError:
        found = None
    learned = dict(network.named_parameters())
    if found is None or any(k in learned for k in found.missing_keys):
        raise SplatError(f"this version of kornia has another {title} than the weights: pip install kornia==0.9.0.")
    network.eval()


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as f:
        np.savez(f, allow_pickle=False, **arrays)


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as d:
        return {k: d[k] for k in d.files}
