"""The export stage: everything a user takes away, in the original frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from splat.core.capture import Capture, PointCloud
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.slots import PathCamera, Reporter
from splat.export import save_splat
from splat.export.header import offset_text, with_offset
from splat.export.pointcloud import points_from_gaussians, shifted, write_point_cloud
from splat.export.renders import write_renders
from splat.export.sidecar import local_origin, sidecar_path, to_original_frame, write_sidecar
from splat.geometry.camera_paths import CameraPath, interpolated_path, orbit_path
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.run.trained import Trained
from splat.stages.clean import clean_scene
from splat.stages.context import Context
from splat.stages.evaluate import Evaluation
from splat.stages.floaters import free_space

CLEAN_FILE = "clean.json"
PATH_FRAMES = 90
"""Of each video."""
VIDEO_SIDE = 480
"""px: videos are previews, `splat render` makes larger ones."""


def export(
    c: Context,
    capture: Capture,
    trained: Trained,
    result: Evaluation,
    renders: bool,
    fill: bool = False,
    clean: bool = False,
) -> dict[str, Any] | None:
    """Write the deliverables. `renders`: pictures and videos as well; with `fill`, beside them ones whose holes are
    closed for presentation. `clean`: without floaters, as far as `stages.clean` allows; returns what that did."""
    c.report.begin("export")
    key = hash_of("export", c.run.identity("evaluate"), renders, renders and fill, *(("clean",) if clean else ()))
    shown = replace(capture, views=capture.train_views + result.test_views)

    def make(folder: Path) -> bool:
        delivered = trained
        if clean:
            scene = clean_scene(capture, trained, result.test_views, free_space(capture, c.threads, c.seed), c)
            c.report.info(scene.sentence())
            write_json(folder / CLEAN_FILE, scene.figures())
            delivered = replace(trained, gaussians=scene.gaussians)
        write_splats(folder, capture, delivered, c.settings.mode == "antialiased", c.report)
        write_cameras(folder / "cameras.json", shown)
        if renders:
            write_pictures(c, folder / "renders", capture, delivered, result, fill)
        return True

    code = code_hash("splat.stages.export")
    about = {"renders": renders, "fill": fill, "clean": clean}
    c.run.stage("export", key, about, make, lambda folder: True, code=code, shared=True)
    return read_json(c.run.root / "export" / CLEAN_FILE) if clean else None


def write_splats(folder: Path, capture: Capture, trained: Trained, antialiased: bool, report: Reporter) -> None:
    """The splat, its sidecar, and point clouds from the surfaces and from structure from motion."""
    splat, offset = folder / "splat.ply", local_origin(capture)
    original = to_original_frame(trained.scene, capture, offset)
    mode = "mip" if antialiased else "default"
    save_splat(splat, original, with_offset({"SplatRenderMode": mode}, offset), report)
    write_sidecar(splat, capture)
    write_point_cloud(folder / "points.ply", shifted(points_from_gaussians(original[: len(trained.gaussians)]), offset))
    if capture.points is not None:
        undo = capture.world_from_source.inverse()
        positions = undo.apply(capture.points.positions.double())
        cloud = PointCloud(positions if any(offset) else positions.float(), capture.points.rgb)
        write_point_cloud(folder / "points_sfm.ply", cloud)
    if any(offset):
        report.info(
            f"{splat.name} is relative to {offset_text(offset)}, which its header and {sidecar_path(splat).name} name: "
            "float32 is too coarse so far from the origin. Point clouds and cameras.json have float64."
        )


def write_cameras(path: Path, capture: Capture) -> None:
    """Every posed view's pinhole and `world_from_cam` in the original frame, for other programs. `splat_offset`: what
    the coordinates of the splat, but not these, are relative to."""
    undo = capture.world_from_source.inverse()
    views = []
    for v in capture.views:
        if v.world_from_cam is None:
            continue
        cam = v.camera
        intrinsics = {"fx": cam.fx, "fy": cam.fy, "cx": cam.cx, "cy": cam.cy, "width": cam.width, "height": cam.height}
        pose = undo.apply_pose(v.world_from_cam).matrix().tolist()
        views.append({"name": v.name, "role": v.role, "world_from_cam": pose, **intrinsics})
    axes = "camera axes: +x right, +y down, +z ahead; pixel centres at .5; frame: the input's own"
    offset = local_origin(capture)
    write_json(path, {"convention": axes, **({"splat_offset": list(offset)} if any(offset) else {}), "views": views})


def write_pictures(
    c: Context, folder: Path, capture: Capture, trained: Trained, result: Evaluation, fill: bool = False
) -> None:
    """Held-out views with depth, an orbit and a flight along the cameras as videos with a few stills."""
    background = tuple(float(v) for v in trained.background)
    gaussians = trained.gaussians.to(c.device)
    depth_units = 1 / capture.world_from_source.scale

    def draw(
        name: str,
        cameras: list[PathCamera],
        names: list[str] | None,
        video: bool,
        holes: bool = True,
        fill: bool = fill,
    ) -> None:
        write_renders(
            folder / name,
            gaussians,
            cameras,
            c.raster,
            c.settings,
            background=(background[0], background[1], background[2]),
            names=names,
            images=not video,
            depth=not video,
            video=folder / f"{name}.webm" if video else None,
            units_per_world=depth_units,
            holes=holes,
            fill=fill,
            beyond=trained.surroundings,
            report=c.report,
        )

    tests = [PathCamera(v.camera, v.world_from_cam) for v in result.test_views if v.world_from_cam is not None]
    if tests:
        draw("test", tests, [v.name for v in result.test_views], video=False)
    flights: tuple[tuple[str, CameraPath], ...] = (
        ("orbit", orbit_path(capture, PATH_FRAMES, VIDEO_SIDE)),
        ("path", interpolated_path(capture, PATH_FRAMES, VIDEO_SIDE)),
    )
    for name, path in flights:
        cameras = list(path.cameras)
        draw(name, cameras, None, video=True, fill=False)
        if fill:
            draw(name, cameras, None, video=True, holes=False)
        stills = list(range(0, len(cameras), max(1, len(cameras) // 6)))
        draw(name, [cameras[i] for i in stills], [f"{i:04d}" for i in stills], video=False, holes=False)
