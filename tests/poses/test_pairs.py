"""Which photos are compared, and which features are the same point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.poses.attempts import attempt_sequence
from splat.poses.features import PhotoFeatures
from splat.poses.matching import MatchSettings, match_descriptors
from splat.poses.pairs import PairSettings, choose_pairs, most_similar, numbered


def photos(n: int, kind: str = "photos", name: str = "{:03d}.jpg") -> Capture:
    views = [View(name.format(i), Path("x"), (40, 30), Camera(50.0, 50.0, 20.0, 15.0, 40, 30)) for i in range(n)]
    return Capture(tuple(views), kind=kind)


def descriptors(rng: np.random.Generator, n: int) -> np.ndarray:
    d = np.abs(rng.standard_normal((n, 128))) ** 2
    return np.round(512 * d / np.linalg.norm(d, axis=1, keepdims=True)).clip(0, 255).astype(np.uint8)


def features(d: np.ndarray) -> PhotoFeatures:
    n = len(d)
    return PhotoFeatures(np.zeros((n, 2), np.float32), np.ones(n, np.float32), d, np.zeros((n, 3), np.uint8), (40, 30),
                         500.0)  # fmt: skip


def places(n: int, per_place: int, seed: int = 0) -> list[PhotoFeatures]:
    """n photos of n / per_place places; photos of one place share half of their features, up to noise."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        if i % per_place == 0:
            common = descriptors(rng, 60)
        noisy = np.clip(common.astype(int) + rng.integers(-6, 7, common.shape), 0, 255).astype(np.uint8)
        out.append(features(np.concatenate([noisy, descriptors(rng, 60)])))
    return out


def test_few_photos_are_all_compared() -> None:
    pairs, how = choose_pairs(photos(7), places(7, 7), PairSettings(), seed=0)
    assert len(pairs) == 21 and len(set(pairs)) == 21 and all(i < j for i, j in pairs)
    assert how == "all pairs"


def test_photos_of_one_place_look_most_alike() -> None:
    near = most_similar(places(40, 4), count=3, seed=0)
    hits = sum(int(j) // 4 == i // 4 for i, row in enumerate(near) for j in row)
    assert hits >= 0.95 * 40 * 3


def test_many_photos_are_compared_with_look_alikes_and_gps_neighbours() -> None:
    capture = photos(120, name="{}_holiday.jpg")
    pairs, how = choose_pairs(capture, places(120, 4), PairSettings(neighbours=5), seed=0)
    assert how == "look-alikes" and len(pairs) < 120 * 5 + 1
    assert sum((4 * k + a, 4 * k + b) in set(pairs) for k in range(30) for a, b in [(0, 1), (1, 2), (2, 3)]) > 85
    # 7 m between the photos of a pair, 10 m between pairs; a degree is about 111 km
    located = capture.with_views(tuple(replace(v, gps=(9e-5 * (i // 2), 6.3e-5 * (i % 2), 0.0))
                                       for i, v in enumerate(capture.views)))  # fmt: skip
    more, how = choose_pairs(located, places(120, 4), PairSettings(neighbours=5, gps_neighbours=1), seed=0)
    assert "GPS" in how and {(2 * i, 2 * i + 1) for i in range(60)} <= set(more)


def test_a_video_is_compared_along_time_with_loops_closed() -> None:
    pairs, how = choose_pairs(photos(130, "video"), places(130, 130), PairSettings(overlap=3, neighbours=2), seed=0)
    assert "time" in how
    assert {(i, i + s) for s in (1, 2, 3, 16, 32, 64) for i in range(130 - s)} <= set(pairs)
    assert any(j - i > 64 for i, j in pairs)


@pytest.mark.parametrize(("names", "answer"), [
    (["f001.png", "f002.png", "f003.png"], True), (["0010.jpg", "0022.jpg", "0034.jpg", "0048.jpg"], True),
    (["DSC_1.jpg", "DSC_2.jpg", "IMG_3.jpg"], False), (["a.png", "b.png", "c.png"], False),
    (["1.jpg", "2.jpg", "3.jpg", "90.jpg"], False), (["1.jpg"], False),
])  # fmt: skip
def test_numbered_frames_are_recognized(names: list[str], answer: bool) -> None:
    assert numbered(names) is answer


def test_pairs_do_not_depend_on_chance() -> None:
    capture, found, few = photos(24, name="{}x.jpg"), places(24, 5), PairSettings("retrieval", neighbours=4)
    assert choose_pairs(capture, found, few, seed=3) == choose_pairs(capture, found, few, seed=3)


# ------------------------------------------------------------------------------------------------------------- matches


def brute_force(a: np.ndarray, b: np.ndarray, s: MatchSettings) -> list[tuple[int, int]]:
    x, y = a.astype(np.float64) / 512, b.astype(np.float64) / 512
    angle = np.arccos(np.clip(x @ y.T, -1, 1))
    out = []
    for i, row in enumerate(angle):
        first, second = np.argsort(row)[:2]
        mutual = int(angle[:, first].argmin()) == i
        if row[first] < s.max_ratio * row[second] and row[first] < s.max_distance and mutual:
            out.append((i, int(first)))
    return out


@pytest.mark.parametrize(("n", "m"), [(3, 5), (700, 350), (513, 1030)])
def test_matches_are_those_of_brute_force(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    b = descriptors(rng, m)
    a = np.concatenate([b[rng.permutation(m)[: n // 2]], descriptors(rng, n - n // 2)])[:n]
    a = np.clip(a.astype(int) + rng.integers(-9, 10, a.shape), 0, 255).astype(np.uint8)
    settings = MatchSettings()
    found = [tuple(map(int, row)) for row in match_descriptors(a, b, settings)]
    expected = brute_force(a, b, settings)
    assert len(set(found) ^ set(expected)) <= max(1, len(expected) // 200)  # float32 against float64 at the threshold
    assert len(expected) >= n // 4


def test_a_feature_that_resembles_two_others_nearly_alike_has_no_match() -> None:
    a = descriptors(np.random.default_rng(4), 60)
    a[:, :2] = 60
    a = np.round(512.0 * a / np.linalg.norm(a.astype(float), axis=1, keepdims=True)).clip(0, 255).astype(np.uint8)
    one, two = a.copy(), a[:20].copy()  # twenty of them are there twice
    one[:, 0], two[:, 1] = 0, 5
    b = np.concatenate([one, two])
    assert {int(i) for i, _ in match_descriptors(a, b, MatchSettings())} == set(range(20, 60))
    assert {int(i) for i, _ in match_descriptors(a, b, MatchSettings(max_ratio=1.0))} == set(range(60))


def test_swapping_the_photos_swaps_the_matches() -> None:
    rng = np.random.default_rng(5)
    a = descriptors(rng, 400)
    b = np.clip(a[rng.permutation(400)[:300]].astype(int) + rng.integers(-9, 10, (300, 128)), 0, 255).astype(np.uint8)
    loose = MatchSettings(max_ratio=1.0)  # the ratio test looks one way only
    there = {tuple(map(int, r)) for r in match_descriptors(a, b, loose)}
    back = {(int(i), int(j)) for j, i in match_descriptors(b, a, loose)}
    assert there == back and len(there) > 250


def test_photos_without_features_match_nothing() -> None:
    rng = np.random.default_rng(0)
    assert match_descriptors(descriptors(rng, 0), descriptors(rng, 9), MatchSettings()).shape == (0, 2)
    assert match_descriptors(descriptors(rng, 9), descriptors(rng, 1), MatchSettings()).shape == (0, 2)


def test_attempts_start_cheap_and_more_photos_get_smaller_problems() -> None:
    few, many = attempt_sequence(16), attempt_sequence(200)
    assert [r.name for r in few] == [r.name for r in many]
    assert len({r.name for r in few}) == len(few) == 6 and all(r.why for r in few)
    assert few[0].features.max_size > many[0].features.max_size
    assert few[0].features.max_count > many[0].features.max_count
    assert attempt_sequence(16, 900, 1000)[0].features.max_size == 900
    assert not few[0].matching.preview and many[0].matching.preview
