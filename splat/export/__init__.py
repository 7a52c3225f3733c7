"""Gaussians -> files, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.gaussians import Gaussians
from splat.core.reading import free_memory
from splat.core.slots import Codec, Reporter, SplatFile, SplatReader
from splat.export.camera_files import ColmapFolder, ColmapTextFolder, TransformsFile
from splat.export.cloud_files import LasCloud, PcdCloud, PlyCloud
from splat.export.compressed_ply import CompressedPlyCodec
from splat.export.deliverable import Deliverable
from splat.export.glb import GlbCodec, GlbDeliverable
from splat.export.header import OFFSET
from splat.export.html import HtmlDeliverable
from splat.export.ksplat import KsplatReader
from splat.export.mesh import MeshOptions
from splat.export.mesh_files import GlbMesh, ObjMesh, PlyMesh
from splat.export.picture_files import Frames, PathOptions, Video
from splat.export.ply import PlyCodec
from splat.export.repair import warn
from splat.export.sog import SogCodec
from splat.export.sog_levels import META as LOD_META
from splat.export.sog_levels import SogLevelsCodec
from splat.export.splat_file import SplatFileCodec
from splat.export.splat_files import SplatDeliverable
from splat.export.spz import SpzCodec
from splat.export.usd import UsdDeliverable

R = TypeVar("R", bound=SplatReader)

CODECS: tuple[Codec, ...] = (
    CompressedPlyCodec(), PlyCodec(), SpzCodec(), SogCodec(), SplatFileCodec(), GlbCodec(), SogLevelsCodec()
)  # fmt: skip
"""Ordered: the first codec with the suffix of a file reads or writes it."""

READERS: tuple[SplatReader, ...] = (*CODECS, KsplatReader())
"""What `read_splat` reads: some formats are not written."""

_FOLDERS: dict[str, SplatReader] = {"meta.json": SogCodec(), LOD_META: SogLevelsCodec()}
"""Splats that are folders, by the file that marks them."""

DELIVERABLES: tuple[Deliverable, ...] = (
    *(SplatDeliverable(codec) for codec in CODECS if not isinstance(codec, GlbCodec)),
    GlbDeliverable(GlbCodec()),
    UsdDeliverable(),
    HtmlDeliverable(),
    PlyCloud(),
    PcdCloud(),
    LasCloud(),
    PlyMesh(),
    ObjMesh(),
    GlbMesh(),
    Video(),
    Frames(),
    ColmapFolder(),
    ColmapTextFolder(),
    TransformsFile(),
)
"""What `splat export` and `splat convert` write: the longest suffix that fits a name chooses."""


def tuned(mesh: MeshOptions, video: PathOptions, points: int | None) -> tuple[Deliverable, ...]:
    """The deliverables that have settings, with these. Raises SplatError for values that mean nothing."""
    if points is not None and points < 1:
        raise SplatError(f"--points {points} must be at least 1.")
    mesh.check()
    return (
        *(kind(points) for kind in (PlyCloud, PcdCloud, LasCloud)),
        *(kind(mesh) for kind in (PlyMesh, ObjMesh, GlbMesh)),
        *(kind(video) for kind in (Video, Frames)),
    )


def codec_for(path: Path) -> Codec:
    """The codec that writes a name, by its suffix. Raises SplatError, with all suffixes, where there is none."""
    return _with_suffix(Path(path), CODECS)


def save_splat(
    path: Path, gaussians: Gaussians, header: dict[str, str] | None = None, report: Reporter | None = None
) -> None:
    """Write `gaussians` in the format of the suffix of `path`. `header`: see `splat.export.header`. What the format
    cannot hold goes to `report` as a warning, or else to the `splat` logger. Raises SplatError where there are no
    Gaussians, or the format cannot hold the scene."""
    codec = codec_for(path)
    if len(gaussians) == 0:
        raise SplatError(f"{path} was not written: the splat has no Gaussians; check what removed them.")
    codec.save(Path(path), gaussians, header or {}, report)


def read_splat(path: Path, report: Reporter | None = None, free_gb: float | None = None) -> SplatFile:
    """Read any format of `READERS`, with what its header says. Warnings (invalid Gaussians) go to `report`, or else to
    the `splat` logger. Raises SplatError for a file that is missing, damaged, or has no Gaussians, or needs more memory
    than the `free_gb` gigabytes that there are."""
    path = Path(path)
    with free_memory(free_gb):
        return reader_for(path).load(path, report)


def reader_for(path: Path) -> SplatReader:
    """What reads a file, or a folder that is a splat. Raises SplatError, with all suffixes, where nothing does."""
    for mark, reader in _FOLDERS.items():
        if path.name == mark or (path / mark).is_file():
            return reader
    return _with_suffix(path, READERS)


def is_splat_folder(path: Path) -> bool:
    """Whether a folder is a splat."""
    return any((path / mark).is_file() for mark in _FOLDERS)


def _with_suffix(path: Path, known: Sequence[R]) -> R:
    name = path.name.lower()
    for one in known:
        if name.endswith(one.suffixes):
            return one
    suffixes = ", ".join(s for one in known for s in one.suffixes)
    raise SplatError(f"{shown(path)} has no suffix of a splat format: use one of {suffixes}.")


def load_splat(path: Path, report: Reporter | None = None) -> Gaussians:
    """The Gaussians of `read_splat`. Where the file has a local origin they are relative to it, with a warning."""
    splat = read_splat(path, report)
    if OFFSET in splat.header:
        warn(report, f"{path} has its origin at {splat.header[OFFSET]}: the coordinates read are relative to that.")
    return splat.gaussians
