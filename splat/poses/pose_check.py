"""Given poses judged against the photos: two-view geometry from matches alone, compared with what the dataset says.

Nothing is changed: what contradicts is a warning that names the photos and, where one explanation fits, the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from splat.core.capture import Capture, View
from splat.core.foreign import shown
from splat.poses.doubts import find_doubts
from splat.poses.evidence import PairEvidence, own_pose, rotation_angles, sampson_error
from splat.poses.features import PhotoFeatures
from splat.poses.hypotheses import GLOBAL, ROLLS, Cause
from splat.poses.matching import MatchSettings, match_pair, one_thread_each, verify_pair

MIN_MATCHES = 40
"""Verified matches of a pair that says something about poses."""
MAX_PAIRS, MAX_MATCHES = 160, 200
EXPLAINED, CONTRADICTED = 0.7, 0.5
"""Shares of a pair's verified matches within _MAX_ERROR of their epipolar lines from which, and below which, a pair
agrees with or contradicts the given poses."""
_MAX_ERROR = 8.0
"""px of a photo of 1000 px: poses of other programs come with their own lens model."""

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class CheckedPair:
    """Verified matches of two views as bearings with the given intrinsics, and what the given poses make of them."""

    i: int
    j: int
    a: np.ndarray
    """Normalized image points [m 2] of view i."""
    b: np.ndarray
    focal: tuple[float, float]
    """px at the size of the features, of i and j."""
    tolerance: float
    """px."""
    explained: float
    own: tuple[np.ndarray, np.ndarray] | None
    """Relative pose by the matches alone, j_from_i; None where it is not certain. Known where `explained` is low."""

    def share(self, pose_i: np.ndarray, pose_j: np.ndarray, focal: float = 1.0) -> float:
        """Share of the matches that world_from_cam matrices [4 4] explain, with both focal lengths times `focal`."""
        relative = np.linalg.inv(pose_j) @ pose_i
        error = sampson_error(self.a / focal, self.b / focal, relative[:3, :3], relative[:3, 3])
        return float((error * self.focal[1] * focal < self.tolerance).mean())


@dataclass(frozen=True)
class Verdict:
    """What matches say about given poses."""

    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    """Pairs that were compared, how many contradict, and the cause by view."""


def check_poses(
    capture: Capture, features: Sequence[PhotoFeatures], cameras: Sequence[Any], raw: Mapping[Pair, np.ndarray],
    threads: int, seed: int,
) -> Verdict:  # fmt: skip
    """Compare the poses of a fully posed capture with its photos.

    features, cameras: of every view, the latter pycolmap cameras at the size of the features. raw: matches of pairs
    (i < j) of neighbours before any verification; the next two by name are added. Views that match no neighbour are
    matched with some of the others.
    """
    views = capture.views
    poses = np.stack([v.pose.matrix().numpy() for v in views])
    wanted = _spread(raw, len(views))
    wanted |= {(i, i + s) for s in (1, 2) for i in range(len(views) - s) if len(wanted) < 2 * MAX_PAIRS}

    def work(pair: Pair) -> CheckedPair | None:
        i, j = pair
        rows = raw[pair] if pair in raw else match_pair(features[i], features[j], MatchSettings())
        return _checked(pair, rows, features, cameras, poses, seed)

    found = [c for c in one_thread_each(work, sorted(wanted), threads) if c is not None]
    touched = {k for c in found for k in (c.i, c.j)}
    lone = [k for k in range(len(views)) if k not in touched and len(features[k]) >= 200]
    if len(found) >= 3 and 0 < len(lone) <= max(2, len(views) // 8):
        others = np.linspace(0, len(views) - 1, min(len(views), 16)).round().astype(int).tolist()
        more = {(min(k, o), max(k, o)) for k in lone[:6] for o in others if k != o} - wanted
        found += [c for c in one_thread_each(work, sorted(more), threads) if c is not None]
    return _verdict(views, poses, found)


def _spread(raw: Mapping[Pair, np.ndarray], count: int) -> set[Pair]:
    """Of the matched pairs for each view those with most matches, MAX_PAIRS or so in all."""
    per_view = max(2, min(6, 2 * MAX_PAIRS // max(1, count)))
    taken, uses = set(), [0] * count
    for pair in sorted(raw, key=lambda p: (-len(raw[p]), p)):
        if len(raw[pair]) >= MIN_MATCHES and any(uses[k] < per_view for k in pair):
            taken.add(pair)
            for k in pair:
                uses[k] += 1
    return taken


def _checked(
    pair: Pair, rows: np.ndarray, features: Sequence[PhotoFeatures], cameras: Sequence[Any], poses: np.ndarray,
    seed: int,
) -> CheckedPair | None:  # fmt: skip
    i, j = pair
    if len(rows) < MIN_MATCHES:
        return None
    verified = verify_pair(cameras[i], features[i], cameras[j], features[j], rows, MatchSettings(), seed)
    inliers = np.asarray(verified.inlier_matches)
    # Look-alike structures give small consistent sets among many wrong matches.
    if len(inliers) < max(MIN_MATCHES, 0.5 * len(rows)):
        return None
    inliers = inliers[np.linspace(0, len(inliers) - 1, min(len(inliers), MAX_MATCHES)).astype(int)]
    xy_i, xy_j = (features[k].xy[inliers[:, c]].astype(np.float64) for c, k in enumerate(pair))
    a, b = np.asarray(cameras[i].cam_from_img(xy_i)), np.asarray(cameras[j].cam_from_img(xy_j))
    usable = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    if usable.sum() < MIN_MATCHES:
        return None
    focal = cameras[i].mean_focal_length(), cameras[j].mean_focal_length()
    tolerance = _MAX_ERROR * max(features[j].size) / 1000
    c = CheckedPair(i, j, a[usable], b[usable], focal, max(tolerance, 4.0), 0.0, None)
    share, own = c.share(poses[i], poses[j]), None
    if share < CONTRADICTED:
        found = own_pose(cameras[i], xy_i, cameras[j], xy_j, seed)
        own = (found.rotation, found.translation) if found is not None and found.certain else None
    return CheckedPair(i, j, c.a, c.b, focal, c.tolerance, share, own)


def _verdict(views: Sequence[View], poses: np.ndarray, pairs: Sequence[CheckedPair]) -> Verdict:
    against = [p for p in pairs if p.explained < CONTRADICTED]
    details: dict[str, Any] = {"pairs_compared": len(pairs), "pairs_contradicting": len(against)}
    if len(pairs) < 2 or not against:
        return Verdict((), details)
    most = 2 * len(against) > len(pairs)
    if most and (cause := _global_cause(pairs, poses, 0.2)):
        details["cause"] = cause.name
        return Verdict((_about_all(views, pairs, against, cause, poses),), details)
    certain = [p for p in against if p.own is not None]
    if not certain or (most and 2 * len(certain) < len(pairs)):
        return Verdict((), details)  # matches that are wrong themselves
    evidence = [
        PairEvidence(views[p.i].name, views[p.j].name, len(p.a), len(p.a), _difference(p, poses), p.explained)
        for p in pairs
        if p.own is not None or p.explained >= EXPLAINED
    ]
    doubt = find_doubts(evidence, len(views), 0.34)
    named = sorted(name for name, count in doubt.photos.items() if count[0] >= 2 or count[1] == 1)
    if not named and (both := _exchanged(pairs, against, poses)):
        named = sorted(views[k].name for k in both)
    if not named:
        cause = _global_cause(pairs, poses, 0.1)
        if cause is None and not doubt.whole and not most:
            return Verdict((), details)
        details["cause"] = cause.name if cause else "unknown"
        return Verdict((_about_all(views, pairs, against if cause else certain, cause, poses),), details)
    ids = {v.name: k for k, v in enumerate(views)}
    causes = _view_causes([ids[n] for n in named], views, pairs, poses)
    details["views"] = {name: causes[ids[name]] for name in named}
    listed = "; ".join(f"{shown(n)} {causes[ids[n]]}" for n in named[:4])
    more = f"; and {len(named) - 4} more" if len(named) > 4 else ""
    return Verdict(
        (
            f"the given poses of {len(named)} of {len(views)} photos contradict their matches with other photos: "
            f"{listed}{more}. Mend or remove them, or find the poses from the photos with --ignore-poses.",
        ),
        details,
    )


def _difference(p: CheckedPair, poses: np.ndarray) -> float:
    """Degrees between the given relative pose and the pair's own: of the rotations or of the directions between the
    cameras, whichever is larger. 0 for a pair that the given poses explain."""
    if p.own is None:
        return 0.0
    relative = np.linalg.inv(poses[p.j]) @ poses[p.i]
    turn = float(rotation_angles((p.own[0].T @ relative[:3, :3])[None])[0])
    t, own = relative[:3, 3], p.own[1]
    cosine = float(t @ own) / max(float(np.linalg.norm(t) * np.linalg.norm(own)), 1e-12)
    return max(turn, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))


def _mean_share(pairs: Iterable[CheckedPair], pose: Callable[[int], np.ndarray], focal: float = 1.0) -> float:
    shares = [p.share(pose(p.i), pose(p.j), focal) for p in pairs]
    return float(np.mean(shares)) if shares else 0.0


def _global_cause(pairs: Sequence[CheckedPair], poses: np.ndarray, gain: float) -> Cause | None:
    """The one explanation under which the matches of nearly all pairs agree with the poses, and the share of matches
    that do is higher by `gain`."""
    given = _mean_share(pairs, poses.__getitem__)
    best: tuple[float, Cause | None] = 0.0, None
    for cause in GLOBAL:
        changed = cause.change(poses)
        if changed is None or not np.isfinite(changed).all():
            continue
        share = _mean_share(pairs, changed.__getitem__, cause.focal)
        if share > best[0] + 0.02:
            best = share, cause
    return best[1] if best[0] >= EXPLAINED and best[0] > given + gain else None


def _exchanged(
    pairs: Sequence[CheckedPair], against: Sequence[CheckedPair], poses: np.ndarray, max_views: int = 8
) -> tuple[int, int] | None:
    """The two views that explain nearly all contradictions if each has the pose of the other. Neighbours that are
    exchanged still agree with many photos, so that neither is doubtful by itself."""
    uses: dict[int, int] = {}
    for p in against:
        uses[p.i], uses[p.j] = uses.get(p.i, 0) + 1, uses.get(p.j, 0) + 1
    often = sorted(uses, key=lambda k: (-uses[k], k))[:max_views]
    best: tuple[int, tuple[int, int] | None] = len(against), None
    for at, i in enumerate(often):
        for j in often[at + 1 :]:
            changed = poses.copy()
            changed[[i, j]] = poses[[j, i]]
            left = sum(p.share(changed[p.i], changed[p.j]) < CONTRADICTED for p in pairs)
            best = min(best, (left, (i, j)), key=lambda item: item[0])
    return best[1] if len(against) >= 3 and best[0] <= 0.2 * len(against) else None


def _about_all(
    views: Sequence[View], pairs: Sequence[CheckedPair], against: Sequence[CheckedPair], cause: Cause | None,
    poses: np.ndarray,
) -> str:  # fmt: skip
    strongest = max(against, key=lambda p: len(p.a))
    example = f"{shown(views[strongest.i].name)} and {shown(views[strongest.j].name)}"
    head = (
        f"the given poses contradict the matches of {len(against)} of {len(pairs)} pairs of photos ({example}, ...): "
    )
    if cause is not None:
        return f"{head}{cause.sentence}; or find the poses from the photos with --ignore-poses."
    degrees = [_difference(p, poses) for p in against if p.own is not None]
    if degrees and float(np.median(degrees)) < 20:
        usual = float(np.median(degrees))
        return f"{head}they are inexact, by about {usual:.0f} degrees; --ignore-poses finds them from the photos."
    return f"{head}they belong to other photos or follow another convention; --ignore-poses finds them from the photos."


def _view_causes(
    doubtful: Sequence[int], views: Sequence[View], pairs: Sequence[CheckedPair], poses: np.ndarray
) -> dict[int, str]:
    """Why each of the views `doubtful` contradicts the others: turned, exchanged with another, or simply elsewhere."""
    suspects = set(doubtful)
    out: dict[int, str] = {}
    for k in doubtful:
        mine = [p for p in pairs if k in (p.i, p.j) and not (suspects - {k}) & {p.i, p.j}]
        mine = mine or [p for p in pairs if k in (p.i, p.j)]

        def share(pose: np.ndarray, k: int = k, mine: list[CheckedPair] = mine) -> float:
            changed = poses.copy()
            changed[k] = pose
            return _mean_share(mine, changed.__getitem__)

        rolled = {angle: share(poses[k] @ roll) for angle, roll in ROLLS.items()}
        angle = max(rolled, key=lambda a: rolled[a])
        placed = {n: share(poses[n]) for n in range(len(views)) if n != k}
        where = max(placed, key=lambda n: (placed[n], n in suspects))
        if rolled[angle] >= EXPLAINED and rolled[angle] >= placed[where]:
            out[k] = f"(turned by {angle} degrees against its pose)"
        elif placed[where] >= EXPLAINED and where in suspects:
            out[k] = f"(exchanged with {shown(views[where].name)})"
        elif placed[where] >= 0.9:
            out[k] = f"(it was taken where the pose of {shown(views[where].name)} is)"
        else:
            out[k] = "(it was taken elsewhere, or its pose is wrong)"
    return out
