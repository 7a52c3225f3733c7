"""Pictures, depth and video of a camera path."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from walls import CAMERA, wall

from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.slots import PathCamera
from splat.export.renders import depth_levels, depth_preview, flat_name, flat_names, render_frame, write_renders
from splat.export.video import write_video
from splat.raster.reference import Reference


def test_depth_is_that_of_the_surface_and_zero_where_there_is_none():
    frame = render_frame(wall(3.0), CAMERA, Rigid.identity(), Reference())
    assert abs(frame.depth[5:25, 3:15] - 3.0).max() < 1e-3
    assert (frame.depth[:, 25:] == 0).all() and (frame.alpha[:, 25:] < 0.01).all()
    expected = frame.alpha[15, 8] * np.array([0.9, 0.4, 0.1]) * 255
    assert abs(frame.rgb[15, 8] - expected).max() <= 1 and frame.alpha[15, 8] > 0.95


def test_written_depth_and_its_scale_give_the_depth_back(tmp_path: Path):
    """In the units asked for: a world unit is 4 original ones."""
    path = [PathCamera(CAMERA, Rigid.identity()), PathCamera(CAMERA, Rigid.identity())]
    files = write_renders(tmp_path, wall(3.0), path, Reference(), names=["x/a.jpg", "b.jpg"], units_per_world=4.0)
    assert [p.name for p in files.rgb] == ["x_a.png", "b.png"]
    about = json.loads((tmp_path / "depth" / "depth.json").read_text())
    levels = cv2.imread(str(files.depth[0]), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16
    depth = levels[5:25, 3:15] * about["units_per_level"]
    assert abs(depth - 12.0).max() < 12.0 * 1e-3
    assert (levels[:, 25:] == about["nothing"]).all()
    preview = cv2.imread(str(files.previews[0]))
    assert preview.shape == (30, 40, 3) and (preview[:, 25:] == 0).all() and (preview[10, 8] > 0).any()


def test_depth_levels_keep_nothing_apart_from_the_very_near_and_the_very_far():
    depth = np.array([[0.0, 1e-9, 5.0, 1e9]], np.float32)
    assert depth_levels(depth, 0.001).tolist() == [[0, 1, 5000, 65535]]


def test_the_preview_is_warm_where_near_and_cold_where_far():
    colours = depth_preview(np.array([[0, 1000, 5000]], np.uint16), 1000, 5000).astype(int)
    assert colours[0, 0].tolist() == [0, 0, 0]
    assert colours[0, 1, 0] > colours[0, 1, 2] and colours[0, 2, 2] > colours[0, 2, 0]


def test_names_of_views_become_one_file_name():
    assert flat_name("left/IMG_1.JPG") == "left_IMG_1" and flat_name("a.b.png") == "a.b"
    assert flat_names(["a/b.jpg", "a_b.jpg", "a_b_2.jpg", "a/b.png"]) == ["a_b", "a_b_3", "a_b_2", "a_b_4"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../../a.jpg", "C:\\a\\b.jpg", "..", "/", "", "a\0b/../..", "x/" * 300]
)
def test_a_render_stays_in_its_folder_whatever_its_view_is_called(tmp_path: Path, name: str):
    path = tmp_path / f"{flat_name(name)}.preview.png"
    assert path.parent.resolve() == tmp_path.resolve()
    path.write_bytes(b"")


def frames(n: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """A smooth picture that moves; the corner's brightness counts the frames."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = []
    for i in range(n):
        picture = np.stack([128 + 80 * np.sin((x + 3 * i) / 12), 128 + 80 * np.cos(y / 9), 60 + x], 2)
        picture[:16, :16] = 20 + 20 * i
        out.append(np.clip(picture, 0, 255).astype(np.uint8))
    return out


def read_video(path: Path) -> list[np.ndarray]:
    capture, out = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        out.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return out


@pytest.mark.parametrize(("name", "codecs"), [("a.mp4", {b"VP90", b"vp09"}), ("a.webm", {b"VP80", b"vp08"})])
def test_a_video_read_back_has_the_frames_in_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, codecs: set[bytes]
):
    made = frames(10)
    assert write_video(tmp_path / name, iter(made), fps=25.0) == 10
    assert capfd.readouterr().err == ""
    back = read_video(tmp_path / name)
    assert len(back) == 10
    for a, b in zip(made, back):
        assert np.sqrt(((a.astype(float) - b) ** 2).mean()) < 6
        assert abs(a[4:12, 4:12].mean() - b[4:12, 4:12].mean()) < 5
    capture = cv2.VideoCapture(str(tmp_path / name))
    assert capture.get(cv2.CAP_PROP_FPS) == 25
    assert int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in codecs


def test_an_odd_size_loses_one_row_and_column(tmp_path: Path):
    write_video(tmp_path / "a.mp4", frames(3, 51, 33))
    assert read_video(tmp_path / "a.mp4")[0].shape == (32, 50, 3)


def test_a_video_appears_whole_or_not_at_all(tmp_path: Path):
    def broken():
        yield from frames(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", broken())
    with pytest.raises(SplatError, match=r"b\.mp4 was not written: the camera path has no frames"):
        write_video(tmp_path / "b.mp4", [])
    with pytest.raises(SplatError, match=r"frame 1 is 48x32, not 96x64"):
        write_video(tmp_path / "c.mp4", [frames(1)[0], frames(1, 48, 32)[0]])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(tmp_path: Path):
    """OpenCV says nothing when a write fails; a limit on the size of files stands for the full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(SplatError, match=r"a\.mp4 was not written whole: is the disk full"):
            write_video(tmp_path / "a.mp4", frames(20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_renders_and_video_come_from_one_pass(tmp_path: Path):
    path = [PathCamera(CAMERA, Rigid.identity())] * 3
    video = tmp_path / "orbit.mp4"
    files = write_renders(
        tmp_path / "orbit", wall(2.0), path, Reference(), video=video, depth=False, images=False, holes=False
    )
    assert files.video == video and files.rgb == () and not (tmp_path / "orbit").exists()
    assert len(read_video(video)) == 3


def test_every_render_has_a_mask_of_its_holes_and_their_share(tmp_path: Path):
    path = [PathCamera(CAMERA, Rigid.identity())] * 2
    files = write_renders(tmp_path, wall(3.0), path, Reference(), names=["a.jpg", "b.jpg"], depth=False)
    about = json.loads((tmp_path / "holes" / "holes.json").read_text())
    mask = cv2.imread(str(tmp_path / "holes" / "a.png"), cv2.IMREAD_UNCHANGED)
    alpha = render_frame(wall(3.0), CAMERA, Rigid.identity(), Reference()).alpha
    assert np.array_equal(mask > 0, alpha < about["alpha_below"])
    assert about["percent"]["a"] == pytest.approx(100 * (mask > 0).mean(), abs=0.01) and about["mean_percent"] > 40
    assert set(files.holes) == set((tmp_path / "holes").iterdir()) and not files.filled


def test_filled_pictures_and_videos_are_named_so_and_stand_beside_what_was_drawn(tmp_path: Path):
    path = [PathCamera(CAMERA, Rigid.identity())] * 2
    plain = write_renders(tmp_path / "plain", wall(3.0), path, Reference(), depth=False)
    video = tmp_path / "orbit.mp4"
    files = write_renders(tmp_path / "orbit", wall(3.0), path, Reference(), depth=False, video=video, fill=True)
    assert files.video == tmp_path / "orbit_filled.mp4" and files.video.is_file() and not video.exists()
    assert [p.relative_to(tmp_path / "orbit").as_posix() for p in files.filled] == [
        "filled/0000_filled.png",
        "filled/0001_filled.png",
    ]
    assert [p.read_bytes() for p in files.rgb] == [p.read_bytes() for p in plain.rgb], "what was drawn is not touched"
    assert (cv2.imread(str(files.filled[0]))[:, 30:] > 0).any() and not cv2.imread(str(files.rgb[0]))[:, 30:].any()
