"""The pictures of the server are those of the rasterizer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from viewing import gaussians, pinhole, poses, scene

from splat.export.renders import render_frame
from splat.viewer.edits import Brush, Pinhole
from splat.viewer.pictures import Painter, photo_jpeg, supporting_views
from splat.viewer.scene import Scene


@pytest.fixture
def shown(tmp_path: Path) -> Scene:
    return scene(tmp_path)


def decoded(image: bytes) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def painter(shown: Scene) -> Painter:
    assert shown.gaussians is not None
    return Painter(shown, shown.gaussians)


def test_the_picture_at_rest_is_the_render_bit_for_bit(shown: Scene) -> None:
    view = pinhole(poses(3)[1])
    expected = render_frame(shown.gaussians, view.camera, view.pose, shown.rasterizer, shown.settings)
    assert np.array_equal(decoded(painter(shown).png("colour", view)), expected.rgb)


@pytest.mark.parametrize("mode", ["depth", "normal", "alpha", "support"])
def test_every_mode_shows_the_cloud_and_not_the_rest(shown: Scene, mode: str) -> None:
    picture = decoded(painter(shown).png(mode, pinhole(poses(3)[1])))
    assert picture.shape == (120, 160, 3)
    assert picture[60, 80].max() > 40 and picture[0, 0].max() < 40


def test_normals_face_the_camera(shown: Scene) -> None:
    picture = decoded(painter(shown).png("normal", pinhole(poses(3)[1])))
    assert (picture[picture.any(2)][:, 2] >= 127).mean() > 0.97, "blue is towards the camera"


def test_a_difference_is_between_render_and_photo(shown: Scene) -> None:
    p = painter(shown)
    assert decoded(p.png("difference", pinhole(poses(3)[1]), 1)).shape == (120, 160, 3)
    for missing in (-1, 3, 10**6):
        with pytest.raises(ValueError, match="no such photo"):
            p.png("difference", pinhole(poses(3)[1]), missing)


def test_a_huge_picture_is_drawn_smaller(shown: Scene) -> None:
    view = pinhole(poses(3)[1])
    large = Pinhole(8000, 6000, 7200.0, 7200.0, 4000.0, 3000.0, view.world_from_cam)
    height, width = decoded(painter(shown).png("alpha", large)).shape[:2]
    assert width * height <= 2_510_000 and width / height == pytest.approx(4 / 3, abs=0.01)


def test_a_pixel_leads_to_the_surface_under_it(shown: Scene) -> None:
    view = pinhole(poses(3)[1])
    point = painter(shown).point_at(view, 80.4, 60.6)
    assert point is not None
    local = view.pose.inverse().apply(torch.tensor(point, dtype=torch.float64))
    assert torch.allclose(view.camera.project(local), torch.tensor([80.4, 60.6], dtype=torch.float64), atol=1e-6)
    expected = render_frame(shown.gaussians, view.camera, view.pose, shown.rasterizer).depth[60, 80]
    assert float(local[2]) == pytest.approx(float(expected), rel=2e-3)
    assert painter(shown).point_at(view, 0.5, 0.5) is None, "nothing is drawn in the corner"


def test_a_stroke_reaches_the_surface_that_is_seen(shown: Scene) -> None:
    view = pinhole(poses(3)[1])
    brush = Brush("brush", view, 9.0, ((80.0, 60.0, 0.0), (1.0, 1.0, 0.0), (50.0, 60.0, 3.5)))
    (_, _, far), (_, _, nothing), (_, _, given) = painter(shown).reached(brush).points
    assert 1.2 < far < 2.4 and nothing == 0 and given == 3.5


def test_support_counts_training_photos_that_show_a_gaussian(tmp_path: Path) -> None:
    shown = scene(tmp_path, count=1, cameras=5)
    one = gaussians(1)
    far = one.means.clone()
    far[:, 0] += 50
    counts = supporting_views(shown, one.map(lambda t: t))
    assert counts.tolist() == [4], "five photos, one held out"
    moved = type(one)(far, one.quats_wxyz, one.log_scales, one.logit_opacities, one.sh)
    assert supporting_views(shown, moved).tolist() == [0]


def test_photos_are_found_by_index_alone(shown: Scene) -> None:
    assert decoded(photo_jpeg(shown, 1)).mean() == pytest.approx(100, abs=2)
    for missing in (-1, 3):
        with pytest.raises(IndexError):
            photo_jpeg(shown, missing)
