"""Given poses that contradict the photos are a warning with the photos and the cause; right poses are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.geometry import Rigid
from splat.core.slots import Silent
from splat.poses import Known
from splat.poses import features as feature_files
from splat.poses.features import FeatureSettings, PhotoFeatures, quiet
from splat.poses.hypotheses import ROLLS
from splat.poses.known import _cameras, _neighbour_pairs
from splat.poses.matching import MatchSettings, match_pair
from splat.poses.pose_check import Verdict, check_poses
from tests.street import FOCAL, HEIGHT, WIDTH, street

COUNT = 10
SETTINGS = FeatureSettings(max_count=600)


def rigid(matrix: np.ndarray) -> Rigid:
    return Rigid.from_matrix(torch.from_numpy(matrix))


@dataclass(frozen=True, eq=False)
class Given:
    """Ten photos of the street with their true poses in a frame of no special kind."""

    capture: Capture
    features: list[PhotoFeatures]
    raw: dict[tuple[int, int], np.ndarray]
    poses: np.ndarray
    """world_from_cam [n 4 4]."""

    def check(self, poses: Sequence[np.ndarray], focal: float = 1.0) -> Verdict:
        views = tuple(
            replace(v, world_from_cam=rigid(m), camera=replace(v.camera, fx=FOCAL * focal, fy=FOCAL * focal))
            for v, m in zip(self.capture.views, poses, strict=True)
        )
        capture = Capture(views)
        cameras, _ = _cameras(capture, self.features)
        return check_poses(capture, self.features, cameras, self.raw, 1, 0)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("street")
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = cv2.Rodrigues(np.array([0.3, -1.2, 0.5]))[0], [3, -2, 1]
    camera = Camera(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    views, poses = [], []
    for i, v in enumerate(street(COUNT)):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), v.bgr)
        m = np.eye(4)
        m[:3, :3], m[:3, 3] = v.rotation.T, -v.rotation.T @ v.translation
        poses.append(world @ m)
        views.append(View(path.name, path, (WIDTH, HEIGHT), camera, rigid(poses[-1]), focal_from="file"))
    quiet()
    features = feature_files.extract(tuple(views), SETTINGS, folder / "features", Silent(), 1)
    pairs = _neighbour_pairs(Capture(tuple(views)), 5)
    raw = {(i, j): match_pair(features[i], features[j], MatchSettings()) for i, j in pairs}
    return Given(Capture(tuple(views)), features, raw, np.stack(poses))


def test_right_poses_are_no_warning(given: Given) -> None:
    verdict = given.check(given.poses)
    assert verdict.warnings == () and verdict.details["pairs_compared"] > 10
    assert verdict.details["pairs_contradicting"] == 0


def test_scale_and_frame_of_the_world_do_not_matter(given: Given) -> None:
    scaled = given.poses.copy()
    scaled[:, :3, 3] *= 1000
    assert given.check(np.linalg.inv(given.poses[3]) @ scaled).warnings == ()


OPENGL = np.diag([1.0, -1, -1, 1])
MIRROR = np.diag([1.0, -1, 1, 1])


def transposed(m: np.ndarray) -> np.ndarray:
    out = m.copy()
    out[:, :3, :3] = np.swapaxes(m[:, :3, :3], 1, 2)
    return out


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        (lambda m: m @ OPENGL, "opengl axes", "OpenGL"),
        (np.linalg.inv, "inverted", "exchanged"),
        (lambda m: np.linalg.inv(m @ OPENGL), "inverted, opengl axes", "OpenGL"),
        (lambda m: MIRROR @ m @ MIRROR, "mirrored", "left-handed"),
        (transposed, "transposed", "transposed"),
        (lambda m: np.roll(m, -1, 0), "one late", "one off"),
    ],
)
def test_another_convention_is_named(given: Given, change: Callable, cause: str, words: str) -> None:
    verdict = given.check(change(given.poses))
    assert verdict.details["cause"] == cause and words in verdict.warnings[0]
    assert "--ignore-poses" in verdict.warnings[0]


@pytest.mark.parametrize(("factor", "right"), [(2.0, "focal 0.5"), (0.5, "focal 2")])
def test_a_wrong_focal_length_is_named(given: Given, factor: float, right: str) -> None:
    verdict = given.check(given.poses, factor)
    assert verdict.details["cause"] == right and "focal length" in verdict.warnings[0]


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_turned_photo_is_named(given: Given, angle: int) -> None:
    poses = given.poses.copy()
    poses[5] = poses[5] @ np.linalg.inv(ROLLS[angle])
    verdict = given.check(poses)
    assert list(verdict.details["views"]) == ["5.png"]
    assert f"5.png (turned by {angle} degrees" in verdict.warnings[0]


@pytest.mark.parametrize(("a", "b"), [(2, 7), (4, 5)])
def test_exchanged_photos_are_named(given: Given, a: int, b: int) -> None:
    poses = given.poses.copy()
    poses[[a, b]] = poses[[b, a]]
    verdict = given.check(poses)
    assert set(verdict.details["views"]) == {f"{a}.png", f"{b}.png"} and "exchanged" in verdict.warnings[0]


def test_one_wrong_pose_is_named_and_others_are_not(given: Given) -> None:
    poses = given.poses.copy()
    poses[6, :3, 3] += [0.6, 0.4, 0.2]
    verdict = given.check(poses)
    assert list(verdict.details["views"]) == ["6.png"] and "1 of 10 photos" in verdict.warnings[0]


def test_inexact_poses_are_called_inexact(given: Given) -> None:
    rng = np.random.default_rng(0)
    poses = given.poses.copy()
    for m in poses:
        m[:3, :3] = m[:3, :3] @ cv2.Rodrigues(rng.normal(0, np.radians(2), 3))[0]
    assert "inexact" in given.check(poses).warnings[0]


def test_photos_that_match_nothing_are_no_reason_to_warn(given: Given) -> None:
    blank = replace(given.features[0], xy=given.features[0].xy[:0], descriptors=given.features[0].descriptors[:0])
    alone = replace(given, features=[blank] * COUNT, raw={})
    assert alone.check(given.poses).warnings == ()


def test_a_dataset_with_points_is_checked_by_some_of_its_photos(given: Given, tmp_path: Path) -> None:
    points = PointCloud(torch.zeros(10, 3), torch.zeros(10, 3))
    wrong = tuple(replace(v, world_from_cam=rigid(m @ OPENGL)) for v, m in zip(given.capture.views, given.poses))
    brought = Capture(wrong, points=points)
    result = Known(max_features=600)(brought, tmp_path, Silent())
    assert "OpenGL" in result.warnings[0] and result.details["check"]["cause"] == "opengl axes"
    assert result.capture.points is points and result.capture.views == wrong
    quietly = Known(check=False)(brought, tmp_path, Silent())
    assert quietly.warnings == () and "check" not in quietly.details
