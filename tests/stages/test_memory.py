"""Memory is foretold for every stage, threads and sizes are fitted to what there is, and too little is one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from noting import Noting
from street import street, write_photos

from splat.commands.reconstruct import Reconstruct
from splat.core import machine
from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.slots import RasterSettings, Silent
from splat.methods import Points
from splat.poses import features
from splat.poses.features import FeatureSettings
from splat.raster import choose
from splat.run.folder import RunFolder
from splat.stages import forecast
from splat.stages.context import Context
from splat.stages.forecast import Limits
from splat.stages.memory import BYTES_BASE, Memory, pose_bytes
from splat.stages.memory import expected_memory as memory_of
from splat.stages.work import Sizes

LIMITS = Limits("fast", 100, 480, threads=2)


def capture(n: int, width: int, height: int, suffix: str = "jpg") -> Capture:
    camera = Camera(float(width), float(width), width / 2, height / 2, width, height)
    return Capture(tuple(View(f"{i}", Path(f"{i}.{suffix}"), (width, height), camera) for i in range(n)))


def posed(c: Capture, points: bool) -> Capture:
    cloud = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3)) if points else None
    return replace(c, views=tuple(replace(v, world_from_cam=Rigid.identity()) for v in c.views), points=cloud)


def expected_memory(photos: Capture, cap: int, needs_sfm: bool, threads: int, strict: tuple[View, ...] = ()) -> Memory:
    return memory_of(Sizes(photos, photos, 100, cap, needs_sfm, held_out=strict), threads)


def context(folder: Path) -> Context:
    device = torch.device("cpu")
    return Context(RunFolder(folder / "run"), Noting(), device, choose(device), RasterSettings(), threads=2)


def test_large_photos_take_memory_for_their_features_however_small_they_are_trained() -> None:
    small = expected_memory(capture(16, 300, 200), 20_000, needs_sfm=True, threads=2)
    photos = capture(16, 3008, 2000).resized(300)
    large = expected_memory(photos, 20_000, needs_sfm=True, threads=2)
    assert small.peak < 0.7e9 and large.largest == "poses"
    assert large.peak == pytest.approx(1.375 * 2**30, rel=0.1), "measured on 16 photos of this size"
    assert expected_memory(photos, 20_000, needs_sfm=True, threads=8).peak > 2.5 * large.peak


def test_no_features_are_counted_where_the_dataset_has_poses_and_points() -> None:
    photos = capture(16, 3008, 2000).resized(300)
    with_points = expected_memory(posed(photos, True), 20_000, needs_sfm=False, threads=2)
    without = expected_memory(posed(photos, False), 20_000, needs_sfm=False, threads=2)
    assert with_points.stages["poses"] == BYTES_BASE < without.stages["poses"]


def test_photos_that_are_decoded_whole_count_while_they_are_checked() -> None:
    png = expected_memory(capture(4, 6000, 4000, "png"), 20_000, needs_sfm=True, threads=4)
    jpeg = expected_memory(capture(4, 6000, 4000), 20_000, needs_sfm=True, threads=4)
    assert png.stages["ingest"] > jpeg.stages["ingest"] + 0.4e9


def test_photos_that_are_placed_in_the_finished_scene_take_memory_while_it_is_evaluated() -> None:
    photos, held_out = capture(12, 1920, 1080).resized(480), capture(4, 1920, 1080).resized(480).views
    posed_protocol = expected_memory(photos, 31_000, needs_sfm=True, threads=1)
    strict = expected_memory(photos, 31_000, needs_sfm=True, threads=1, strict=held_out)
    assert strict.largest == "evaluate" and strict.stages["evaluate"] > posed_protocol.stages["evaluate"] + 0.3e9
    known = tuple(replace(v, world_from_cam=Rigid.identity()) for v in held_out)
    given = expected_memory(photos, 31_000, needs_sfm=True, threads=1, strict=known)
    assert posed_protocol.stages["evaluate"] < given.stages["evaluate"] < strict.stages["evaluate"]


def test_fewer_threads_are_foretold_where_all_of_them_would_not_fit() -> None:
    photos = capture(16, 3000, 2000)
    one, four = (pose_bytes(photos, True, n) for n in (1, 4))
    assert pose_bytes(photos, True, 4, spare=four) == four
    assert one <= pose_bytes(photos, True, 4, spare=0.6 * four) <= 0.6 * four
    assert pose_bytes(photos, True, 4, spare=1.0) == one, "one thread works in any case"


def test_fewer_threads_find_features_where_memory_is_short_and_find_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = capture(3, 480, 360).views
    views = tuple(replace(v, image_path=tmp_path / f"{i}.png") for i, v in enumerate(views))
    for v, s in zip(views, street()):
        cv2.imwrite(str(v.image_path), s.bgr)
    used = []
    inner = features._extract_chunk

    def watched(views: list[View], settings: FeatureSettings, folder: Path, threads: int):
        used.append(threads)
        return inner(views, settings, folder, threads)

    monkeypatch.setattr(features, "_extract_chunk", watched)
    settings = FeatureSettings(max_size=480, max_count=500)
    each = features.bytes_per_thread((480, 360), (480, 360))
    found = []
    for name, spare in (("much", 64e9), ("little", 1.5 * each), ("none", 0.0)):
        monkeypatch.setattr(machine, "spare_bytes", lambda spare=spare: spare)
        found.append(features.extract(views, settings, tmp_path / name, Silent(), 3))
    assert used == [3, 1, 1]
    for more, less in zip(found[0], found[1]):
        assert np.array_equal(more.xy, less.xy) and np.array_equal(more.descriptors, less.descriptors)


def test_features_of_smaller_photos_are_found_where_one_thread_would_not_fit_and_a_run_keeps_to_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, photos = context(tmp_path), capture(12, 4000, 3000)

    def side(free: float, asked: int | None = None) -> int | None:
        monkeypatch.setattr(forecast, "available_memory_gb", lambda: free)
        return forecast.fit_features(c, photos, LIMITS, asked)

    little = side(0.6)
    assert little is not None and 480 <= little < 1600
    assert BYTES_BASE + pose_bytes(photos, True, 1, little) <= 0.85 * 0.6e9 + BYTES_BASE
    assert "features are found in photos of" in c.report.warnings[-1]  # type: ignore[attr-defined]
    assert side(64.0) == little, "as the run began"
    assert side(0.6, asked=1600) == 1600, "what was asked for is done"
    (c.run.root / "memory.json").write_text('{"features": {"asked": 1, "fit": "x"}, "training": []}')
    assert side(64.0) is None


@pytest.mark.parametrize("damage", ["[]", "{", '{"training": {"asked": null}}', '{"training": 5}', "\0"])
def test_a_damaged_note_of_what_fitted_is_made_again(tmp_path: Path, damage: str) -> None:
    c, photos = context(tmp_path), capture(12, 800, 600)
    (c.run.root / "memory.json").write_text(damage)
    _, cap = forecast.fit_to_memory(c, photos, replace(LIMITS, cap=1000), Points())
    assert cap == 1000 and json.loads((c.run.root / "memory.json").read_text())["training"]["fit"] == [480, 1000]


@pytest.mark.parametrize("memory", [0.05, 0.3, None])
def test_too_little_memory_for_any_run_is_said_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: float | None
) -> None:
    monkeypatch.setattr(forecast, "available_memory_gb", lambda: 0.02 if memory is None else 64.0)
    write_photos(tmp_path / "photos")
    run = Reconstruct(tmp_path / "photos", tmp_path / "run", memory=memory, renders=False)
    with pytest.raises(SplatError, match=r"8 photos take at least 0\.\d+ GB of memory, most of it in") as e:
        run(Noting())
    assert ("--memory gives" in str(e.value)) == (memory is not None)
    assert not (tmp_path / "run" / "poses").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        cv2.error("OpenCV: (-4:Insufficient memory) Failed to allocate 12 bytes"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
)
def test_running_out_of_memory_names_the_stage_and_keeps_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write_photos(tmp_path / "photos")

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(features, "extract", full)
    with pytest.raises(SplatError, match="out of memory in poses; what was done is kept"):
        Reconstruct(tmp_path / "photos", tmp_path / "run")(Noting())
    assert (tmp_path / "run" / "ingest").is_dir()


def test_the_log_has_what_was_foretold_and_what_each_stage_took(tmp_path: Path) -> None:
    from scripts.memory_forecast import read_log, table

    lines = [
        {"kind": "memory", "stage": "ingest", "peak_mb": 200.0},
        {"kind": "forecast", "mb": {"ingest": 210.0, "poses": 900.0}},
        {"kind": "memory", "stage": "poses", "peak_mb": 1000.0},
        {"step": 5},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert read_log(tmp_path / "log.jsonl")[1] == {"ingest": 200.0, "poses": 1000.0}
    assert "900 / 1000 | 0.90" in table([tmp_path])
