"""A matcher beside SIFT: photos that SIFT leaves out are registered by its matches, or placed by dense depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import street
import torch
from noting import Noting

import splat.ingest
from splat.core.capture import Capture
from splat.core.geometry import align_points
from splat.core.slots import PoseResult, Reporter, Silent, SparseMatches
from splat.poses import Fewer, Known, Sfm
from splat.poses.attempts import attempt_sequence, with_matcher
from splat.poses.promise import SIDE, unturned
from splat.priors.stereo import Stereo

IDS = (0, 2, 4, 5, 7)
"""Of the street's photos."""
LOST = 2
"""Of those, the one that SIFT cannot match: its contrast is inverted."""
STEREO = Stereo(rounds=(2, 2, 1), hypotheses=32, extra_rounds=0, exchange=0.0)
FEW: dict[str, Any] = {"max_features": 600, "threads": 1}


def small(photo: np.ndarray) -> np.ndarray:
    return cv2.resize(photo, (32, 24), interpolation=cv2.INTER_AREA).astype(np.float32)


@dataclass(eq=False)
class Oracle:
    """Knows points of the street, and where each photo sees them; photos of any size are recognized, upright."""

    photos: list[np.ndarray]
    """RGB, as they are upright."""
    xy: np.ndarray
    """[photos points 2], pixels."""
    visible: np.ndarray
    """bool [photos points]"""
    wrong: set[int] = field(default_factory=set)
    """Photos that it matches at random."""
    name: str = "an oracle"
    calls: int = 0
    sides: set[int] = field(default_factory=set)
    """Long sides of the photos that it was given."""

    def _which(self, photo: np.ndarray) -> int | None:
        if photo.shape[0] > photo.shape[1]:
            return None
        same = [k for k, p in enumerate(self.photos) if self._near(p, photo)]
        return same[0] if same else None

    @staticmethod
    def _near(a: np.ndarray, b: np.ndarray) -> bool:
        return float(np.abs(small(a) - small(b)).mean()) < 3

    def __call__(
        self, photos: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]], folder: Path, report: Reporter,
        threads: int = 1,
    ) -> SparseMatches:  # fmt: skip
        self.calls += 1
        self.sides |= {max(p.shape) for p in photos}
        which = [self._which(p) for p in photos]
        none = np.zeros_like(self.visible[0])
        seen = [none if k is None else self.visible[k] for k in which]
        rows = {}
        for i, j in pairs:
            both = np.flatnonzero(seen[i] & seen[j])
            theirs = both
            if {which[i], which[j]} & self.wrong:
                theirs = np.random.default_rng(i + 10 * j).permutation(both)
            rows[i, j] = np.stack([both, theirs], 1).astype(np.uint32)
        xy = tuple((self.xy[k or 0] * (p.shape[1] / street.WIDTH)).astype(np.float32) for k, p in zip(which, photos))
        return SparseMatches(xy, rows, {p: np.ones(len(r), np.float32) for p, r in rows.items()})


def points_of(views: Sequence[street.StreetView]) -> tuple[np.ndarray, np.ndarray]:
    """Where `views` see points of the street, [photos points 2], and whether, bool [photos points]."""
    k = np.array([[street.FOCAL, 0, street.WIDTH / 2], [0, street.FOCAL, street.HEIGHT / 2], [0, 0, 1]])
    world = []
    for v in views:
        y, x = (g.ravel() for g in np.mgrid[8 : street.HEIGHT : 24, 8 : street.WIDTH : 24])
        z = v.depth[y, x]
        x, y, z = x[z > 0], y[z > 0], z[z > 0]
        rays = np.stack([x + 0.0, y + 0.0, np.ones(len(x))], 1) @ np.linalg.inv(k).T
        world.append((rays * z[:, None] - v.translation) @ v.rotation)
    points = np.concatenate(world)
    xy, visible = [], []
    for v in views:
        at = points @ v.rotation.T + v.translation
        pixel = (at @ k.T)[:, :2] / at[:, 2:]
        inside = (pixel > 0).all(1) & (pixel < [street.WIDTH - 1, street.HEIGHT - 1]).all(1) & (at[:, 2] > 0)
        column, line = np.where(inside[:, None], pixel, 0).round().astype(int).T
        visible.append(inside & (np.abs(v.depth[line, column] - at[:, 2]) < 0.02 * at[:, 2]))
        xy.append(pixel + 0.5)  # the street is drawn with pixel centres at 0
    return np.array(xy), np.array(visible)


@dataclass(frozen=True, eq=False)
class Photos:
    capture: Capture
    oracle: Oracle
    truth: torch.Tensor
    """Camera centres [photos 3]."""

    @property
    def lost(self) -> str:
        return self.capture.views[LOST].name


def photographed(folder: Path, change: str = "negative", quarters: int = 0, ids: Sequence[int] = IDS) -> Photos:
    """Photos of the street of which SIFT cannot match one. change: what that one is (negative; mirrored: of it the
    mirror image; elsewhere: something else that the oracle takes for it). quarters: how it is turned in its file."""
    folder.mkdir()
    views = [street.street()[i] for i in ids]
    xy, visible = points_of(views)
    rgb = [np.ascontiguousarray(v.bgr[..., ::-1]) for v in views]
    rgb[LOST] = 255 - rgb[LOST]
    if change == "mirrored":
        rgb[LOST] = np.ascontiguousarray(rgb[LOST][:, ::-1])
        xy[LOST, :, 0] = street.WIDTH - xy[LOST, :, 0]
    if change == "elsewhere":
        rgb[LOST] = np.random.default_rng(3).integers(0, 256, rgb[LOST].shape, dtype=np.uint8)
    for k, photo in enumerate(rgb):
        stored = np.rot90(photo, quarters) if k == LOST else photo
        cv2.imwrite(str(folder / f"{k}.png"), np.ascontiguousarray(stored[..., ::-1]))
    oracle = Oracle(rgb, xy, visible, {LOST} if change == "elsewhere" else set())
    truth = torch.tensor(np.stack([-v.rotation.T @ v.translation for v in views]))
    return Photos(splat.ingest.read(folder, report=Silent()), oracle, truth)


@pytest.fixture(scope="module")
def negative(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return photographed(tmp_path_factory.mktemp("negative") / "photos")


def error(result: PoseResult, photos: Photos) -> float:
    """The largest error of a camera's position, as a share of the largest distance between two."""
    names = {v.name: k for k, v in enumerate(photos.capture.views)}
    true = photos.truth[[names[v.name] for v in result.capture.views]]
    found = result.capture.camera_centres().double()
    return float((align_points(found, true).apply(found) - true).norm(dim=1).max() / torch.cdist(true, true).max())


def test_its_matches_register_what_sift_does_not(negative: Photos, tmp_path: Path) -> None:
    alone = Sfm(attempts=2, **FEW)(negative.capture, tmp_path / "a", Silent())
    assert set(alone.unregistered) == {negative.lost}
    both = Sfm(attempts=2, **FEW)(negative.capture, tmp_path / "b", Silent(), negative.oracle)
    assert not both.unregistered and both.details["chosen"] == "SIFT and an oracle"
    assert [a["name"] for a in both.details["attempts"]] == ["default", "loose thresholds", "SIFT and an oracle"]
    assert error(both, negative) < 0.02


SLOW = pytest.mark.slow


@pytest.mark.parametrize("quarters", [pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW), 3])
def test_a_photo_that_matches_none_upright_is_turned(tmp_path: Path, quarters: int) -> None:
    photos = photographed(tmp_path / "photos", quarters=quarters)
    result = Sfm(attempts=2, **FEW)(photos.capture, tmp_path / "work", Silent(), photos.oracle)
    assert not result.unregistered
    assert error(result, photos) < 0.02


def test_pixels_of_a_turned_photo_are_those_of_the_photo() -> None:
    photo = np.arange(35).reshape(5, 7)
    for quarters in range(4):
        turned = np.rot90(photo, quarters)
        lines, columns = np.mgrid[: turned.shape[0], : turned.shape[1]]
        xy = unturned(np.stack([columns.ravel() + 0.5, lines.ravel() + 0.5], 1), quarters, 7, 5).astype(int)
        assert (photo[xy[:, 1], xy[:, 0]] == turned.ravel()).all()


def test_a_missing_photo_is_placed_by_dense_depth(negative: Photos, tmp_path: Path) -> None:
    """With a single attempt no point of the model is one of the oracle's: only depth says where its matches are."""
    report = Noting()
    result = Sfm(attempts=1, **FEW)(negative.capture, tmp_path, report, negative.oracle, STEREO)
    assert not result.unregistered and list(result.details["placed_by_depth"]) == [negative.lost]
    placed = result.details["placed_by_depth"][negative.lost]
    assert placed["inliers"] >= 20 and set(placed["by"]) <= {v.name for v in negative.capture.views} - {negative.lost}
    assert any(negative.lost in w and "dense depth" in w for w in result.warnings)
    assert error(result, negative) < 0.02


@pytest.mark.parametrize("change", ["mirrored", pytest.param("elsewhere", marks=SLOW)])
def test_a_mirrored_or_unrelated_photo_is_not_placed(tmp_path: Path, change: str) -> None:
    photos = photographed(tmp_path / "photos", change)
    result = Sfm(attempts=1, **FEW)(photos.capture, tmp_path / "work", Silent(), photos.oracle, STEREO)
    assert set(result.unregistered) == {photos.lost} and "placed_by_depth" not in result.details


def test_where_sift_places_all_nothing_is_asked(tmp_path: Path) -> None:
    photos = photographed(tmp_path / "photos", ids=(0, 2, 3, 5, 7))
    some = photos.capture.select([k != LOST for k in range(len(IDS))])
    results = [
        Sfm(attempts=2, **FEW)(some, tmp_path / "a", Silent(), photos.oracle, STEREO),
        Sfm(attempts=2, **FEW)(some, tmp_path / "b", Silent()),
    ]
    assert photos.oracle.calls == 0
    assert torch.equal(*(r.capture.camera_centres() for r in results))


def test_what_small_copies_do_not_connect_is_not_matched_at_full_size(tmp_path: Path) -> None:
    photos = photographed(tmp_path / "photos", "elsewhere")
    report = Noting()
    result = Sfm(attempts=2, **FEW)(photos.capture, tmp_path / "work", report, photos.oracle, STEREO)
    added = result.details["attempts"][-1]
    assert added["name"] == "SIFT and an oracle" and "connects none" in added["skipped"] and not added["registered"]
    assert photos.oracle.calls > 3 and photos.oracle.sides == {SIDE}
    assert any("left out" in line and added["skipped"] in line for line in report.lines)


def test_without_a_matcher_or_with_sift_alone_nothing_changes(negative: Photos, tmp_path: Path) -> None:
    calls = negative.oracle.calls
    sift = Sfm(attempts=1, **FEW, matches="sift")(negative.capture, tmp_path / "a", Silent(), negative.oracle, STEREO)
    none = Sfm(attempts=1, **FEW)(negative.capture, tmp_path / "b", Silent())
    assert negative.oracle.calls == calls
    assert torch.equal(sift.capture.camera_centres(), none.capture.camera_centres())
    assert sift.unregistered == none.unregistered and sift.warnings == none.warnings


def test_its_attempt_comes_before_any_other_features_are_sought() -> None:
    attempts = attempt_sequence(6)
    names = [s.name for s in with_matcher(attempts, "M")]
    assert names == ["default", "loose thresholds", "SIFT and M", *(s.name for s in attempts[2:])]
    assert with_matcher(attempts[:1], "M") == attempts[:1]


def test_it_is_for_few_photos_unless_it_was_asked_for(negative: Photos) -> None:
    many = Capture(negative.capture.views * 5)
    assert Sfm().may_add_matches(negative.capture) and not Sfm().may_add_matches(many)
    assert Sfm(matches="disk").may_add_matches(many) and not Sfm(matches="sift").may_add_matches(negative.capture)


@pytest.mark.slow
def test_poses_for_fewer_photos_take_it_too(negative: Photos, tmp_path: Path) -> None:
    fewer = Fewer(Sfm(attempts=2, **FEW), 3, Known(matches="sift"))
    assert fewer.may_add_matches(negative.capture) and not fewer.needs_matcher
    result = fewer(negative.capture, tmp_path, Silent(), negative.oracle, STEREO)
    assert not result.unregistered and len(result.capture.train_views) == 3
