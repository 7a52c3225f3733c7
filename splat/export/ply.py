"""The `.ply` of 3D Gaussian splatting, in the layout of the reference implementation, which every viewer reads.

`ply_rows` documents the layout.
"""

from __future__ import annotations

from pathlib import Path

from splat.core.gaussians import Gaussians
from splat.core.ply import read_ply, write_ply
from splat.core.slots import Reporter
from splat.export.compressed_ply import gaussians_from_elements
from splat.export.ply_rows import comment_lines, gaussians_from_vertices, vertex_rows
from splat.export.repair import repaired


class PlyCodec:
    """Uncompressed and lossless: float32 values are read back bit for bit."""

    name = "ply"
    suffixes: tuple[str, ...] = (".ply",)

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str]) -> None:
        """Write `gaussians`; `header` becomes comment lines such as `SplatRenderMode: mip`."""
        write_ply(path, {"vertex": vertex_rows(gaussians)}, comments=comment_lines(header))

    def load(self, path: Path, report: Reporter | None = None) -> Gaussians:
        """Read any property order, ascii or binary, float or double, with or without normals and f_rest.

        A compressed PLY is read too, whatever its name. Raises SplatError for a file that is damaged or is no splat.
        """
        elements = read_ply(path)
        if "chunk" in elements and "packed_position" in (elements["vertex"].dtype.names or ()):
            return repaired(gaussians_from_elements(elements, path), path, report)
        return repaired(gaussians_from_vertices(elements, path, report), path, report)
