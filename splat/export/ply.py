"""The `.ply` of 3D Gaussian splatting, in the layout of the reference implementation, which every viewer reads.

`ply_rows` documents the layout.
"""

from __future__ import annotations

from pathlib import Path

from splat.core.gaussians import Gaussians
from splat.core.ply import write_ply
from splat.core.slots import Reporter, SplatFile
from splat.export.compressed_ply import load_ply
from splat.export.header import comment_lines
from splat.export.ply_rows import vertex_rows


class PlyCodec:
    """Uncompressed and lossless: float32 values are read back bit for bit."""

    name = "ply"
    suffixes: tuple[str, ...] = (".ply",)
    about = "the Gaussians in the layout of 3DGS, lossless"

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        """Write `gaussians`; `header` becomes comment lines such as `SplatRenderMode: mip`."""
        write_ply(path, {"vertex": vertex_rows(gaussians)}, comments=comment_lines(header))

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        """Read any property order, ascii or binary, float or double, with or without normals and f_rest.

        A compressed PLY is read too, whatever its name. Raises SplatError for a file that is damaged or is no splat.
        """
        return load_ply(path, report)
