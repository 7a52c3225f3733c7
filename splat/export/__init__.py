"""Gaussians -> files, and back."""

from __future__ import annotations

from pathlib import Path

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import Codec, Reporter
from splat.export.compressed_ply import CompressedPlyCodec
from splat.export.ply import PlyCodec
from splat.export.sog import SogCodec
from splat.export.splat_file import SplatFileCodec
from splat.export.spz import SpzCodec

CODECS: tuple[Codec, ...] = (CompressedPlyCodec(), PlyCodec(), SpzCodec(), SogCodec(), SplatFileCodec())
"""Ordered: the first codec with the suffix of a file reads or writes it."""


def codec_for(path: Path) -> Codec:
    """The codec for the suffix of a file name. Raises SplatError, with all suffixes, where there is none."""
    name = Path(path).name.lower()
    for codec in CODECS:
        if name.endswith(codec.suffixes):
            return codec
    known = ", ".join(s for codec in CODECS for s in codec.suffixes)
    raise SplatError(f"{path} has no suffix of a splat format: use one of {known}.")


def save_splat(path: Path, gaussians: Gaussians, header: dict[str, str] | None = None) -> None:
    """Write `gaussians` in the format of the suffix of `path`. `header` keys: SplatRenderMode, Vertical axis, ..."""
    codec_for(path).save(Path(path), gaussians, header or {})


def load_splat(path: Path, report: Reporter | None = None) -> Gaussians:
    """Read any format of `CODECS`. Warnings (invalid Gaussians) go to `report`, or else to the `splat` logger."""
    path = Path(path)
    unpacked_sog = path.name == "meta.json" or (path / "meta.json").is_file()
    codec = SogCodec() if unpacked_sog else codec_for(path)
    return codec.load(path, report)
