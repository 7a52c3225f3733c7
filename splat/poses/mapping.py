"""From verified matches to SfM models: COLMAP's database and its mappers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.core.capture import View
from splat.core.errors import SplatError
from splat.poses.features import PhotoFeatures, quiet

_MIN_POINTS = 6
"""Points of a model that a photo of it observes at least: twice what determines a pose."""


@dataclass(frozen=True)
class MapperSettings:
    """Settings of COLMAP's mappers."""

    method: str = "incremental"
    """incremental, or global (rotation averaging, then positions: GLOMAP)."""
    init_min_inliers: int = 100
    """Inlier matches that the initial pair needs."""
    init_min_angle: float = 16.0
    """Smallest triangulation angle of the initial pair, degrees."""
    pose_min_inliers: int = 30
    """2D-3D inliers that a photo needs to be registered."""
    pose_min_ratio: float = 0.25
    """Smallest ratio of inliers to 2D-3D correspondences of a photo."""
    min_matches: int = 15
    """Pairs with fewer matches are left out."""


def make_cameras(views: Sequence[View], features: Sequence[PhotoFeatures]) -> list[Any]:
    """A pycolmap.Camera per view, at the size of its features; views of one group and size have the same camera id.

    Where the dataset gives the intrinsics, the camera is its lens or a PINHOLE; otherwise a SIMPLE_RADIAL that
    starts from the EXIF focal length or the guess and is refined.
    """
    import pycolmap

    ids: dict[tuple, int] = {}
    cameras = []
    for i, (view, f) in enumerate(zip(views, features)):
        width, height = f.size
        key = (view.camera_group or f"#{i}", f.size)
        camera_id = ids.setdefault(key, len(ids) + 1)
        lens, known = view.camera.lens, view.focal_from == "file"
        if known and lens is not None:
            camera = pycolmap.Camera(
                camera_id=camera_id, model=lens.model, width=lens.width, height=lens.height, params=list(lens.params)
            )
            camera.rescale(width, height)
        else:
            c = view.camera.resized(width, height)
            model = "PINHOLE" if known else "SIMPLE_RADIAL"
            params = [c.fx, c.fy, c.cx, c.cy] if known else [(c.fx + c.fy) / 2, c.cx, c.cy, 0.0]
            camera = pycolmap.Camera(camera_id=camera_id, model=model, width=width, height=height, params=params)
        camera.has_prior_focal_length = view.focal_from != "guess"
        cameras.append(camera)
    return cameras


def in_utf8(name: str) -> str:
    """A view's name for COLMAP's objects, which take UTF-8 alone; bytes of file names that are none as escapes."""
    return name.encode(errors="backslashreplace").decode()


def write_database(
    path: Path,
    names: Sequence[str],
    features: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    geometries: dict[tuple[int, int], Any],
) -> None:
    """Write a COLMAP database, in a fixed order. Image ids are 1 + the index of the view. Raises SplatError where that
    fails."""
    import pycolmap

    quiet()
    try:
        path.unlink(missing_ok=True)
        database = pycolmap.Database.open(path)
        with pycolmap.DatabaseTransaction(database):
            for camera in {c.camera_id: c for c in cameras}.values():
                database.write_camera(camera, use_camera_id=True)
                rig = pycolmap.Rig(rig_id=camera.camera_id)
                rig.add_ref_sensor(camera.sensor_id)
                database.write_rig(rig, use_rig_id=True)
            for i, (name, f, camera) in enumerate(zip(names, features, cameras), 1):
                image = pycolmap.Image(name=in_utf8(name), camera_id=camera.camera_id, image_id=i)
                database.write_image(image, use_image_id=True)
                frame = pycolmap.Frame(frame_id=i, rig_id=camera.camera_id)
                frame.add_data_id(image.data_id)
                database.write_frame(frame, use_frame_id=True)
                database.write_keypoints(i, np.ascontiguousarray(f.xy))
            for (i, j), geometry in sorted(geometries.items()):
                database.write_matches(i + 1, j + 1, geometry.inlier_matches)
                database.write_two_view_geometry(i + 1, j + 1, geometry)
        database.close()
    except (OSError, RuntimeError) as e:  # SQLite's errors arrive as RuntimeError
        raise SplatError(
            f"{path} was not written ({str(e).splitlines()[0]}): free some disk space or choose another folder."
        ) from None


def map_photos(
    database: Path,
    settings: MapperSettings,
    num_views: int,
    constant_cameras: set[int],
    seed: int,
    threads: int,
    registered: Callable[[], None],
) -> list[Any]:
    """Models (pycolmap.Reconstruction), the one with most photos first. `registered()` is called after each photo."""
    import pycolmap

    quiet()
    pycolmap.set_random_seed(seed)
    folder = Path(tempfile.mkdtemp(prefix=".map-", dir=database.parent))
    try:
        if settings.method == "global":
            options = pycolmap.GlobalPipelineOptions()
            options.random_seed = seed
            options.num_threads = threads
            options.min_num_matches = settings.min_matches
            models = pycolmap.global_mapping(database, folder, folder, options)
        else:
            options = _incremental_options(settings, num_views, constant_cameras, seed, threads)
            models = _incremental(database, options, registered)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for model in models.values():
        _leave_out_unheld(model)
    by_size = sorted(models.values(), key=lambda m: (-m.num_reg_images(), -m.num_points3D()))
    return [m for m in by_size if m.num_reg_images() >= 2 and m.num_points3D() > 0]


def _leave_out_unheld(model: Any) -> None:
    """Photos that (almost) no point of the model holds are taken out of it: the global mapper keeps those whose points
    were all found wrong, where an averaged rotation put them."""
    for i in sorted(model.reg_image_ids()):
        if model.image(i).num_points3D < _MIN_POINTS:
            model.deregister_frame(model.image(i).frame_id)


def _incremental(database: Path, options: Any, registered: Callable[[], None]) -> dict[int, Any]:
    """COLMAP's incremental pipeline with a single-threaded search for the initial pair; the rest uses the threads of
    `options`. With several threads the first to find a pair wins, so that runs would differ.

    As in COLMAP, the two thresholds of the initial pair are halved in turn, twice each, while photos are unregistered.
    """
    import pycolmap

    models = pycolmap.ReconstructionManager()
    opened = pycolmap.Database.open(database)
    pipeline = pycolmap.IncrementalPipeline(options, opened, models)
    pipeline.add_callback(pycolmap.IncrementalPipelineCallback.NEXT_IMAGE_REG_CALLBACK.value, registered)
    mapper = pycolmap.IncrementalMapper(pipeline.database_cache)
    settings = options.get_mapper()
    settings.num_threads = 1
    for relaxed in ("", "inliers", "angle", "inliers", "angle"):
        if relaxed == "inliers":
            settings.init_min_num_inliers //= 2
        elif relaxed == "angle":
            settings.init_min_tri_angle /= 2
        mapper.reset_initialization_stats()
        pipeline.reconstruct(mapper, settings, False)
        if mapper.num_total_reg_images() == pipeline.database_cache.num_images():
            break
    opened.close()
    return {i: models.get(i) for i in range(models.size())}


def _incremental_options(
    settings: MapperSettings, num_views: int, constant_cameras: set[int], seed: int, threads: int
) -> Any:
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = seed
    options.num_threads = threads
    options.min_num_matches = settings.min_matches
    options.min_model_size = min(3, num_views)
    options.extract_colors = False
    options.constant_cameras = constant_cameras
    options.mapper.random_seed = seed
    options.mapper.init_min_num_inliers = settings.init_min_inliers
    options.mapper.init_min_tri_angle = settings.init_min_angle
    options.mapper.abs_pose_min_num_inliers = settings.pose_min_inliers
    options.mapper.abs_pose_min_inlier_ratio = settings.pose_min_ratio
    options.triangulation.random_seed = seed
    # Two-view points are noisy; with few photos there may be no others.
    options.triangulation.ignore_two_view_tracks = num_views > 8
    return options
