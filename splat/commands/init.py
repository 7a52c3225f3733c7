"""`splat init`: the first Gaussians alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from splat.commands.reconstruct import Reconstruct
from splat.core.capture import PointCloud
from splat.export import save_splat
from splat.export.pointcloud import write_point_cloud
from splat.export.sidecar import to_original_frame, write_sidecar
from splat.ingest.colmap_writer import write_colmap
from splat.init import DenseSurfaces as Edgs
from splat.init import SfmPoints as Points
from splat.methods.presets import resolve_method
from splat.poses.sfm import Sfm
from splat.priors import FlowMatcher, RomaMatcher, Stereo
from splat.run.console import Console
from splat.run.folder import RunFolder
from splat.stages import first as stages


@dataclass(frozen=True)
class InitOnly:
    """Photos -> the first Gaussians as `init.ply` (splat), `points.ply` (point cloud) and `colmap/` (photos, cameras
    and points3D), for any other trainer.

    The folder is an ordinary run folder: `splat reconstruct` on it goes on from here.
    """

    photos: Path
    """As in `splat reconstruct`."""
    out: Path = Path()
    """The run folder (default: runs/NAME); the files are written to its `export/`."""
    method: Literal["auto", "points", "edgs"] = "auto"
    max_resolution: int = 800
    ignore_poses: bool = False
    test_every: int = 8
    sfm: Sfm = field(default_factory=Sfm)
    points: Points = field(default_factory=Points)
    edgs: Edgs = field(default_factory=Edgs)
    matcher: Literal["stereo", "flow", "roma"] = "stereo"
    stereo: Stereo = field(default_factory=Stereo)
    flow: FlowMatcher = field(default_factory=FlowMatcher)
    roma: RomaMatcher = field(default_factory=RomaMatcher)
    seed: int = 0
    quiet: bool = False

    def __call__(self) -> int:
        config = Reconstruct(
            photos=self.photos,
            out=self.out,
            method=self.method,
            max_resolution=self.max_resolution,
            ignore_poses=self.ignore_poses,
            test_every=self.test_every,
            sfm=self.sfm,
            points=self.points,
            edgs=self.edgs,
            matcher=self.matcher,
            stereo=self.stereo,
            flow=self.flow,
            roma=self.roma,
            seed=self.seed,
            quiet=self.quiet,
        )
        run = RunFolder(config.folder)
        try:
            with Console(run.log, self.quiet) as report:
                context = stages.Context.open(config, run, report)
                capture, key = stages.ingest(context)
                posed, key = stages.poses(context, capture, key)
                working, context = stages.fit_to_memory(context, posed.capture)
                method, _ = resolve_method(self.method, len(working.train_views))
                init, _ = stages.init(context, working, method, key)
        finally:
            run.close()
        original = to_original_frame(init.gaussians, working)
        target = config.folder / "export" / "init.ply"
        save_splat(target, original)
        write_sidecar(target, working)
        rgb = original.base_rgb.clamp(0, 1)
        write_point_cloud(config.folder / "export" / "points.ply", PointCloud(original.means, rgb))
        first = PointCloud(init.gaussians.means, init.gaussians.base_rgb.clamp(0, 1))
        write_colmap(replace(working, points=first, tracks=None), config.folder / "export" / "colmap")
        print(f"{target}: {len(original)} Gaussians", file=sys.stderr)
        return 0
