"""Values that datasets get wrong: each costs its own photos and is named; what all share is one sentence."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from layouts import SCALE, make_scene, write_idr, write_llff
from PIL import Image
from street import FOCAL, HEIGHT, WIDTH, street, transforms, write_colmap, write_photos, write_transforms

from splat.core.camera import Lens
from splat.core.errors import SplatError
from splat.core.lens import lens_problem
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read
from splat.ingest.cameras import same_shape
from splat.ingest.idr import decomposed
from splat.run.capture_io import load_capture, save_capture

NAMES = [f"{i}.jpg" for i in range(8)]
HUGE = int("9" * 400)


def changed(root: Path, frame: int | None = None, **values: Any) -> tuple[list[str], list[str]]:
    """Names of the views and warnings of the street with values changed, in one frame or for all."""
    path = write_transforms(root)
    data = json.loads(path.read_text())
    (data if frame is None else data["frames"][frame]).update(values)
    path.write_text(json.dumps(data))
    report = Silent()
    return [v.name for v in read(root, ReadOptions(), report).views], report.warnings


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"transform_matrix": None}, 'no "transform_matrix"'),
    ({"transform_matrix": "identity"}, "not a matrix of numbers"),
    ({"transform_matrix": {"a": 1}}, "not a matrix of numbers"),
    ({"transform_matrix": [["1", "0", "0", "0"]] * 4}, "not a matrix of numbers"),
    ({"transform_matrix": [[HUGE, 0, 0, 0]] * 4}, "not a matrix of numbers"),
    ({"transform_matrix": [[1, 0, 0, 0], [0, 1]]}, "not a matrix of numbers"),
    ({"transform_matrix": []}, "not 4x4"),
    ({"transform_matrix": np.zeros((4, 4)).tolist()}, "not a rotation"),
    ({"transform_matrix": np.full((4, 4), np.inf).tolist()}, "not finite"),
    ({"transform_matrix": np.full((4, 4), np.nan).tolist()}, "not finite"),
    ({"transform_matrix": np.diag([1.0, 1, -1, 1]).tolist()}, "mirrors the scene"),
    ({"transform_matrix": np.diag([1.0, 2, 1, 1]).tolist()}, "not a rotation"),
    ({"transform_matrix": [[1, 0, 0, 1e300], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, "units away"),
    ({"fl_x": "abc"}, "\"fl_x\" is 'abc', not a number"),
    ({"fl_x": True}, '"fl_x" is True'),
    ({"fl_x": [420]}, '"fl_x" is [420]'),
    ({"fl_x": HUGE}, '"fl_x" is 999'),
    ({"fl_x": float("nan")}, '"fl_x" is nan'),
    ({"fl_x": -420.0}, "the focal length is -420 px"),
    ({"fl_x": 4e-310, "fl_y": 4e-310}, "the focal length is 4e-310 px"),
    ({"fl_x": 1e9, "fl_y": 1e9}, "the focal length is 1e+09 px"),
    ({"fl_x": 420.0, "fl_y": 6.0}, "the focal lengths are 420 6 px"),
    ({"cx": 1e9}, "the principal point is at 1e+09 px"),
    ({"w": 64000000}, "64000000x360"),
    ({"w": 1e9, "h": 1e9}, "1e+09x1e+09"),
    ({"w": 1e300}, "1e+300"),
    ({"w": -480}, "-480"),
    ({"w": 48, "h": 36, "fl_x": 42, "fl_y": 42, "cx": 24, "cy": 18}, ""),  # a tenth of the photo is possible
    ({"w": 4800 * 16, "h": 3600 * 16, "fl_x": 67200, "fl_y": 67200, "cx": 38400, "cy": 28800}, "their size is not"),
    ({"k1": "0"}, "\"k1\" is '0'"),
    ({"k1": None}, ""),
    ({"k1": 1e30}, "the distortion is impossible"),
    ({"k4": 1e300, "k1": 1.0}, "the distortion is impossible"),
    ({"camera_model": ["OPENCV"]}, "\"camera_model\" is ['OPENCV']"),
    ({"camera_model": 4}, '"camera_model" is 4'),
    ({"camera_model": "SPHERICAL"}, "cameras of type SPHERICAL"),
    ({"mask_path": 5}, ""),
    ({"mask_path": "x" * 5000}, ""),
    ({"mask_path": "a\0b"}, ""),
]


@pytest.mark.parametrize(("values", "said"), WRONG)
def test_a_wrong_value_leaves_out_its_photo_or_is_one_sentence(tmp_path: Path, values: dict, said: str) -> None:
    started = time.perf_counter()
    names, warnings = changed(tmp_path / "one", frame=3, **values)
    if not said:
        assert names == NAMES and warnings == []
        return
    assert names == [n for n in NAMES if n != "3.jpg"]
    assert len(warnings) == 1 and said in warnings[0] and "(3.jpg)" in warnings[0] and "transforms.json" in warnings[0]
    if "transform_matrix" not in values:
        with pytest.raises(SplatError, match=r"None of the 8 photos .*transforms\.json.*--ignore-poses") as caught:
            changed(tmp_path / "all", **values)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("name", [None, 7, "", ".", "..", "/", ["0.jpg"]])
def test_a_frame_without_a_photo_is_left_out(tmp_path: Path, name: object) -> None:
    names, warnings = changed(tmp_path, frame=3, file_path=name)
    assert names == [n for n in NAMES if n != "3.jpg"]
    assert len(warnings) == 1 and "file_path" in warnings[0] and "frame 3" in warnings[0]


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b.jpg", "\ud800.jpg", "../" * 200 + "a.jpg", "\x1b[2J.jpg"])
def test_a_name_that_is_no_file_is_a_missing_photo(tmp_path: Path, name: str) -> None:
    names, warnings = changed(tmp_path, frame=3, file_path=name)
    assert len(names) == 7 and len(warnings) == 1 and "1 of the 8 photos" in warnings[0]
    assert warnings[0].isprintable() and len(warnings[0]) < 500


@pytest.mark.parametrize("frames", [None, {}, {"0": {}}, "frames", 3, [None], [[]], ["a"], [3, None]])
def test_frames_that_are_none_are_one_sentence(tmp_path: Path, frames: object) -> None:
    with pytest.raises(SplatError, match=r"transforms\.json"):
        changed(tmp_path, frames=frames)


@pytest.mark.parametrize(
    "values",
    [
        {"applied_transform": [[HUGE] * 4] * 3},
        {"applied_transform": np.diag([1.0, 1, -1, 1])[:3].tolist()},
        {"applied_transform": "x"},
        {"applied_scale": float("nan")},
        {"applied_scale": -1},
        {"applied_scale": HUGE},
        {"applied_scale": 1e300},
    ],
)
def test_a_wrong_applied_transform_is_a_warning(tmp_path: Path, values: dict) -> None:
    names, warnings = changed(tmp_path, **values)
    assert names == NAMES and len(warnings) == 1 and "applied_transform" in warnings[0]


@pytest.mark.parametrize(
    "lists", [{"train_filenames": "all"}, {"train_filenames": [3, None, {}]}, {"test_filenames": 3}]
)
def test_lists_of_something_else_are_no_lists(tmp_path: Path, lists: dict) -> None:
    assert changed(tmp_path, **lists)[0] == NAMES


# ---------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ((480, 360), (480, 360), True),
        ((4032, 3024), (504, 378), True),
        ((4946, 3286), (618, 410), True),  # images_8 of the garden
        ((4946, 3286), (1237, 821), True),  # images_4
        ((60, 44), (7, 5), True),
        ((480, 360), (476, 358), True),  # an undistorted photo
        ((480, 360), (360, 480), False),
        ((480, 360), (480, 340), False),
        ((480, 360), (400, 360), False),
        ((1920, 1080), (1440, 1080), False),
    ],
)
def test_a_scaled_photo_has_the_shape_of_its_camera_and_a_cropped_one_has_not(a, b, same: bool) -> None:
    assert same_shape(a, b) is same and same_shape(b, a) is same


@pytest.mark.parametrize("dataset", ["colmap", "nerfstudio"])
@pytest.mark.parametrize("change", ["turned", "cropped"])
def test_a_photo_changed_after_posing_is_left_out(tmp_path: Path, dataset: str, change: str) -> None:
    photos = write_photos(tmp_path / "images")
    for i in (2, 5):
        bgr = street()[i].bgr
        bgr = cv2.rotate(bgr, cv2.ROTATE_90_CLOCKWISE) if change == "turned" else bgr[:, :400]
        cv2.imwrite(str(photos[i]), bgr)
    if dataset == "colmap":
        write_colmap(tmp_path, NAMES)
    else:
        (tmp_path / "transforms.json").write_text(json.dumps(transforms([f"images/{n}" for n in NAMES])))
    report = Silent()
    capture = read(tmp_path, ReadOptions(), report)
    assert [v.name for v in capture.views] == [n for n in NAMES if n[0] not in "25"]
    assert {(v.camera.fx, v.camera.fy) for v in capture.views} == {(FOCAL, FOCAL)}
    assert len(report.warnings) == 1
    assert "(2.jpg, 5.jpg)" in report.warnings[0] and "their shape is not their camera's" in report.warnings[0]


@pytest.mark.parametrize(("orientation", "first"), [(1, 0.969), (3, -0.969), (6, 0.0), (2, 0.969)])
def test_a_pose_belongs_to_the_stored_pixels(tmp_path: Path, orientation: int, first: float) -> None:
    (tmp_path / "images").mkdir()
    square = orientation == 6
    for i, view in enumerate(street()):
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = np.ascontiguousarray((view.bgr[:, 60:420] if square else view.bgr)[..., ::-1])
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.jpg", exif=exif)
    data = transforms([f"images/{n}" for n in NAMES]) | ({"w": 360, "h": 360, "cx": 180} if square else {})
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    view = read(tmp_path).views[0]
    assert float(view.pose.rotation[0, 0]) == pytest.approx(first, abs=1e-3)
    assert view.load().rgb.shape[:2] == (360, 360 if square else 480)


def test_a_photo_that_is_read_as_stored_stays_so_in_the_run_folder(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "images")
    exif = Image.Exif()
    exif[0x0112] = 5
    for path, view in zip(paths, street()):
        Image.fromarray(np.ascontiguousarray(view.bgr[..., ::-1])).save(path, exif=exif, quality=100, subsampling=0)
    write_colmap(tmp_path, NAMES)
    save_capture(tmp_path / "run", read(tmp_path))
    for view, truth in zip(load_capture(tmp_path / "run").views, street()):
        assert view.as_stored and np.abs(view.load(quick=True).rgb[..., ::-1].astype(int) - truth.bgr).mean() < 3
    assert not any(v.as_stored for v in read(tmp_path, ReadOptions(ignore_poses=True)).views)


def test_a_pose_of_the_upright_photo_is_believed_where_its_size_says_so(tmp_path: Path) -> None:
    """Programs that turn photos before they pose them state the turned size."""
    (tmp_path / "images").mkdir()
    for i, view in enumerate(street()):
        exif = Image.Exif()
        exif[0x0112] = 8  # stored on its side, shown as 480x360
        pixels = np.ascontiguousarray(cv2.rotate(view.bgr, cv2.ROTATE_90_CLOCKWISE)[..., ::-1])
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.jpg", exif=exif)
    (tmp_path / "transforms.json").write_text(json.dumps(transforms([f"images/{n}" for n in NAMES])))
    view = read(tmp_path).views[0]
    np.testing.assert_allclose(view.pose.inverse().rotation.numpy(), street()[0].rotation, atol=1e-9)
    assert (view.camera.width, view.camera.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "lens",
    [
        Lens("PINHOLE", (420.0, 420.0, 240.0, 180.0), 480, 360),
        Lens("PINHOLE", (40_000.0, 40_000.0, 240.0, 180.0), 480, 360),  # a telescope
        Lens("PINHOLE", (420.0, 420.0, -200.0, 700.0), 480, 360),  # a tile of a larger picture
        Lens("PINHOLE", (560.0, 315.0, 256.0, 256.0), 512, 512),  # squeezed from 16:9
        Lens("OPENCV", (420.0, 420.0, 240.0, 180.0, -0.35, 0.15, 0.001, 0.001), 480, 360),
        Lens("OPENCV_FISHEYE", (150.0, 150.0, 240.0, 180.0, 0.05, -0.01, 0.004, -0.002), 480, 360),
        Lens("FULL_OPENCV", (9000.0, 9000.0, 240.0, 180.0, -5.0, 300.0, *[0.0] * 6), 480, 360),
        Lens("FOV", (300.0, 300.0, 240.0, 180.0, 0.93), 480, 360),
        Lens("SIMPLE_RADIAL", (2559.8, 1536.0, 1152.0, -0.0218), 3072, 2304),
    ],
)
def test_unusual_cameras_are_believed(lens: Lens) -> None:
    assert lens_problem(lens) is None


# --------------------------------------------------------------------------------------------------------- LLFF and IDR


def llff_files() -> dict[str, bytes]:
    def saved(array: np.ndarray, **kwargs: bool) -> bytes:
        out = io.BytesIO()
        np.save(out, array, **kwargs)
        return out.getvalue()

    good = saved(np.ones((8, 17)))
    header = good[: good.index(b"\n") + 1]
    return {
        "cut in the header": good[:30],
        "cut in the rows": good[:-9],
        "too long": good + b"\0",
        "empty": b"",
        "another kind": b"\x89PNG" + good[4:],
        "no dict": header[:10] + b"[" * 60 + header[70:] + good[len(header) :],
        "no python": header[:10] + b"{'descr': <f8>, 'a" + header[28:] + good[len(header) :],
        "unknown type": good.replace(b"<f8", b"<q9"),
        "1e12 rows": good.replace(b"(8, 17), }         ", b"(999999999999, 17),}"),
        "negative rows": good.replace(b"(8, 17)", b"(-8,17)"),
        "strings": saved(np.full((8, 17), "a")),
        "objects": saved(np.array([[object] * 17] * 8), allow_pickle=True),
        "records": saved(np.zeros(8, [("a", "f8", 17)])),
        "complex": saved(np.ones((8, 17), complex)),
        "15 columns": saved(np.ones((8, 15))),
        "one row": saved(np.ones(17)),
    }


@pytest.mark.parametrize("kind", list(llff_files()))
def test_an_llff_file_that_is_none_is_one_sentence(tmp_path: Path, kind: str) -> None:
    write_photos(tmp_path / "images")
    (tmp_path / "poses_bounds.npy").write_bytes(llff_files()[kind])
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(SplatError, match=r"poses_bounds\.npy") as caught:
        read(tmp_path)
    assert time.perf_counter() - started < 2 and tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_an_llff_row_that_is_damaged_costs_its_photo(tmp_path: Path) -> None:
    scene = make_scene(views=8)
    write_llff(scene, tmp_path)
    scene.write_photos(tmp_path / "images")
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[1, 3], rows[2, 14], rows[4, :15] = np.nan, -1, 0
    rows[6, 0:15:5] *= -1  # mirrored
    np.save(tmp_path / "poses_bounds.npy", rows)
    report = Silent()
    assert [v.name for v in read(tmp_path, ReadOptions(), report).views] == [f"shot_0{i}.png" for i in (0, 3, 5, 7)]
    for i in (1, 2, 4, 6):
        assert any(f"shot_0{i}.png" in w for w in report.warnings)


def write_street_idr(root: Path, file: str = "cameras.npz", **kwargs: Any) -> dict[str, np.ndarray]:
    write_photos(root / "image", [f"{i:06d}.png" for i in range(8)])
    k = np.array([[FOCAL, 0, WIDTH / 2, 0], [0, FOCAL, HEIGHT / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    arrays = {}
    for i, view in enumerate(street()):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = view.rotation, view.translation
        arrays[f"world_mat_{i}"], arrays[f"scale_mat_{i}"] = k @ pose, SCALE
    arrays |= kwargs
    np.savez(root / file, **arrays)
    return arrays


@pytest.mark.parametrize("file", ["cameras.npz", "cameras_sphere.npz"])
def test_idr_cameras_are_decomposed_exactly(tmp_path: Path, file: str) -> None:
    write_street_idr(tmp_path, file)
    (tmp_path / "mask").mkdir()
    for i in range(8):
        Image.new("L", (WIDTH, HEIGHT), 255).save(tmp_path / "mask" / f"{i:03d}.png")
    capture = read(tmp_path, ReadOptions(test_every=0))
    assert capture.source == "idr" and len(capture.views) == 8
    assert [v.mask_path.name for v in capture.views if v.mask_path] == [f"{i:03d}.png" for i in range(8)]
    for view, truth in zip(capture.views, street()):
        np.testing.assert_allclose(view.pose.inverse().rotation.numpy(), truth.rotation, atol=1e-9)
        centre = torch.from_numpy(-truth.rotation.T @ truth.translation)
        np.testing.assert_allclose(capture.world_from_source.apply(centre), view.pose.translation, atol=1e-9)
        assert (view.camera.fx, view.camera.cx) == pytest.approx((FOCAL, WIDTH / 2 + 0.5))


def test_a_projection_is_decomposed_as_opencv_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        rotation *= np.sign(np.linalg.det(rotation))
        k = np.array([[rng.uniform(300, 900), 0, 200], [0, rng.uniform(300, 900), 150], [0, 0, 1]])
        projection = k @ np.c_[rotation, rng.normal(size=3)] * rng.uniform(0.1, 5)
        found = decomposed(-projection)  # the sign of a projection means nothing
        expected = cv2.decomposeProjectionMatrix(projection)
        assert found is not None
        np.testing.assert_allclose(found[0], expected[0] / expected[0][2, 2], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found[1].rotation.numpy(), expected[1].T, atol=1e-9)
        np.testing.assert_allclose(found[1].translation.numpy(), (expected[2][:3] / expected[2][3])[:, 0], atol=1e-6)


def test_idr_matrices_that_are_damaged_cost_their_photos(tmp_path: Path) -> None:
    wrong = {
        "world_mat_1": np.full((4, 4), np.nan),
        "world_mat_3": np.zeros((4, 4)),
        "world_mat_5": np.array(["a"]),
        "world_mat_6": np.full((4, 4), 1e300),
    }
    write_street_idr(tmp_path, **wrong)
    report = Silent()
    assert [v.name for v in read(tmp_path, ReadOptions(), report).views] == [f"00000{i}.png" for i in (0, 2, 4, 7)]
    assert len(report.warnings) == 3


def test_idr_photos_that_are_missing_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    write_street_idr(tmp_path)
    (tmp_path / "image" / "000002.png").unlink()
    capture = read(tmp_path)
    assert len(capture.views) == 7
    np.testing.assert_allclose(capture.views[2].pose.inverse().rotation.numpy(), street()[3].rotation, atol=1e-9)
    (tmp_path / "image" / "000003.png").rename(tmp_path / "image" / "other.png")
    with pytest.raises(SplatError, match=r"cameras\.npz has 8 cameras for 7 photos.*--ignore-poses"):
        read(tmp_path)


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z, z.open("world_mat_0.npy", "w", force_zip64=True) as f:
        for _ in range(300):
            f.write(b"\0" * 2**20)
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"x" * 100, bomb()], ids=["empty", "cut", "text", "bomb"])
def test_idr_cameras_that_are_none_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    write_street_idr(tmp_path)
    (tmp_path / "cameras.npz").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(SplatError, match=r"cameras\.npz cannot be read .*--ignore-poses"):
        read(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_cameras_file_of_something_else_does_not_stand_in_the_way(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    np.savez(tmp_path / "cameras.npz", intrinsics=np.eye(3))
    assert read(tmp_path).source == "photos"
    write_idr(make_scene(views=8), tmp_path / "other", "cameras_large.npz")
    assert read(tmp_path / "other").source == "idr"


def test_without_poses_a_dataset_of_damaged_ones_is_read_as_photos(tmp_path: Path) -> None:
    write_photos(tmp_path / "train")
    data = transforms([f"train/{n}" for n in NAMES])
    (tmp_path / "transforms_train.json").write_text(json.dumps(data | {"fl_x": -1, "fl_y": -1}))
    with pytest.raises(SplatError, match="--ignore-poses"):
        read(tmp_path)
    assert len(read(tmp_path, ReadOptions(ignore_poses=True)).views) == 8
