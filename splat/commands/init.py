"""`splat init`: the first Gaussians alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from splat.commands.checks import check_whole
from splat.commands.reconstruct import Reconstruct
from splat.core.capture import PointCloud
from splat.core.slots import Reporter
from splat.export import save_splat
from splat.export.colmap_model import write_colmap
from splat.export.header import with_offset
from splat.export.pointcloud import shifted, write_point_cloud
from splat.export.sidecar import local_origin, to_original_frame, write_sidecar


@dataclass(frozen=True)
class InitOnly(Reconstruct):
    """Photos -> the first Gaussians as `export/init.ply` (splat), `points.ply` (point cloud) and `colmap/` (photos,
    cameras and points3D) in the run folder, for any other trainer.

    Flags are those of `splat reconstruct`, which on the same folder goes on from here.
    """

    common: ClassVar[tuple[str, ...]] = (
        *("photos", "out", "preset", "method", "max_resolution", "cap", "test_every", "images", "ignore_poses"),
        *("masks", "mask_mode", "max_frames", "up", "device", "threads", "memory", "seed", "quiet"),
    )

    def __call__(self, report: Reporter | None = None) -> dict[str, Any]:
        """Run the stages up to the first Gaussians and export these. Returns their number as `num_gaussians`."""
        check_whole("init", self.blocks, self.dry_run)
        with self.opened(report) as (c, _):
            prepared = self.until_init(c)
        capture, first = prepared.capture, prepared.init.gaussians
        offset = local_origin(capture)
        original = to_original_frame(first, capture, offset)
        folder = self.folder / "export"
        save_splat(folder / "init.ply", original, with_offset({}, offset))
        write_sidecar(folder / "init.ply", capture)
        points = PointCloud(original.means, original.base_rgb.clamp(0, 1))
        write_point_cloud(folder / "points.ply", shifted(points, offset))
        cloud = PointCloud(first.means, first.base_rgb.clamp(0, 1))
        write_colmap(replace(capture, points=cloud, tracks=None), folder / "colmap")
        print(f"{folder / 'init.ply'}: {len(original)} Gaussians", file=sys.stderr)
        return {"num_gaussians": len(original)}
