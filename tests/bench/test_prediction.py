"""What a cell will take: from the photos' sizes, the machine's speed, and what finished cells took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from street import write_photos

from splat.bench import Cell, Record
from splat.bench.prediction import Prediction, corrected, error_table, errors, share_within
from splat.commands import prediction
from splat.commands.bench import Bench
from splat.commands.prediction import Predictor, settings_of
from splat.core.errors import SplatError
from splat.stages import calibration
from splat.stages.calibration import Calibration
from splat.stages.timing import REFERENCE_SPEED


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "street"
    write_photos(folder)
    return folder


def done(cell: Cell, poses: float, train: float, memory: float, predicted: Prediction | None) -> Record:
    plain = None if predicted is None else predicted.plain()
    seconds = {"poses": poses, "train": train, "total": poses + train}
    return Record(cell, {"seconds": seconds}, peak_memory_mb=memory, predicted=plain)


MODEL = Prediction({"poses": 20.0, "train": 40.0}, 100.0, 50.0)


def test_more_work_and_a_slower_machine_take_longer(photos: Path) -> None:
    def minutes(speed: object = REFERENCE_SPEED, cores: int = 2, **overrides: object) -> float:
        found = Predictor(cores, speed=speed)(Cell("street", "points", overrides), photos)  # type: ignore[arg-type]
        assert found is not None
        return found.minutes

    fast = minutes(preset="fast")
    assert minutes(preset="fast", iterations="6000") > 1.3 * fast
    assert minutes(preset="quality") > 4 * fast
    assert minutes(preset="fast", renders=False) < fast
    assert minutes(preset="fast", cores=1) > 1.7 * fast
    slow = Calibration(training=2.0, features=2.0).speed
    assert 1.7 * fast < minutes(slow, preset="fast") <= 2.0 * fast


def test_memory_grows_with_gaussians(photos: Path) -> None:
    small, large = (Predictor(2)(Cell("s", "points", {"cap": n}), photos) for n in ("20000", "900000"))
    assert small is not None and large is not None
    assert small.poses_mb == large.poses_mb and large.later_mb > small.later_mb + 1000


def test_what_cannot_be_read_is_not_predicted_and_mistakes_are_named(tmp_path: Path) -> None:
    assert Predictor(2)(Cell("none", "points"), tmp_path) is None
    with pytest.raises(SplatError, match="cap"):
        settings_of(Cell("s", "points", {"cap": "many"}), tmp_path)


def test_finished_cells_correct_the_minutes_of_those_like_them() -> None:
    """Poses by cells of their scene, training by cells of their method."""
    history = [
        done(Cell("a", "points"), 40.0, 80.0, 50.0, MODEL),
        done(Cell("b", "edgs"), 20.0, 120.0, 50.0, MODEL),
    ]
    assert corrected(Cell("a", "edgs"), MODEL, history).factors == {"poses": 2.0, "train": 3.0}
    again = corrected(Cell("a", "points", seed=1), MODEL, history)
    assert again.minutes == pytest.approx(2.0)
    more = [*history, done(Cell("a", "points", seed=1), 40.0, 80.0, 50.0, again)]
    last = corrected(Cell("a", "points", seed=2), MODEL, more)
    assert last.minutes == pytest.approx(2.0), "by the model's seconds, not by corrected ones"
    assert corrected(Cell("a", "points"), MODEL, [done(Cell("a", "points"), 1.0, 1.0, 5.0, None)]) == MODEL


def test_right_predictions_are_counted() -> None:
    cells = [Cell(s, "points") for s in "abcd"]
    times, megabytes = (60.0, 77.0, 79.0, 42.1), (100.0, 129.0, 131.0, 10.0)
    records = [done(c, 10.0, s - 10, mb, MODEL) for c, s, mb in zip(cells, times, megabytes)]
    unknown = done(Cell("x", "points"), 1.0, 1.0, 1.0, None)
    rows = errors([*records, unknown, Record(Cell("y", "points"), None)])
    assert share_within(rows, "minutes") == (3, 4) and share_within(rows, "memory_mb") == (2, 4)
    assert "time, as each cell began: 3 of 4 predictions within 30%" in error_table(rows)
    assert Record.from_plain(json.loads(json.dumps(records[0].plain()))).predicted == MODEL.plain()


def test_the_plan_says_minutes_and_memory_of_each_cell(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench("captures", photos.parent / "out", data=photos.parent, methods="points,edgs", dry_run=True)
    assert bench() == 0
    said = capsys.readouterr().err
    assert said.count(" min and ") == 2 and "street points seed 0: about" in said and "predicted" in said


def test_a_calibration_is_kept_for_this_machine_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.build, "cache_dir", lambda: tmp_path)
    assert calibration.calibrated() is None and prediction.known_speed() == REFERENCE_SPEED
    measured = iter(2 * s for s in calibration.REFERENCE_STEPS)
    monkeypatch.setattr(calibration, "seconds_of_a_step", lambda *_: next(measured))
    monkeypatch.setattr(calibration, "_seconds_of_features", lambda: 3 * calibration.REFERENCE_FEATURES)
    found = calibration.calibrate()
    assert (found.training, found.features) == pytest.approx((2.0, 3.0))
    assert calibration.calibrated() == found
    assert prediction.known_speed().pair == pytest.approx(3 * REFERENCE_SPEED.pair)
    monkeypatch.setattr(calibration.build, "cpu_model", lambda: "another")
    assert calibration.calibrated() is None
    (tmp_path / "calibration.json").write_text("[1")
    assert calibration.calibrated() is None


def test_a_step_that_is_measured_is_one_of_the_product() -> None:
    with calibration.one_thread():
        assert 0 < calibration.seconds_of_a_step(500, 48, 32, 0.05) < 1
