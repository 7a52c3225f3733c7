"""Matches of another matcher become points beside those of SIFT; the given poses have the last word on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from splat.core.capture import Capture
from splat.core.image import write_png
from splat.core.slots import Reporter, Silent, SparseMatches
from splat.poses import Known
from splat.poses.added_matches import with_added_matches
from splat.poses.features import FeatureSettings, extract

COUNT = 60


@dataclass(frozen=True)
class Oracle:
    """Knows points of the scene and where each photo sees them; the last `wrong` of them it matches at random."""

    where: np.ndarray
    """[photos points 2], as shares of a photo's width and height."""
    wrong: int = 0
    name: str = "an oracle"

    def __call__(
        self, photos: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]], folder: Path, report: Reporter,
        threads: int = 1,
    ) -> SparseMatches:  # fmt: skip
        n = self.where.shape[1]
        rows = np.stack([np.arange(n), np.arange(n)], 1).astype(np.uint32)
        if self.wrong:
            rows[-self.wrong :, 1] = np.roll(rows[-self.wrong :, 1], 7)
        sizes = [np.array([p.shape[1], p.shape[0]]) for p in photos]
        xy = tuple((w * size).astype(np.float32) for w, size in zip(self.where, sizes))
        return SparseMatches(xy, dict.fromkeys(pairs, rows), dict.fromkeys(pairs, np.ones(n, np.float32)))


@pytest.fixture(scope="module")
def given(world) -> Capture:
    """Three photos of the boards with their true cameras."""
    views = [
        replace(v, world_from_cam=t, camera=world.camera, focal_from="file", role="train")
        for v, t in zip(world.capture.views[:3], world.truth)
    ]
    return Capture(tuple(views))


@pytest.fixture(scope="module")
def truth(world, given) -> tuple[np.ndarray, np.ndarray]:
    """Points on the wall, [n 3], and where the photos see them, [photos n 2] as shares of their sizes."""
    corner, right, down = world.boards[0]
    u = np.random.default_rng(0).uniform(0.3, 0.7, (COUNT, 2))
    points = corner + u[:, :1] * right + u[:, 1:] * down
    where = []
    for view in given.views:
        cam = view.world_from_cam.inverse()
        at = points @ cam.rotation.numpy().T + cam.translation.numpy()
        c = view.camera
        x, y = c.fx * at[:, 0] / at[:, 2] + c.cx, c.fy * at[:, 1] / at[:, 2] + c.cy
        where.append(np.stack([x / c.width, y / c.height], 1))
    return points, np.array(where)


def found_points(given: Capture, folder: Path, matcher: Oracle | None, **settings: object) -> np.ndarray:
    known = Known(max_features_size=600, max_features=150, check=False, **settings)
    result = known(given, folder, Silent(), matcher)
    assert result.capture.points is not None
    return result.capture.points.positions.double().numpy()


def nearest(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[None] - to[:, None], axis=2).min(1)


def test_its_matches_become_points_beside_those_of_sift(given, truth, sfm_folder) -> None:
    alone = found_points(given, sfm_folder, None)
    joined = found_points(given, sfm_folder, Oracle(truth[1]))
    assert len(joined) > len(alone) + 0.8 * COUNT
    assert np.percentile(nearest(joined, truth[0]), 80) < 1e-3  # of scenes 4 deep
    assert np.percentile(nearest(joined, alone), 95) < 0.01
    assert np.array_equal(found_points(given, sfm_folder, Oracle(truth[1]), matches="sift"), alone)


def test_matches_that_contradict_the_poses_are_left_out(given, truth, sfm_folder) -> None:
    joined = found_points(given, sfm_folder, Oracle(truth[1], wrong=30))
    reached = nearest(joined, truth[0]) < 1e-3
    assert reached[:30].mean() > 0.8 and reached[30:].mean() < 0.3


def test_nothing_is_matched_where_a_mask_hides_the_photo(given, truth, sfm_folder, tmp_path: Path) -> None:
    camera = given.views[0].camera
    mask = np.full((camera.height, camera.width, 3), 255, np.uint8)
    mask[:, : camera.width // 2] = 0
    write_png(tmp_path / "mask.png", mask)
    views = [replace(given.views[0], mask_path=tmp_path / "mask.png"), *given.views[1:]]
    features = extract(tuple(views), FeatureSettings(600, 150), sfm_folder / "features", Silent(), 1)
    pairs = [(0, 1), (1, 2)]
    joined, rows = with_added_matches(views, features, pairs, Oracle(truth[1]), tmp_path, Silent(), 1)
    left = truth[1][0][:, 0] < 0.5
    assert 0 < left.sum() < COUNT
    assert set(rows[0, 1][:, 0] - len(features[0])) == set(np.flatnonzero(~left))
    assert len(rows[1, 2]) == COUNT
    for f, g, where in zip(joined, features, truth[1]):
        assert len(f) == len(f.rgb) == len(g) + COUNT
        assert np.allclose(f.xy[len(g) :], where * f.size, atol=1e-3)


def test_it_is_for_few_posed_photos_without_points(given) -> None:
    assert Known().may_add_matches(given)
    assert not Known(matches="sift").may_add_matches(given)
    assert not Known(triangulate=False).may_add_matches(given)
    many = Capture(given.views * 5)
    assert not Known().may_add_matches(many) and Known(matches="disk").may_add_matches(many)
    unposed = Capture(tuple(replace(v, world_from_cam=None) for v in given.views))
    assert not Known().may_add_matches(unposed)
    from splat.core.capture import PointCloud

    points = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3))
    assert not Known(matches="disk").may_add_matches(replace(given, points=points))
