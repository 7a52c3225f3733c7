"""COLMAP models as other programs write and damage them: text dialects, cut binaries, single damaged cameras."""

from __future__ import annotations

import math
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from street import FOCAL, HEIGHT, WIDTH, street, write_colmap, write_photos

from splat.core.errors import SplatError
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read
from splat.ingest.colmap_binary import read_binary, read_points
from splat.ingest.colmap_model import ColmapModel, ModelPoints
from splat.ingest.colmap_text import read_text_model

NAMES = [f"{i}.jpg" for i in range(8)]


def poses_are_exact(root: Path, report: Silent | None = None, names: list[str] | None = None) -> None:
    """All eight photos of the street, each with its own pose."""
    capture = read(root, ReadOptions(test_every=0), report or Silent())
    assert [v.name for v in capture.views] == (names or NAMES)
    for view, truth in zip(capture.views, street()):
        np.testing.assert_allclose(view.pose.inverse().rotation.numpy(), truth.rotation, atol=1e-9)
        np.testing.assert_allclose(view.pose.inverse().translation.numpy(), truth.translation, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    "names",
    [
        [f"A-DJI ({400 + i}).jpg" for i in range(8)],
        [f"day 1/IMG  {i}.jpg" for i in range(8)],
        [f"{i:04d}.jpg" for i in range(8)],
        [f"straße/フォト {i}.jpg" for i in range(8)],
        [f"# {i}.jpg" for i in range(8)],
    ],
)
@pytest.mark.parametrize("second_line", ["\n", "", "1.5 2.5 -1 3.5 4.5 7\n"])
def test_a_name_is_the_rest_of_its_line(tmp_path: Path, names: list[str], second_line: str) -> None:
    write_photos(tmp_path / "images", names)
    write_colmap(tmp_path, names, second_line)
    poses_are_exact(tmp_path, names=names)


def test_names_without_suffix_are_not_taken_for_keypoints(tmp_path: Path) -> None:
    write_photos(tmp_path / "images", [f"{i:04d}.jpg" for i in range(8)])
    write_colmap(tmp_path, [f"{i:04d}" for i in range(8)], second_line="")
    poses_are_exact(tmp_path, names=[f"{i:04d}" for i in range(8)])


def _every_third_without(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(line for i, line in enumerate(lines) if i % 6 != 1) + "\n"


DIALECTS: dict[str, Callable[[str], str]] = {
    "Windows line ends": lambda t: t.replace("\n", "\r\n"),
    "old Mac line ends": lambda t: t.replace("\n", "\r"),
    "byte order mark": lambda t: "\ufeff" + t,
    "tabs": lambda t: t.replace(" ", "\t"),
    "indented, spaces at the end": lambda t: "".join(f"  {line} \n" for line in t.splitlines()),
    "comments between": lambda t: "# c\n" + t.replace("2.jpg\n", "2.jpg\n# c\n") + "# end\n",
    "some second lines missing": _every_third_without,
    "no end of the last line": lambda t: t.rstrip("\n"),
    "a title": lambda t: "Number of images: 8\n" + t,
    "ids as decimals": lambda t: "\n".join(
        line.replace(" ", ".0 ", 1) if line.endswith(".jpg") else line for line in t.split("\n")
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("second_line", ["\n", "1.5 2.5 -1 3.5 4.5 7\n"])
def test_dialects_of_text_models_give_the_same_poses(tmp_path: Path, dialect: str, second_line: str) -> None:
    write_photos(tmp_path / "images")
    file = write_colmap(tmp_path, NAMES, second_line) / "images.txt"
    file.write_bytes(DIALECTS[dialect](file.read_text()).encode())
    report = Silent()
    poses_are_exact(tmp_path, report)
    assert len(report.warnings) == (dialect == "a title")


def test_keypoints_survive_where_lines_are_missing(tmp_path: Path) -> None:
    folder = write_colmap(tmp_path, NAMES, "1.5 2.5 -1 3.5 4.5 7\n")
    (folder / "images.txt").write_text(_every_third_without((folder / "images.txt").read_text()))
    model = read_text_model(folder)
    assert [len(i.point_ids) for i in model.images] == [0, 2, 2, 0, 2, 2, 0, 2]
    assert model.images[1].pixels.tolist() == [[1.5, 2.5], [3.5, 4.5]] and model.images[1].point_ids.tolist() == [-1, 7]


def test_keypoints_without_a_point_are_no_observations(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    folder = write_colmap(tmp_path, NAMES, "1.5 2.5 -1 3.5 4.5 7 5.5 6.5 8 9 9 99\n")
    (folder / "points3D.txt").write_text("8 0 0 5 1 2 3 0.5 1 2\n\n# c\n7 1 1 6 4 5 6 0.5\nx y\n9 nan 0 0 1 2 3 0\n")
    capture = read(tmp_path, ReadOptions(test_every=0))
    assert capture.points is not None and capture.tracks is not None
    assert capture.points.positions.tolist() == [[1, 1, 6], [0, 0, 5]]
    assert capture.tracks.view_ids.tolist() == [i // 2 for i in range(16)]
    assert capture.tracks.point_ids.tolist() == [0, 1] * 8
    assert torch.allclose(capture.tracks.pixels, torch.tensor([[3.5, 4.5], [5.5, 6.5]] * 8), atol=1e-4)


def test_quaternions_of_few_digits_become_rotations(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    folder = write_colmap(tmp_path, NAMES)
    lines = (folder / "images.txt").read_text().splitlines()
    short = [
        " ".join([f[0], *(f"{1.3 * float(v):.3f}" for v in f[1:5]), *f[5:]]) if (f := x.split()) else "" for x in lines
    ]
    (folder / "images.txt").write_text("\n".join(short) + "\n")
    for view in read(tmp_path).views:
        assert float((view.pose.rotation @ view.pose.rotation.T - torch.eye(3)).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        (f"2 PINHOLE {WIDTH} {HEIGHT} nan {FOCAL} 240 180", "not a number"),
        (f"2 PINHOLE {WIDTH} {HEIGHT} 0 0 240 180", "the focal length is 0 px"),
        (f"2 PINHOLE {WIDTH} {HEIGHT} 4e-310 4e-310 240 180", "the focal length is 4e-310 px"),
        (f"2 PINHOLE 64000000 {HEIGHT} {FOCAL} {FOCAL} 240 180", "64000000x360"),
        (f"2 OPENCV 1000000000 1000000000 {FOCAL} {FOCAL} 240 180 .1 0 0 0", "1000000000x1000000000"),
        (f"2 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} 1e9 180", "principal point"),
        (f"2 OPENCV {WIDTH} {HEIGHT} {FOCAL} {FOCAL} 240 180 1e30 0 0 0", "the distortion is impossible"),
        (f"2 PINHOLE {WIDTH} {HEIGHT} {FOCAL}", "is cut"),
        (f"2 NOLENS {WIDTH} {HEIGHT} {FOCAL} 240 180", "cameras of type 'NOLENS'"),
        ("2 EQUIRECTANGULAR 480 360 480 360", "no pinhole equivalent"),
        ("", "the model has no camera 2"),
    ],
)
def test_a_damaged_camera_costs_its_own_photos(tmp_path: Path, camera: str, said: str) -> None:
    write_photos(tmp_path / "images")
    folder = write_colmap(tmp_path, NAMES)
    with (folder / "cameras.txt").open("a") as f:
        f.write(camera + "\n")
    lines = (folder / "images.txt").read_text().replace(" 1 2.jpg", " 2 2.jpg").replace(" 1 5.jpg", " 2 5.jpg")
    (folder / "images.txt").write_text(lines)
    report = Silent()
    started = time.perf_counter()
    assert [v.name for v in read(tmp_path, ReadOptions(), report).views] == [n for n in NAMES if n[0] not in "25"]
    assert time.perf_counter() - started < 3
    assert len(report.warnings) == 1 and said in report.warnings[0] and "(2.jpg, 5.jpg)" in report.warnings[0]


def test_a_damaged_only_camera_is_one_sentence(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    folder = write_colmap(tmp_path, NAMES)
    (folder / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} -1 -1 240 180\n")
    with pytest.raises(
        SplatError, match=r"None of the 8 photos of .*sparse/0 .*the focal length is -1 px.*--ignore-poses"
    ):
        read(tmp_path)


def test_values_after_a_cameras_own_are_ignored_aloud(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    folder = write_colmap(tmp_path, NAMES)
    (folder / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} 240 180 0.5 front\n")
    report = Silent()
    poses_are_exact(tmp_path, report)
    assert "more values than a PINHOLE camera" in report.warnings[0]


@pytest.mark.parametrize("value", ["nan", "inf", "0"])
def test_an_image_without_a_rotation_is_left_out(tmp_path: Path, value: str) -> None:
    write_photos(tmp_path / "images")
    folder = write_colmap(tmp_path, NAMES)
    lines = (folder / "images.txt").read_text().splitlines()
    lines[6] = " ".join(["4", value, value, value, value, *lines[6].split()[5:]])
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    report = Silent()
    assert len(read(tmp_path, ReadOptions(), report).views) == 7
    assert len(report.warnings) == 1 and "3.jpg" in report.warnings[0]


# -------------------------------------------------------------------------------------------------------- where it lies


@pytest.mark.parametrize(
    "sparse",
    ["sparse", "dense/0", "dense/0/sparse", "sparse_3/0", "glomap/0", "colmap/sparse/0", "colmap/0", "undistorted"],
)
def test_models_are_found_where_programs_leave_them(tmp_path: Path, sparse: str) -> None:
    write_photos(tmp_path / "images")
    write_colmap(tmp_path, NAMES, sparse=sparse)
    poses_are_exact(tmp_path)


def test_photos_nearest_to_the_model_are_its_own(tmp_path: Path) -> None:
    """COLMAP's dense folder has undistorted copies under the names of the originals."""
    write_photos(tmp_path / "images")
    write_photos(tmp_path / "dense" / "0" / "images")
    write_colmap(tmp_path, NAMES, sparse="dense/0/sparse")
    assert {v.image_path.parent for v in read(tmp_path).views} == {tmp_path / "dense" / "0" / "images"}


def test_of_several_models_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    write_colmap(tmp_path, NAMES)
    other = tmp_path / "sparse" / "1"
    other.mkdir()
    for name in ("cameras.bin", "images.bin"):
        (other / name).write_bytes(b"\xff" * 40)
    report = Silent()
    poses_are_exact(tmp_path, report)
    assert "sparse/1" in report.warnings[0]


def test_a_list_of_test_photos_beside_the_model_is_honoured(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    folder = write_colmap(tmp_path, NAMES)
    (folder / "test.txt").write_text("images/1.JPG\r\nimages/6.JPG\r\n")
    assert [v.name for v in read(tmp_path).test_views] == ["1.jpg", "6.jpg"]
    (folder / "test.txt").write_text("a.jpg\n")
    report = Silent()
    assert [v.name for v in read(tmp_path, ReadOptions(), report).test_views] == ["0.jpg"]
    assert "test.txt" in report.warnings[0]


# -------------------------------------------------------------------------------------------------------------- binary


def rig_model(folder: Path) -> Path:
    """A model with points, tracks, rigs of two cameras and frames, by COLMAP's own writer."""
    import pycolmap

    write_colmap(folder, [f"{side}/{i}.jpg" for i in range(4) for side in ("left", "right")])
    sparse = folder / "sparse" / "0"
    rng = np.random.default_rng(0)
    images = (sparse / "images.txt").read_text().splitlines()[::2]
    rows, points = [], [f"{j} {x} {y} {z} 10 20 30 0.5" for j, (x, y, z) in enumerate(rng.normal(0, 1, (20, 3)), 1)]
    for i, line in enumerate(images, 1):
        keypoints = [f"{x:.6f} {y:.6f} {j}" for j, (x, y) in enumerate(rng.uniform(0, 300, (20, 2)), 1)]
        rows += [line, " ".join(keypoints)]
        points = [f"{p} {i} {j}" for j, p in enumerate(points)]
    (sparse / "images.txt").write_text("\n".join(rows) + "\n")
    (sparse / "points3D.txt").write_text("\n".join(points) + "\n")
    pycolmap.Reconstruction(sparse).write_binary(sparse)
    for text in sparse.glob("*.txt"):
        text.unlink()
    return sparse


FILES = ("cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin")


def content(model: ColmapModel) -> list:
    points = model.read_points()
    assert isinstance(points, ModelPoints)
    images = [(i.name, i.quat_wxyz, i.translation, i.pixels.tolist(), i.point_ids.tolist()) for i in model.images]
    return [model.cameras, images, points.ids.tolist(), points.positions.tolist(), points.rgb.tolist()]


def is_an_error_or_exact(folder: Path, exact: list) -> bool:
    """Whether the model was refused."""
    try:
        found = content(read_binary(folder))
    except SplatError as e:
        assert "\n" not in str(e)
        return True
    assert found == exact
    return False


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut at any byte, or a count that is wrong."""
    if rng.random() < 0.7:
        return data[: rng.randrange(len(data))]
    count = rng.choice([0, 1, 7, 2**31, 2**40, 2**63, 2**64 - 1])
    if count == struct.unpack_from("<Q", data)[0]:
        count += 1
    return struct.pack("<Q", count) + data[8:]


@pytest.mark.parametrize("times", [12, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_binary_file_is_an_error_or_the_exact_model(tmp_path: Path, name: str, times: int) -> None:
    """Rigs and frames are not read: `images.bin` has every pose."""
    sparse = rig_model(tmp_path)
    exact, whole = content(read_binary(sparse)), (sparse / name).read_bytes()
    rng = random.Random(name)
    refused = 0
    for _ in range(times):
        (sparse / name).write_bytes(damage(whole, rng))
        started = time.perf_counter()
        tracemalloc.start()
        refused += is_an_error_or_exact(sparse, exact)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.perf_counter() - started < 2 and peak < 300e6
    assert refused == (times if name in FILES[:3] else 0)


def test_counts_inside_a_file_are_compared_with_its_length(tmp_path: Path) -> None:
    sparse = rig_model(tmp_path)
    for name, at in (("images.bin", 8 + 64 + len(b"left/0.jpg\0")), ("points3D.bin", 8 + 43)):
        whole = (sparse / name).read_bytes()
        for count in (0, 19, 21, 2**32, 2**61, 2**64 - 1):
            (sparse / name).write_bytes(whole[:at] + struct.pack("<Q", count) + whole[at + 8 :])
            with pytest.raises(SplatError, match=f"{name} is not a readable COLMAP file"):
                read_binary(sparse).read_points()
        (sparse / name).write_bytes(whole)
    assert read_binary(sparse).read_points() is not None


def test_binary_and_text_files_hold_the_same_model(tmp_path: Path) -> None:
    import pycolmap

    sparse = rig_model(tmp_path)
    text = tmp_path / "text"
    text.mkdir()
    model = pycolmap.Reconstruction(sparse)
    model.write_text(text)
    a, b = content(read_binary(sparse)), content(read_text_model(text))
    assert a[0] == b[0] and a[2:] == b[2:]
    assert [i[0] for i in a[1]] == [model.images[k].name for k in sorted(model.images)]
    for image, same in zip(a[1], b[1]):
        assert image[0] == same[0] and image[4] == same[4]
        for values, others in zip(image[1:4], same[1:4]):
            np.testing.assert_allclose(values, others, rtol=1e-12)


def test_many_points_are_read_fast(tmp_path: Path) -> None:
    n, track = 200_000, 3
    row = struct.pack("<QdddBBBdQ", 1, 0.5, 1.5, 2.5, 1, 2, 3, 0.1, track) + b"\0" * 8 * track
    table = np.frombuffer(row * n, np.uint8).reshape(n, len(row)).copy()
    table[:, :8] = np.arange(n, dtype="<u8")[:, None].view(np.uint8)
    (tmp_path / "points3D.bin").write_bytes(struct.pack("<Q", n) + table.tobytes())
    started = time.perf_counter()
    points = read_points(tmp_path / "points3D.bin")
    assert time.perf_counter() - started < 1.0  # a fifth of a million, on a busy machine
    assert (
        points is not None and points.ids.tolist() == list(range(n)) and points.positions[7].tolist() == [0.5, 1.5, 2.5]
    )
    assert math.isclose(points.rgb.sum(), 6 * n)
