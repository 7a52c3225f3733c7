"""Whether the verified matches of a pair of photos are more than random matches would give."""

from __future__ import annotations

from math import hypot, lgamma, log, log10


def log_false_alarms(matches: int, inliers: int, size: tuple[int, int], max_error: float) -> float:
    """log10 of the expected number of fundamental matrices that at least `inliers` of `matches` random matches agree
    with (Moisan & Stival, IJCV 2004): 3 (n - 7) C(n, k) C(k, 7) a^(k - 7).

    size: width and height of the photo where the epipolar lines are, px. max_error: largest Sampson error of an inlier,
    px. The share a of a photo that agrees with a line by chance is that of a band along its diagonal; a Sampson error
    of e allows about sqrt(2) e to either side.
    """
    n, k = matches, min(inliers, matches)
    if k <= 7:
        return log10(3.0 * max(n, 1))
    width, height = size
    share = min(1.0, 2 * 2**0.5 * max_error * hypot(width, height) / (width * height))
    return log10(3.0 * (n - 7)) + _log_choose(n, k) + _log_choose(k, 7) + (k - 7) * log10(share)


def by_chance(
    matches: int, inliers: int, size: tuple[int, int], max_error: float, log_alarms: float = 0.0
) -> bool:  # fmt: skip
    """Whether random matches would give the inliers of a pair too: its geometry then says nothing. log_alarms: log10 of
    the false alarms that are allowed."""
    return log_false_alarms(matches, inliers, size, max_error) > log_alarms


def _log_choose(n: int, k: int) -> float:
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(10)
