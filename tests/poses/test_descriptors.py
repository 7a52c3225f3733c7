"""Which descriptors count as a match."""

from __future__ import annotations

import numpy as np

from splat.poses.matching import MatchSettings, match_descriptors


def coded(*vectors: np.ndarray) -> np.ndarray:
    return np.stack([v.clip(0, 255) for v in vectors]).astype(np.uint8)


def spread(angle: float, axis: int) -> np.ndarray:
    """A descriptor of norm 512 whose energy is shared by many bins, `angle` from the flat one."""
    base = np.zeros(128)
    base[:64] = 1 / 8
    other = np.zeros(128)
    other[64 + axis * 8 : 72 + axis * 8] = 1 / np.sqrt(8)
    return np.round(512 * (np.cos(angle) * base + np.sin(angle) * other))


def test_a_match_must_be_clearly_nearer_than_the_second_best() -> None:
    query = coded(spread(0.0, 0), spread(1.2, 3))
    ambiguous = coded(spread(0.30, 0), spread(0.34, 1), spread(1.3, 4))
    clear = coded(spread(0.30, 0), spread(0.60, 1), spread(1.3, 4))
    assert [0, 0] not in match_descriptors(query, ambiguous, MatchSettings()).tolist()
    assert [0, 0] in match_descriptors(query, clear, MatchSettings()).tolist()
    assert [0, 0] in match_descriptors(query, ambiguous, MatchSettings(max_ratio=0.95)).tolist()


def test_a_match_must_be_near_at_all() -> None:
    query, others = coded(spread(0.0, 0), spread(1.4, 3)), coded(spread(0.8, 0), spread(1.3, 4))
    assert [0, 0] not in match_descriptors(query, others, MatchSettings()).tolist()
    assert [0, 0] in match_descriptors(query, others, MatchSettings(max_distance=0.9)).tolist()


def test_a_match_is_mutual() -> None:
    query = coded(spread(0.0, 0), spread(0.1, 1))
    others = coded(spread(0.12, 1), spread(1.3, 4))
    found = match_descriptors(query, others, MatchSettings()).tolist()
    assert [1, 0] in found and [0, 0] not in found
