"""Enhanced renders: what is held in memory, what is written, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from flights import CAMERA, WALL, disc, flight, with_floater
from planes import capture_of, walk
from walls import CAMERA as SMALL
from walls import wall

from splat.core.geometry import Rigid
from splat.core.metrics import psnr
from splat.core.slots import EnhancedView, FrameEnhancer, PathCamera, RenderedView
from splat.export.enhance import Change, FrameFilter, ReferencePhotos
from splat.export.renders import write_renders
from splat.raster.reference import Reference

FRAMES = flight(12)


class Counter:
    """Frames that were asked for and not given back yet, at most."""

    def __init__(self, frames: list[RenderedView]) -> None:
        self.frames, self.asked, self.most = frames, 0, 0

    def __iter__(self) -> Iterator[RenderedView]:
        for f in self.frames:
            self.asked += 1
            yield f


@pytest.mark.parametrize("reach", [0, 1, 4, 20])
def test_every_frame_comes_back_in_order_and_only_a_window_is_held(reach: int) -> None:
    counter = Counter(FRAMES)
    ahead, colours = [], []
    for given, e in enumerate(FrameFilter(reach=reach)(counter), 1):
        ahead.append(counter.asked - given)
        colours.append(e.rgb.mean())
        assert all(0 < abs(k) <= reach and 0 <= given - 1 + k < len(FRAMES) for k in e.frames)
    assert len(colours) == len(FRAMES) and max(ahead) <= reach
    assert np.abs(np.array(colours) - np.array([f.rgb.mean() for f in FRAMES])).max() < 1 / 255


def test_a_flight_with_a_floater_in_one_frame_is_that_without_it() -> None:
    where = disc(80, 60, 7)
    spoilt = [*FRAMES[:5], with_floater(FRAMES[5], where), *FRAMES[6:]]
    for enhanced, truth in zip(FrameFilter(reach=3)(spoilt), FRAMES, strict=True):
        assert 255 * float((enhanced.rgb - truth.rgb).abs().max()) < 3


def test_pictures_that_are_not_neighbours_in_time_are_not_mixed() -> None:
    spoilt = [FRAMES[0], with_floater(FRAMES[1], disc(80, 60, 7)), FRAMES[2]]
    for enhanced, plain in zip(FrameFilter(reach=0)(spoilt), spoilt, strict=True):
        assert torch.equal(enhanced.rgb, plain.rgb) and enhanced.frames == ()


def references(tmp_path: Path, **changes: Any) -> ReferencePhotos:
    capture = capture_of(WALL, CAMERA, walk(6, 0.2), tmp_path)

    def draw(camera: Any, pose: Rigid) -> RenderedView:
        depth = WALL.depth(camera, pose).float()
        return RenderedView(camera, pose, torch.zeros(*depth.shape, 3), torch.ones_like(depth), depth)

    return ReferencePhotos(capture.views, draw, **changes)


def test_the_nearest_photos_are_taken_and_few_are_held(tmp_path: Path) -> None:
    photos = references(tmp_path, held=3)
    for pose in walk(12, 0.1):
        view = replace(FRAMES[0], world_from_cam=pose)
        found, following = photos.near(view, 2)
        away = sorted(float((v.pose.translation - pose.translation).norm()) for v in photos.views)
        own = [float((p.photo.world_from_cam.translation - pose.translation).norm()) for p in found]
        assert own == pytest.approx(away[:2]) and following == pytest.approx(away[2])
        assert len(photos._held) <= 3


def test_a_photo_is_no_reference_for_the_picture_from_its_own_place(tmp_path: Path) -> None:
    photos = references(tmp_path, skip_own=True)
    view = replace(FRAMES[0], world_from_cam=photos.views[2].pose)
    assert photos.views[2].name not in [p.name for p in photos.near(view, 6)[0]]
    photos.skip_own = False
    assert photos.near(view, 1)[0][0].name == photos.views[2].name


def test_a_blurred_flight_gains_the_detail_of_the_photos(tmp_path: Path) -> None:
    truth = flight(6, step=0.15)
    soft = [replace(f, rgb=torch.from_numpy(cv2.GaussianBlur(f.rgb.numpy(), (0, 0), 2.0))) for f in truth]
    enhanced = list(FrameFilter(references(tmp_path))(soft))
    assert all(e.photos for e in enhanced)
    for e, s, t in zip(enhanced, soft, truth, strict=True):
        assert psnr(e.rgb, t.rgb) > psnr(s.rgb, t.rgb) + 3


class Brighter:
    """A `slots.FrameEnhancer` whose changes are known; it holds one frame back."""

    def __call__(self, frames: Iterable[RenderedView]) -> Iterator[EnhancedView]:
        held: RenderedView | None = None
        for view in frames:
            if held is not None:
                yield EnhancedView(held.rgb + 10 / 255 * (held.alpha > 0.5)[..., None], ("a.jpg",), (1,))
            held = view
        assert held is not None
        yield EnhancedView(held.rgb, (), ())

    def about(self) -> dict[str, Any]:
        return {"method": "brighter", "weights": [{"sha256": "0" * 64, "licence": "MIT"}]}


def test_enhanced_files_are_named_so_and_what_was_drawn_stays(tmp_path: Path) -> None:
    assert isinstance(Brighter(), FrameEnhancer) and isinstance(FrameFilter(), FrameEnhancer)
    path = [PathCamera(SMALL, Rigid.identity())] * 3
    plain = write_renders(tmp_path / "plain", wall(3.0), path, Reference())
    video = tmp_path / "orbit.mp4"
    files = write_renders(tmp_path / "orbit", wall(3.0), path, Reference(), video=video, enhance=Brighter())
    assert files.video == tmp_path / "orbit_enhanced.mp4" and files.video.is_file() and not video.exists()
    for one, other in ((plain.rgb, files.rgb), (plain.depth, files.depth), (plain.holes, files.holes)):
        assert [p.read_bytes() for p in one] == [p.read_bytes() for p in other], "what was drawn is not touched"
    names = [p.relative_to(tmp_path).as_posix() for p in files.enhanced]
    assert names == [
        *(f"orbit/enhanced/000{i}_enhanced.png" for i in range(3)),
        "orbit/enhanced/enhanced.json",
        "orbit_enhanced.json",
    ]
    about = json.loads(files.enhanced[-1].read_text())
    assert about == json.loads(files.enhanced[-2].read_text())
    assert about["method"] == "brighter" and about["weights"][0]["licence"] == "MIT"
    first, last = about["frames"]["0000"], about["frames"]["0002"]
    before, after = (cv2.imread(str(p)).astype(int) for p in (files.rgb[0], files.enhanced[0]))
    assert first["changed_percent"] == pytest.approx(100 * (before != after).any(-1).mean(), abs=0.01)
    assert first["mean_change"] == pytest.approx(np.abs(before - after).mean(), abs=0.01) and first["mean_change"] > 3
    assert first["photos"] == ["a.jpg"] and first["frames"] == ["0001"]
    assert last == {"changed_percent": 0.0, "mean_change": 0.0, "photos": [], "frames": []}


def test_a_frame_is_enhanced_first_and_filled_then(tmp_path: Path) -> None:
    path = [PathCamera(SMALL, Rigid.identity())] * 2
    video = tmp_path / "orbit.mp4"
    files = write_renders(
        tmp_path, wall(3.0), path, Reference(), depth=False, video=video, fill=True, enhance=Brighter()
    )
    assert files.video == tmp_path / "orbit_enhanced_filled.mp4"
    assert [p.name for p in files.filled] == ["0000_enhanced_filled.png", "0001_enhanced_filled.png"]
    enhanced, filled = (cv2.imread(str(p)).astype(int) for p in (files.enhanced[0], files.filled[0]))
    assert np.array_equal(enhanced[5:25, 3:10], filled[5:25, 3:10]) and (filled[:, 30:] > 0).any()
    assert not enhanced[:, 30:].any()


def test_a_change_is_counted_by_pixels_and_by_size() -> None:
    plain = np.zeros((10, 10, 3), np.uint8)
    enhanced = plain.copy()
    enhanced[0, 0] = (3, 0, 0)
    assert Change.of(plain, enhanced, (), ()) == Change(1.0, 0.01, (), ())
