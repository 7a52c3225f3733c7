"""A lens model with more distortion parameters for a finished SfM model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from splat.poses.features import quiet


def richer_lens(model: Any, known: set[int], threads: int, min_photos: int = 20, min_gain: float = 0.02) -> Any:
    """The model with OPENCV lenses instead of SIMPLE_RADIAL, if that lowers the mean reprojection error by the fraction
    `min_gain`; else the model itself.

    known: ids of cameras whose intrinsics stay fixed. Only cameras with at least `min_photos` registered photos change:
    with few photos the additional parameters would be fitted at the cost of the scene's shape.
    """
    import pycolmap

    quiet()
    photos: dict[int, int] = {}
    for image_id in model.reg_image_ids():
        camera_id = model.image(image_id).camera_id
        photos[camera_id] = photos.get(camera_id, 0) + 1
    ids = [
        i for i, n in sorted(photos.items())
        if n >= min_photos and i not in known and model.camera(i).model.name == "SIMPLE_RADIAL"
    ]  # fmt: skip
    if not ids:
        return model
    before = model.compute_mean_reprojection_error()
    richer = pycolmap.Reconstruction(model)
    for i in ids:
        camera = richer.camera(i)
        f, cx, cy, k = (float(v) for v in camera.params)
        camera.model = pycolmap.CameraModelId.OPENCV
        camera.params = [f, f, cx, cy, k, 0.0, 0.0, 0.0]  # fx fy cx cy k1 k2 p1 p2
    adjust(richer, known, threads, 50)
    richer.update_point_3d_errors()
    return richer if richer.compute_mean_reprojection_error() < (1 - min_gain) * before else model


def adjust(model: Any, constant_cameras: Collection[int], threads: int, max_iterations: int) -> None:
    """Bundle adjustment of a whole model in place; principal points stay.

    constant_cameras: ids of cameras whose intrinsics stay too.
    """
    import pycolmap

    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.solver_options.num_threads = threads
    options.ceres.solver_options.max_num_iterations = max_iterations
    options.refine_principal_point = False
    # Not pycolmap.bundle_adjustment: that one prints whatever the log level.
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for camera in constant_cameras:
        config.set_constant_cam_intrinsics(camera)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
