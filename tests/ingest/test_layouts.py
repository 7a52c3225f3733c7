"""One scene, every layout: what a capture's cameras project is what its photos show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import (
    Scene,
    Shot,
    centred,
    dot_errors,
    make_scene,
    write_blender,
    write_colmap_binary,
    write_colmap_text,
    write_idr,
    write_instant_ngp,
    write_llff,
    write_transforms,
)

from splat.core.capture import Capture
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read

LENS = (-0.12, 0.05, 0.004, -0.006)
FISHEYE = (0.03, -0.01, 0.004, -0.002)


def colmap(model: str, binary: bool = True, sparse: str = "sparse/0", images: str = "images") -> Callable:
    def write(scene: Scene, root: Path) -> None:
        (write_colmap_binary if binary else write_colmap_text)(scene, root, model, sparse)
        scene.write_photos(root / images)

    return write


def nerfstudio(images: str = "images", **overrides: object) -> Callable:
    def write(scene: Scene, root: Path) -> None:
        write_transforms(scene, root, **overrides)
        scene.write_photos(root / images)

    return write


def instant_ngp(scene: Scene, root: Path) -> None:
    write_instant_ngp(scene, root)
    scene.write_photos(root / "images")


def llff(images: str = "images") -> Callable:
    def write(scene: Scene, root: Path) -> None:
        write_llff(scene, root)
        scene.write_photos(root / images)

    return write


JPEG = {"suffix": ".jpg"}
SQUARE = {"width": 200, "height": 200, "cx": 93.0, "cy": 104.5, "distortion": (-0.12, 0.05, 0, 0), "suffix": ".jpg"}
HALVED = Shot(480, 360, 420.0, 410.0, 226.0, 193.0, distortion=LENS, file_scale=0.5)
CASES: dict[str, tuple[Callable, Shot]] = {
    "colmap text pinhole": (colmap("PINHOLE", binary=False), Shot()),
    "colmap binary lens": (colmap("OPENCV"), Shot(distortion=LENS)),
    "colmap simple radial": (colmap("SIMPLE_RADIAL"), Shot(fy=210.0, distortion=(-0.1, 0, 0, 0))),
    "colmap fisheye": (colmap("OPENCV_FISHEYE"), Shot(distortion=FISHEYE, fisheye=True)),
    "colmap in sparse": (colmap("PINHOLE", sparse="sparse"), Shot()),
    "colmap in colmap/sparse/0": (colmap("PINHOLE", sparse="colmap/sparse/0"), Shot()),
    "colmap in the root, input": (colmap("PINHOLE", sparse=".", images="input"), Shot()),
    "colmap smaller photos": (colmap("OPENCV", images="images_2"), HALVED),
    "colmap photo turned by 6": (colmap("OPENCV"), Shot(distortion=LENS, orientation=6, **JPEG)),
    "colmap photo turned by 8": (colmap("OPENCV"), Shot(distortion=LENS, orientation=8, **JPEG)),
    "colmap photo turned by 3": (colmap("OPENCV"), Shot(distortion=LENS, orientation=3, **JPEG)),
    "nerfstudio lens": (nerfstudio(), Shot(distortion=LENS)),
    "nerfstudio fisheye": (nerfstudio(), Shot(distortion=FISHEYE, fisheye=True)),
    "nerfstudio pinhole": (nerfstudio(camera_model="PINHOLE"), Shot()),
    "nerfstudio smaller photos": (nerfstudio("images_2"), HALVED),
    "instant-ngp lens": (instant_ngp, Shot(distortion=LENS)),
    "instant-ngp fisheye": (instant_ngp, Shot(distortion=FISHEYE, fisheye=True)),
    "instant-ngp photo turned by 6": (instant_ngp, Shot(distortion=LENS, orientation=6, **JPEG)),
    "nerfstudio photo turned by 3": (nerfstudio(), Shot(distortion=LENS, orientation=3, **JPEG)),
    "nerfstudio square photo turned by 6": (nerfstudio(), Shot(**SQUARE, orientation=6)),
    "nerfstudio size from the photo, turned by 8": (nerfstudio(w=None, h=None), Shot(orientation=8, **JPEG)),
    "colmap square photo turned by 8": (colmap("OPENCV"), Shot(**SQUARE, orientation=8)),
    "blender photo turned by 3": (write_blender, centred(orientation=3)),
    "blender photo turned by 6": (write_blender, centred(orientation=6)),
    "llff photo turned by 3": (llff(), centred(orientation=3, **JPEG)),
    "llff photo turned by 6": (llff(), centred(orientation=6, **JPEG)),
    "nerfstudio photo mirrored by 2": (nerfstudio(), Shot(distortion=LENS, orientation=2, **JPEG)),
    "colmap photo mirrored by 4": (colmap("OPENCV"), Shot(distortion=LENS, orientation=4, **JPEG)),
    "colmap photo mirrored by 5": (colmap("OPENCV"), Shot(distortion=LENS, orientation=5, **JPEG)),
    "llff photo mirrored by 7": (llff(), centred(orientation=7, **JPEG)),
    "idr": (write_idr, Shot()),
    "idr photo turned by 8": (write_idr, Shot(orientation=8, **JPEG)),
    "blender": (write_blender, centred(alpha=True)),
    "llff": (llff(), centred()),
    "llff smaller photos": (llff("images_4"), centred(width=480, height=360, fx=416.0, fy=416.0, cx=240.0, cy=180.0,
                                                      file_scale=0.5)),
}  # fmt: skip


def projected(capture: Capture, scene: Scene, view: int) -> np.ndarray:
    v = capture.views[view]
    assert v.world_from_cam is not None
    points = capture.world_from_source.apply(torch.from_numpy(scene.points))
    return v.camera.project(v.world_from_cam.inverse().apply(points)).numpy()


@pytest.mark.parametrize("case", CASES)
def test_points_project_to_where_the_photos_show_them(tmp_path: Path, case: str) -> None:
    write, shot = CASES[case]
    scene = make_scene(shot)
    write(scene, tmp_path)
    report = Silent()
    capture = read(tmp_path, ReadOptions(test_every=0), report)
    assert report.warnings == []
    assert len(capture.views) == len(scene.stems) and capture.posed
    assert {v.focal_from for v in capture.views} == {"file"} and len({v.camera_group for v in capture.views}) == 1
    errors = []
    for i, view in enumerate(capture.views):
        photo = view.load()
        assert photo.rgb.shape[:2] == (view.camera.height, view.camera.width)
        errors.append(dot_errors(photo.rgb[..., 0], projected(capture, scene, i)))
    measured = np.concatenate(errors)
    assert len(measured) > 3 * len(scene.stems)
    assert measured.max() < 0.12, measured.round(2)


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("colmap")])
def test_tracks_say_where_views_saw_the_points(tmp_path: Path, case: str) -> None:
    write, shot = CASES[case]
    scene = make_scene(shot)
    write(scene, tmp_path)
    capture = read(tmp_path, ReadOptions(test_every=0))
    tracks, points = capture.tracks, capture.points
    assert tracks is not None and points is not None
    assert len(tracks.view_ids) == len(scene.stems) * len(scene.points)
    for i, view in enumerate(capture.views):
        assert view.world_from_cam is not None
        mine = tracks.view_ids == i
        seen = points.positions[tracks.point_ids[mine]].double()
        pixels = view.camera.project(view.world_from_cam.inverse().apply(seen))
        assert float((pixels - tracks.pixels[mine]).abs().max()) < 2e-3


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith(("colmap text", "nerfstudio lens"))])
def test_points_keep_their_colours_and_their_original_frame(tmp_path: Path, case: str) -> None:
    write, shot = CASES[case]
    scene = make_scene(shot)
    write(scene, tmp_path)
    capture = read(tmp_path)
    assert capture.points is not None
    original = capture.world_from_source.inverse().apply(capture.points.positions.double()).numpy()
    order = capture.points.rgb[:, 0].argsort().numpy()
    np.testing.assert_allclose(original[order], scene.points, atol=1e-5)
    expected = np.array([[10 * j, 128, 255 - j] for j in range(len(scene.points))]) / 255
    np.testing.assert_allclose(capture.points.rgb.numpy()[order], expected, atol=1e-6)


def test_an_applied_scale_is_part_of_the_way_back(tmp_path: Path) -> None:
    scene = make_scene()
    data = write_transforms(scene, tmp_path)
    data["applied_scale"] = 2.5
    for frame in data["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 2.5
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    scene.write_photos(tmp_path / "images")
    capture = read(tmp_path)
    centres = capture.world_from_source.inverse().apply(capture.camera_centres()).numpy()
    np.testing.assert_allclose(centres, [p[:3, 3] for p in scene.world_from_cam], atol=1e-9)


@pytest.mark.parametrize("axes", [{"k3": 0.06}, {"k3": 0.05, "k4": -0.03}])
def test_higher_radial_terms_are_kept(tmp_path: Path, axes: dict[str, float]) -> None:
    """1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8, as nerfstudio distorts."""
    scene = make_scene(Shot(distortion=(-0.1, 0.04, 0, 0)))
    write_transforms(scene, tmp_path, **axes)
    scene.write_photos(tmp_path / "images")
    lens = read(tmp_path).views[0].camera.lens
    assert lens is not None and lens.model == "FULL_OPENCV"
    import pycolmap

    model = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    r = np.linspace(0.0, 0.7, 30)
    rays = np.stack([r * 0.6, r * 0.8, np.ones_like(r)], 1)
    radial = 1 - 0.1 * r**2 + 0.04 * r**4 + axes["k3"] * r**6 + axes.get("k4", 0) * r**8
    s = scene.shot
    expected = np.stack([s.fx * 0.6 * r * radial + s.cx, s.fy * 0.8 * r * radial + s.cy], 1)
    np.testing.assert_allclose(model.img_from_cam(rays), expected, atol=0.02)


def test_far_from_the_origin_nothing_is_lost_to_float32(tmp_path: Path) -> None:
    """Surveyed models have coordinates of millions of metres."""
    scene = make_scene()
    shift = np.array([4.2e6, -3.1e5, 5.0e6])
    poses = [p.copy() for p in scene.world_from_cam]
    for p in poses:
        p[:3, 3] += shift
    far = Scene(scene.points + shift, poses, scene.shot)
    write_colmap_text(far, tmp_path, "PINHOLE")
    scene.write_photos(tmp_path / "images")
    capture = read(tmp_path)
    assert capture.points is not None and capture.points.positions.abs().max() < 100
    for i in range(len(poses)):
        near = projected(capture, far, i)
        np.testing.assert_allclose(near, scene.pixels(i), atol=1e-3)
        view = capture.views[i]
        assert view.world_from_cam is not None
        stored = view.camera.project(view.world_from_cam.inverse().apply(capture.points.positions.double())).numpy()
        np.testing.assert_allclose(stored[np.lexsort(stored.T)], near[np.lexsort(near.T)], atol=1e-3)
