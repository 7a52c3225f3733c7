"""Random matches verify nearly any pair of photos at loose thresholds: such pairs are told from real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splat.poses.attempts import attempt_sequence
from splat.poses.chance import by_chance, log_false_alarms
from splat.poses.features import PhotoFeatures
from splat.poses.matching import MatchSettings, accepted, verify_pair

SIZE = (1600, 1064)
LOOSE = attempt_sequence(6)[2].matching


def camera() -> object:
    import pycolmap

    params = [2700.0, SIZE[0] / 2, SIZE[1] / 2, 0.0]
    return pycolmap.Camera(camera_id=1, model="SIMPLE_RADIAL", width=SIZE[0], height=SIZE[1], params=params)


def photo(xy: np.ndarray) -> PhotoFeatures:
    none = np.zeros((len(xy), 0), np.uint8)
    return PhotoFeatures(xy.astype(np.float32), np.ones(len(xy), np.float32), none, none, SIZE, 500.0)


def pair(seed: int, right: int, wrong: int) -> tuple[PhotoFeatures, PhotoFeatures, np.ndarray]:
    """Photos of points in space, seen 30 degrees apart, with so many right matches; the others are random."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-1.5, -1, 5], [1.5, 1, 7], (right, 3))
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turned = (points - [0, 0, 6]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + [0, 0, 6]
    a, b = (2700 * p[:, :2] / p[:, 2:] + [SIZE[0] / 2, SIZE[1] / 2] for p in (points, turned))
    b = b + rng.normal(0, 0.7, b.shape)
    random = rng.uniform([0, 0], SIZE, (2, wrong, 2))
    rows = np.repeat(np.arange(right + wrong, dtype=np.uint32)[:, None], 2, 1)
    return photo(np.concatenate([a, random[0]])), photo(np.concatenate([b, random[1]])), rows


def test_random_matches_pass_the_count_of_inliers_but_are_not_accepted() -> None:
    passed = taken = 0
    for seed in range(12):
        a, b, rows = pair(seed, 0, 300)
        found = verify_pair(camera(), a, camera(), b, rows, LOOSE, 0)
        passed += len(found.inlier_matches) >= LOOSE.min_inliers
        taken += accepted(camera(), a, camera(), b, rows, LOOSE, 0) is not None
    assert passed >= 6 and taken == 0


@pytest.mark.parametrize(("right", "wrong"), [(16, 4), (30, 80), (25, 25)])
def test_few_right_matches_among_wrong_ones_are_accepted(right: int, wrong: int) -> None:
    a, b, rows = pair(3, right, wrong)
    found = accepted(camera(), a, camera(), b, rows, LOOSE, 0)
    assert found is not None and (found.inlier_matches[:, 0] < right).sum() >= 0.8 * right


def test_without_the_test_of_chance_the_count_decides() -> None:
    assert not MatchSettings().more_than_chance and not attempt_sequence(6)[0].matching.more_than_chance
    a, b, rows = pair(0, 0, 300)
    count_alone = replace(LOOSE, more_than_chance=False)
    found = verify_pair(camera(), a, camera(), b, rows, count_alone, 0)
    taken = accepted(camera(), a, camera(), b, rows, count_alone, 0)
    assert (taken is not None) == (len(found.inlier_matches) >= count_alone.min_inliers)


def test_more_inliers_are_less_likely_by_chance_and_seven_always_are() -> None:
    alarms = [log_false_alarms(60, k, SIZE, 4.0) for k in range(10, 61)]
    assert (np.diff(alarms) < 0).all()
    assert by_chance(7, 7, SIZE, 4.0) and by_chance(0, 0, SIZE, 4.0) and not by_chance(30, 30, SIZE, 4.0)
    assert log_false_alarms(60, 20, SIZE, 4.0) < log_false_alarms(60, 20, SIZE, 8.0)
