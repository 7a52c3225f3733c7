"""Attempts that cannot place another photo are not run, and say so; what holds nothing counts for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splat.core.slots import Silent
from splat.poses import Sfm
from splat.poses.affine_matches import with_affine_matches
from splat.poses.attempts import AttemptSettings, attempt_sequence
from splat.poses.features import FeatureSettings, PhotoFeatures
from splat.poses.mapping import map_photos
from splat.poses.sfm import Attempt, AttemptRunner

IDS = [0, 1, 2, 3, 4, 7]
"""Of the world's photos: the boards, and one of another place."""
QUICK = Sfm(max_features=1000, threads=1)


def by_name(name: str) -> AttemptSettings:
    return next(s for s in attempt_sequence(len(IDS), max_count=1000) if s.name == name)


@pytest.fixture(scope="module")
def tried(world, tmp_path_factory: pytest.TempPathFactory) -> tuple[AttemptRunner, list[Attempt]]:
    runner = AttemptRunner(QUICK, world.photos(IDS), tmp_path_factory.mktemp("skipped"), Silent())
    return runner, [runner.run(by_name("default")), runner.run(by_name("affine features"))]


def test_known_matches_that_connect_no_more_photos_are_not_mapped_again(tried) -> None:
    runner, (first, affine) = tried
    assert first.registered == affine.registered == [0, 1, 2, 3, 4]
    again = runner.run(by_name("global mapper"), [first, affine])
    assert "connect no more photos" in again.skipped and not again.models
    assert again.skipped in again.outcome and again.summary()["skipped"] == again.skipped


def test_all_features_of_a_kind_are_sought_only_where_the_largest_match_a_photo_that_is_left(
    tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, attempts = tried
    asked: list[FeatureSettings] = []
    monkeypatch.setattr(runner, "features", lambda s: asked.append(s) or attempts[0].features)
    assert "match none of the photos that are left" in runner.run(by_name("robust features"), attempts).skipped
    assert not asked
    monkeypatch.setattr(runner, "_affine_pairs", {(2, 5)})
    assert not runner.cannot_help(by_name("robust features"), attempts)
    monkeypatch.setattr(runner, "_affine_pairs", {(2, 3)})  # both are placed
    assert runner.cannot_help(by_name("robust features"), attempts)


def test_nothing_is_skipped_before_there_is_a_model_or_where_pairs_contradict_it(tried, monkeypatch) -> None:
    runner, (first, _) = tried
    settings = by_name("global mapper")
    assert runner.cannot_help(settings, [first])
    assert not runner.cannot_help(settings, [])
    assert not runner.cannot_help(settings, [replace(first, settled=None)])
    doubt = replace(first.settled.doubt, whole=("it contradicts itself",))
    assert not runner.cannot_help(settings, [replace(first, settled=replace(first.settled, doubt=doubt))])


def test_a_photo_that_no_point_holds_is_not_in_the_model(tried, tmp_path: Path, monkeypatch) -> None:
    """The global mapper keeps photos whose points were all found wrong, anywhere."""
    import pycolmap

    _, (first, _) = tried
    hollow = pycolmap.Reconstruction(first.models[0])
    for point in list(hollow.image(3).points2D):
        if point.has_point3D():
            hollow.delete_point3D(point.point3D_id)
    assert hollow.image(3).num_points3D == 0 and hollow.num_points3D() > 20
    monkeypatch.setattr(pycolmap, "global_mapping", lambda *_: {0: hollow})
    (model,) = map_photos(tmp_path / "x.db", by_name("global mapper").mapping, 6, set(), 0, 1, lambda: None)
    assert 3 not in model.reg_image_ids() and model.num_reg_images() >= 2


def photo(xy: list[tuple[float, float]], seed: int = 0) -> PhotoFeatures:
    d = np.random.default_rng(seed).integers(0, 90, (len(xy), 128)).astype(np.uint8)
    n = len(xy)
    rgb = np.zeros((n, 3), np.uint8)
    return PhotoFeatures(np.array(xy, np.float32), np.ones(n, np.float32), d, rgb, (400, 300), 500.0)


def test_features_of_two_kinds_at_one_place_are_one_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A match of one kind then reaches points that the other kind triangulated."""
    import splat.poses.affine_matches as module

    sift = [photo([(10, 10), (50, 60), (90, 90)]), photo([(20, 10), (60, 60)])]
    affine = [photo([(50.5, 60.2), (200, 200)]), photo([(60, 60.4), (210, 200)])]
    seen: dict[str, Any] = {}

    def accepted(_: Any, a: PhotoFeatures, __: Any, b: PhotoFeatures, rows: np.ndarray, *rest: Any) -> Any:
        seen[str(len(seen))] = rows.tolist()
        return rows

    monkeypatch.setattr(module, "accepted", accepted)
    monkeypatch.setattr(module, "match_pair", lambda *_: np.array([[0, 0], [1, 1]], np.uint32))
    raw = {(0, 1): np.array([[0, 0]], np.uint32)}
    joined, found, alone = with_affine_matches(
        sift, affine, [None, None], [(0, 1)], raw, by_name("default").matching, 0, 1
    )
    assert found[0, 1].tolist() == [[0, 0], [1, 1], [4, 3]] and alone == {(0, 1)}
    assert [len(j) for j in joined] == [5, 4] and joined[0].xy[4].tolist() == [200, 200]
