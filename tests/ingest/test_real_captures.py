"""Real captures: counts, roles, cameras, and the surveyed truth where there is one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from splat.core.capture import Capture, View
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("name", "views", "test", "source", "focal_from", "groups"),
    [
        ("kermit", 11, 3, "photos", "exif", 1),
        ("sceaux_castle", 11, 3, "photos", "exif", 1),
        ("fountain_P11", 11, 3, "photos", "guess", 1),
        ("banana", 16, 4, "photos", "exif", 1),
        ("horse16", 16, 4, "photos", "guess", 1),
        ("monstree_exif", 8, 1, "photos", "exif", 2),
        ("fox", 50, 7, "nerfstudio", "file", 1),
        ("llff_fern", 20, 3, "llff", "file", 1),
        ("lego_100", 125, 25, "blender", "file", 1),
        ("nerfstudio_export", 100, 13, "nerfstudio", "file", 1),
    ],
)
def test_counts_and_cameras(
    data_root: Path, name: str, views: int, test: int, source: str, focal_from: str, groups: int
) -> None:
    report = Silent()
    capture = read(data_root / name, ReadOptions(), report)
    assert (len(capture.views), len(capture.test_views), capture.source) == (views, test, source)
    assert {v.focal_from for v in capture.views} == {focal_from}
    assert len({v.camera_group for v in capture.views}) == groups
    assert len({v.name for v in capture.views}) == views
    assert capture.posed == (source != "photos")
    assert len(report.warnings) == (1 if name == "fox" else 0)  # 17 of its 67 frames do not exist
    assert (capture.points is not None) == (name == "nerfstudio_export")


def test_orientation_is_mixed_in_monstree(data_root: Path) -> None:
    capture = read(data_root / "monstree_exif")
    assert {v.photo_size for v in capture.views} == {(900, 1200), (1200, 900)}
    view = capture.views[0]
    assert view.load(view.camera.scaled(0.1)).rgb.shape == (120, 90, 3)


def test_focal_lengths_from_exif_are_near_calibrated_ones(data_root: Path) -> None:
    k = np.loadtxt(data_root / "sceaux_castle" / "K.txt") / 2832  # given for the 2832 px originals
    view = read(data_root / "sceaux_castle").views[0]
    assert view.camera.fx / 1600 == pytest.approx(k[0, 0], rel=0.03)


def test_the_video_gives_a_photo_per_third_of_a_second(data_root: Path, tmp_path: Path) -> None:
    capture = read(data_root / "video_fruits", ReadOptions(workdir=tmp_path))
    assert capture.kind == "video" and 35 <= len(capture.views) <= 60
    assert capture.views[0].photo_size == (1024, 576)


def epipolar_error(a: View, b: View, long_side: int = 540) -> float:
    """Median distance in pixels of SIFT matches from the epipolar lines that the poses predict."""
    cameras, points, descriptors = [], [], []
    for view in (a, b):
        cameras.append(view.camera.scaled(long_side / max(view.camera.width, view.camera.height)))
        grey = cv2.cvtColor(view.load(cameras[-1]).rgb, cv2.COLOR_RGB2GRAY)
        keypoints, d = cv2.SIFT_create(1500).detectAndCompute(grey, None)
        points.append(np.array([p.pt for p in keypoints]) + 0.5)
        descriptors.append(d)
    pairs = cv2.BFMatcher().knnMatch(descriptors[0], descriptors[1], k=2)
    good = [(m.queryIdx, m.trainIdx) for m, n in pairs if m.distance < 0.7 * n.distance]
    assert len(good) > 40 and a.world_from_cam is not None and b.world_from_cam is not None
    ia, ib = np.array(good).T
    b_from_a = b.world_from_cam.inverse() @ a.world_from_cam
    x, y, z = b_from_a.translation.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    fundamental = cameras[1].matrix().inverse().T @ cross @ b_from_a.rotation @ cameras[0].matrix().inverse()
    lines = np.c_[points[0][ia], np.ones(len(ia))] @ fundamental.numpy().T
    distance = np.abs((lines * np.c_[points[1][ib], np.ones(len(ib))]).sum(1)) / np.hypot(lines[:, 0], lines[:, 1])
    return float(np.median(distance))


@pytest.mark.parametrize(("name", "i", "j"), [("fox", 0, 3), ("llff_fern", 10, 13)])
def test_matches_lie_on_the_epipolar_lines_of_the_given_poses(data_root: Path, name: str, i: int, j: int) -> None:
    capture = read(data_root / name)
    assert epipolar_error(capture.views[i], capture.views[j]) < 1.0


def covered(capture: Capture, points: torch.Tensor) -> float:
    """Share of (view, point) pairs where the point projects onto something opaque."""
    hits, total = 0, 0
    for view in capture.views[::20]:
        assert view.world_from_cam is not None
        alpha = view.load().alpha
        assert alpha is not None
        pixels = view.camera.project(view.world_from_cam.inverse().apply(points)).long()
        inside = (pixels >= 0).all(1) & (pixels < torch.tensor([view.camera.width, view.camera.height])).all(1)
        hits += int((torch.from_numpy(alpha)[pixels[inside, 1], pixels[inside, 0]] > 127).sum())
        total += len(points)
    return hits / total


def test_points_of_a_nerfstudio_export_lie_on_its_object(data_root: Path) -> None:
    """In the frame of the file; in COLMAP's, where exports go, they would not."""
    capture = read(data_root / "nerfstudio_export")
    assert capture.points is not None
    points = capture.points.positions.double()
    assert covered(capture, points) > 0.8
    assert covered(capture, capture.world_from_source.inverse().apply(points)) < 0.2


def test_depth_of_one_lego_view_lands_on_the_object_in_another(data_root: Path) -> None:
    """`test_depth` is the distance along the ray, 8 (1 - v / 255): unprojected, it must hit opaque pixels elsewhere."""
    capture = read(data_root / "lego_100")
    view = next(v for v in capture.views if v.name == "test/r_0.png")
    assert view.world_from_cam is not None
    stored = cv2.imread(str(data_root / "lego_100" / "test_depth" / "r_0.png"), cv2.IMREAD_UNCHANGED)
    value = torch.from_numpy(stored.reshape(100, 100, -1)[..., 0]).double()
    rays = view.camera.unproject(view.camera.pixel_centres().double(), torch.ones(100, 100, dtype=torch.float64))
    local = rays / rays.norm(dim=-1, keepdim=True) * (8 * (1 - value / 255))[..., None]
    points = view.world_from_cam.apply(local[value > 0])
    assert len(points) > 500 and covered(capture, points) > 0.97
