"""A video becomes the sharpest frames of equal windows, once."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from noting import Noting

from splat.core.errors import SplatError
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read
from splat.ingest.hdr_video import ToneMap, linear_light, transfer_of
from splat.ingest.video import sharpest_frames, windows_for

W, H = 96, 64


def frame(i: int, sharp: bool) -> np.ndarray:
    """A texture that moves with i; blurred unless sharp."""
    rng = np.random.default_rng(3)
    texture = cv2.resize(rng.integers(0, 255, (24, 60, 3), dtype=np.uint8), (240, 96), interpolation=cv2.INTER_CUBIC)
    picture = texture[10 : 10 + H, i : i + W].copy()
    return picture if sharp else cv2.GaussianBlur(picture, (0, 0), 3)


def write(path: Path, frames: list[np.ndarray], fps: float = 10.0, codec: str = "MJPG") -> Path:
    h, w = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (w, h))
    assert writer.isOpened()
    for f in frames:
        writer.write(f)
    writer.release()
    return path


SHARP = (3, 14, 22, 37)


def shown(bgr: np.ndarray) -> int:
    """The number of the frame of the clip that these pixels resemble most."""
    return int(np.argmin([np.abs(bgr.astype(int) - frame(i, i in SHARP)).mean() for i in range(40)]))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.avi", [frame(i, i in SHARP) for i in range(40)])


def test_the_sharpest_frame_of_each_window_is_kept(clip: Path) -> None:
    kept = list(sharpest_frames(clip, 40, 4))
    assert [number for number, _, _ in kept] == list(SHARP)
    for number, _, pixels in kept:
        assert shown(pixels) == number


@pytest.mark.parametrize("total", [35, 60])
def test_a_header_that_miscounts_the_frames_loses_no_window(clip: Path, total: int) -> None:
    numbers = [n for n, _, _ in sharpest_frames(clip, total, 4)]
    assert numbers == sorted(numbers) and len(numbers) >= 3 and set(numbers) & set(SHARP)


def test_default_windows_follow_the_time_between_frames() -> None:
    assert windows_for(13.9, 417, 120) == 46  # a third of a second of hand-held walking
    assert windows_for(2.0, 60, 120) == 30  # short clips are cut finer
    assert windows_for(1.0, 12, 120) == 12  # never more than there are
    assert windows_for(600.0, 18000, 120) == 120  # long ones coarser
    assert windows_for(600.0, 18000, 300) == 300


def test_a_video_is_a_capture_in_order_of_time(clip: Path, tmp_path: Path) -> None:
    capture = read(clip, ReadOptions(workdir=tmp_path / "run", max_frames=10))
    assert capture.kind == "video" and len(capture.views) == 10
    names = [v.name for v in capture.views]
    assert names == sorted(names)
    assert {v.camera_group for v in capture.views} == {"video"} and capture.views[0].focal_from == "guess"
    assert capture.views[0].photo_size == (W, H) and capture.views[0].camera.fx == pytest.approx(1.2 * W)
    assert [v.name for v in capture.test_views] == [names[0], names[8]]
    rgb = capture.views[3].load().rgb
    number = int(names[3].removeprefix("frame_").removesuffix(".jpg"))
    assert shown(rgb[..., ::-1]) == number


def test_frames_are_extracted_once_and_again_when_something_changed(clip: Path, tmp_path: Path) -> None:
    def extract(video: Path = clip, n: int = 8) -> dict[str, int]:
        read(video, ReadOptions(workdir=tmp_path / "run", max_frames=n))
        return {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "frames").iterdir()}

    first = extract()
    assert len(first) == 8 + 1
    assert extract() == first
    (tmp_path / "run" / "frames" / sorted(first)[2]).unlink()  # a frame was lost
    assert extract().keys() == first.keys()
    again = extract(n=5)  # another setting: no old frame stays
    assert len(again) == 5 + 1
    other = write(tmp_path / "other.avi", [frame(i, True) for i in range(20, 60)])
    replaced = extract(other, 5)
    assert len(replaced) == 5 + 1
    assert json.loads((tmp_path / "run" / "frames" / "frames.json").read_text())["video"] == "other.avi"
    (tmp_path / "run" / "frames" / "frames.json").write_text("{broken")
    assert extract(other, 5).keys() == replaced.keys()


@pytest.mark.parametrize(
    "damage",
    [
        {"frames": ["../../victim.jpg"], "max_frames": 0},
        {"frames": ["frame_000000.jpg", 3]},
        {"frames": []},
        {"width": 10**9},
        {"width": float(W)},
        {"height": None},
    ],
    ids=str,
)
def test_an_index_of_frames_that_was_damaged_is_made_again(clip: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    options = ReadOptions(workdir=tmp_path / "run", max_frames=4)
    first = read(clip, options)
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"a photo of mine")
    index = tmp_path / "run" / "frames" / "frames.json"
    good = json.loads(index.read_text())
    index.write_text(json.dumps(good | damage))
    again = read(clip, options)
    assert [v.name for v in again.views] == [v.name for v in first.views]
    assert again.views[0].camera == first.views[0].camera and json.loads(index.read_text()) == good
    assert victim.read_bytes() == b"a photo of mine"


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mp4v"), (".webm", "VP90"), (".mkv", "MJPG"), (".MOV", "mp4v")])
def test_other_containers_are_read(tmp_path: Path, suffix: str, codec: str) -> None:
    video = write(tmp_path / f"a{suffix}", [frame(i, True) for i in range(12)], codec=codec)
    assert len(read(video, ReadOptions(workdir=tmp_path, max_frames=6)).views) == 6


def test_a_folder_of_clips_is_one_capture_with_intrinsics_for_each(clip: Path, tmp_path: Path) -> None:
    options = ReadOptions(workdir=tmp_path / "run" / "deep", max_frames=16)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.avi").write_bytes(clip.read_bytes())
    (folder / "README.txt").write_text("a clip")
    assert read(folder, options).kind == "video"
    write(folder / "2024-05-01T12:30.avi", [255 - frame(i, i in SHARP) for i in range(40)])
    (folder / "broken.mp4").write_bytes(b"")
    note = Noting()
    capture = read(folder, options, note)
    assert {v.name.split("/")[0] for v in capture.views} == {"one.avi", "2024-05-01T12:30.avi"}
    assert len({v.camera_group for v in capture.views}) == 2 and capture.kind == "photos"
    assert len({v.name for v in capture.views}) == len(capture.views) and all(
        v.image_path.exists() for v in capture.views
    )
    assert any("broken.mp4 is left out" in w for w in note.warnings)


def test_ffmpeg_takes_no_name_for_a_protocol_and_waits_for_no_pipe(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "2024-05-01T12:30.avi").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("2024-05-01T12:30.avi"), ReadOptions(workdir=tmp_path / "w", max_frames=4)).views) >= 2
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SplatError, match="a pipe"):
        read(tmp_path / "pipe.mp4", ReadOptions(workdir=tmp_path / "w2"))


def test_hdr_is_recognized_in_the_header_and_mapped_so_that_paper_white_is_bright(tmp_path: Path) -> None:
    box = b"colrnclx" + struct.pack(">HHHB", 9, 18, 9, 0)
    for code, name in ((18, "HLG"), (16, "PQ"), (1, None)):
        file = tmp_path / "a.mov"
        file.write_bytes(bytes(5_000_000) + box.replace(struct.pack(">H", 18), struct.pack(">H", code)) + bytes(20))
        assert transfer_of(file) == name
    grey = ToneMap("HLG")(np.full((1, 1, 3), 191, np.uint8)) / 255  # the signal of paper white, BT.2408
    assert np.ptp(grey) < 0.01 and 0.85 < grey.mean() < 0.97
    assert (
        abs(linear_light(np.array([0.58]), "PQ") - 1) < 0.02 and abs(linear_light(np.array([0.75]), "HLG") - 1) < 0.01
    )
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    mapped = ToneMap("PQ")(ramp)
    assert (np.diff(mapped[0, :, 0].astype(int)) >= 0).all() and mapped.max() > 250 and mapped.min() == 0


def test_a_rotation_tag_turns_the_frames(tmp_path: Path) -> None:
    """Phones store portrait clips sideways; the track header's matrix says how to turn them."""
    gradient = np.tile(np.linspace(0, 250, W, dtype=np.uint8)[None, :, None], (H, 1, 3))
    video = write(tmp_path / "a.mp4", [gradient + np.uint8(i % 3) for i in range(6)], codec="mp4v")
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0  # version 0: the matrix starts 40 bytes into the box
    quarter = (0, 1 << 16, 0, -1 << 16, 0, 0, H << 16, 0, 1 << 30)
    data[at + 40 : at + 76] = struct.pack(">9i", *quarter)
    video.write_bytes(data)
    capture = read(video, ReadOptions(workdir=tmp_path, max_frames=3))
    assert capture.views[0].photo_size == (H, W)
    rgb = capture.views[0].load().rgb
    assert rgb.shape == (W, H, 3) and rgb[-5].mean() - rgb[5].mean() > 150  # left was dark: now the top is


def test_few_frames_are_in_memory(tmp_path: Path) -> None:
    h, w = 480, 640
    noise = np.random.default_rng(0).integers(0, 255, (h, w, 3), dtype=np.uint8)
    video = write(tmp_path / "big.avi", [np.roll(noise, i, 1) for i in range(40)])
    tracemalloc.start()
    count = sum(1 for _ in sharpest_frames(video, 40, 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20 and peak < 8 * h * w * 3


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(SplatError, match=r"a\.mp4 cannot be opened as a video"):
        read(tmp_path / "a.mp4", ReadOptions(workdir=tmp_path))
    with pytest.raises(SplatError, match="set workdir"):
        read(tmp_path / "a.mp4")


def test_a_clip_cut_short_is_used_as_far_as_it_goes(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    report = Silent()
    capture = read(clip, ReadOptions(workdir=tmp_path / "run", max_frames=8), report)
    assert 2 <= len(capture.views) <= 8
    assert len(capture.views) == 8 or any("ends early" in w for w in report.warnings)
