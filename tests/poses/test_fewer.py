"""Few training photos of a capture whose poses are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.slots import PoseResult, Reporter, Silent
from splat.poses.fewer import Fewer, evenly_spread
from splat.poses.known import Known

CAMERA = Camera(220.0, 220.0, 120.0, 90.0, 240, 180)


def test_the_split_of_the_llff_benchmarks_comes_out() -> None:
    """Of fern's 20 photos 0, 8 and 16 are held out; published are 1, 10, 19 for three views, first and last for two."""
    train = [i for i in range(20) if i % 8]
    assert [train[i] for i in evenly_spread(17, 3)] == [1, 10, 19]
    assert [train[i] for i in evenly_spread(17, 2)] == [1, 19]
    orchids = [i for i in range(25) if i % 8]
    assert [orchids[i] for i in evenly_spread(len(orchids), 3)] == [1, 12, 23], "halves go to the even index"


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_all_photos_are_kept_where_no_fewer_are_asked_for(count: int) -> None:
    assert evenly_spread(count, count) == evenly_spread(count, count + 4) == list(range(count))


class Given:
    """Poses as they are."""

    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult:
        return PoseResult(capture, {"x.png": "it is blurred"}, ("take care",), len(capture.views) + 1)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Capture, PoseResult]:
    folder = tmp_path_factory.mktemp("few")
    capture = planes.capture_of(planes.PlaneScene.make(20.0), CAMERA, planes.walk(9), folder)
    views = [replace(v, role="test" if i % 8 == 0 else "train") for i, v in enumerate(capture.views)]
    capture = capture.with_views(tuple(views))
    known = Known(max_features_size=800, max_features=1500)
    return capture, Fewer(Given(), 3, known)(capture, folder, Silent())


def test_held_out_photos_stay_and_training_photos_become_few(few: tuple[Capture, PoseResult]) -> None:
    _, result = few
    assert [v.name for v in result.capture.test_views] == ["0.png", "8.png"]
    assert [v.name for v in result.capture.train_views] == ["1.png", "4.png", "7.png"]
    assert result.total == 6 and result.unregistered == {"x.png": "it is blurred"} and result.warnings == ("take care",)


def test_points_come_from_the_photos_that_are_left_alone(few: tuple[Capture, PoseResult]) -> None:
    capture, result = few
    points, tracks = result.capture.points, result.capture.tracks
    assert points is not None and tracks is not None and len(points) >= 20
    assert capture.points is not None and len(points) != len(capture.points)
    trained = {i for i, v in enumerate(result.capture.views) if v.role == "train"}
    assert set(tracks.view_ids.tolist()) <= trained
