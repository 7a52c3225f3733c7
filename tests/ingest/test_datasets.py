"""What dataset files get wrong: missing photos, broken files, several models; and writing a COLMAP dataset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import (
    Scene,
    Shot,
    centred,
    dot_errors,
    make_scene,
    write_blender,
    write_colmap_binary,
    write_colmap_text,
    write_llff,
    write_transforms,
)
from PIL import Image

from splat.core.errors import SplatError
from splat.core.geometry import Similarity, rotation_from_axis_angle
from splat.core.slots import ReadOptions, Silent
from splat.export.colmap_model import write_colmap
from splat.ingest import read

SMALL = Shot(60, 44, 50.0, 51.0, 29.0, 23.0)


@pytest.fixture
def scene() -> Scene:
    return make_scene(SMALL, views=6)


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


# -------------------------------------------------------------------------------------------------------------- COLMAP


def test_of_several_models_the_largest_is_read(tmp_path: Path, scene: Scene) -> None:
    scene.write_photos(tmp_path / "images")
    write_colmap_text(replace(scene, world_from_cam=scene.world_from_cam[:2]), tmp_path, "PINHOLE", "sparse/0")
    write_colmap_binary(scene, tmp_path, "PINHOLE", "sparse/1")
    assert len(read(tmp_path).views) == 6


def test_photos_of_a_model_are_found_by_name_not_by_position(tmp_path: Path, scene: Scene) -> None:
    write_colmap_text(scene, tmp_path, "PINHOLE")
    scene.write_photos(tmp_path / "images")
    Image.effect_noise((60, 44), 60).save(tmp_path / "images" / "a_photo_without_pose.png")
    scene.write_photos(tmp_path / "images_2")
    remove(tmp_path / "images_2", "shot_00.png")
    report = Silent()
    capture = read(tmp_path, ReadOptions(images="images_2", test_every=0), report)
    assert [v.name for v in capture.views] == [f"shot_{i:02d}.png" for i in range(1, 6)]
    assert [v.image_path.name for v in capture.views] == [v.name for v in capture.views]
    assert "1 of the 6 photos" in report.warnings[0] and "shot_00.png" in report.warnings[0]
    assert len(read(tmp_path).views) == 6


def test_a_model_without_most_of_its_photos_is_an_error_that_names_them(tmp_path: Path, scene: Scene) -> None:
    write_colmap_text(scene, tmp_path, "PINHOLE")
    scene.write_photos(tmp_path / "images")
    remove(tmp_path / "images", *(f"shot_{i:02d}.png" for i in range(4)))
    with pytest.raises(
        SplatError, match=r"4 of the 6 photos .*shot_00.png, shot_01.png, shot_02.png, \.\.\..*--images"
    ):
        read(tmp_path)
    assert len(read(tmp_path, ReadOptions(ignore_poses=True)).views) == 2


def test_tracks_follow_their_views_when_a_photo_is_left_out(tmp_path: Path, scene: Scene) -> None:
    write_colmap_text(scene, tmp_path, "PINHOLE")
    scene.write_photos(tmp_path / "images")
    broken = tmp_path / "images" / "shot_01.png"
    broken.write_bytes(broken.read_bytes()[:400])
    capture = read(tmp_path, ReadOptions(), Silent())
    assert capture.tracks is not None and capture.points is not None and len(capture.views) == 5
    for i, view in enumerate(capture.views):
        mine = capture.tracks.view_ids == i
        assert int(mine.sum()) == len(scene.points) and view.world_from_cam is not None
        seen = view.world_from_cam.inverse().apply(capture.points.positions[capture.tracks.point_ids[mine]].double())
        assert float((view.camera.project(seen) - capture.tracks.pixels[mine]).abs().max()) < 2e-3


def test_poses_without_points_are_enough(tmp_path: Path, scene: Scene) -> None:
    scene.write_photos(tmp_path / "images")
    for sparse in ("sparse/0", "colmap"):
        (write_colmap_text if sparse == "colmap" else write_colmap_binary)(scene, tmp_path, "PINHOLE", sparse)
        for points in (tmp_path / sparse).glob("points3D.*"):
            points.unlink()
        for images in (tmp_path / sparse).glob("images.txt"):
            lines = images.read_text().splitlines()
            images.write_text("\n".join("" if i % 2 else line for i, line in enumerate(lines)) + "\n")
        if sparse == "colmap":
            for file in (tmp_path / "sparse" / "0").iterdir():
                file.unlink()
            capture = read(tmp_path)
            assert capture.points is None and capture.posed and len(capture.views) == 6


@pytest.mark.parametrize("name", ["images.bin", "cameras.bin", "points3D.bin"])
def test_a_broken_model_is_one_sentence(tmp_path: Path, scene: Scene, name: str) -> None:
    write_colmap_binary(scene, tmp_path, "PINHOLE")
    scene.write_photos(tmp_path / "images")
    file = tmp_path / "sparse" / "0" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(SplatError, match=rf"sparse/0/{name} is not a readable COLMAP file.*--ignore-poses") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_written_colmap_dataset_reads_back_the_same(tmp_path: Path) -> None:
    lens = (-0.12, 0.05, 0.004, -0.006)
    scene = make_scene(replace(Shot(distortion=lens), suffix=".jpg"))
    write_colmap_text(scene, tmp_path / "in", "OPENCV")
    scene.write_photos(tmp_path / "in" / "images")
    turn = rotation_from_axis_angle(torch.tensor([0.3, -0.8, 0.2], dtype=torch.float64))
    moved = read(tmp_path / "in", ReadOptions(test_every=0)).transformed(
        Similarity(2.5, turn, torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    )
    write_colmap(moved.resized(max_resolution=200), tmp_path / "out")
    back = read(tmp_path / "out", ReadOptions(test_every=0))
    assert back.points is not None and back.tracks is not None and moved.tracks is not None
    assert [v.name for v in back.views] == [v.name for v in moved.views]
    np.testing.assert_allclose(back.points.positions.numpy(), scene.points, atol=1e-5)
    assert len(back.tracks.view_ids) == len(moved.tracks.view_ids)
    for i, view in enumerate(back.views):
        assert view.world_from_cam is not None and view.camera.lens is None and max(view.photo_size) == 200
        np.testing.assert_allclose(view.world_from_cam.matrix().numpy(), scene.world_from_cam[i], atol=1e-9)
        pixels = view.camera.project(view.world_from_cam.inverse().apply(torch.from_numpy(scene.points))).numpy()
        errors = dot_errors(view.load().rgb[..., 0], pixels)
        assert errors.size and errors.max() < 0.25  # JPEG, and a resampling
        mine = back.tracks.view_ids == i
        seen = view.world_from_cam.inverse().apply(back.points.positions[back.tracks.point_ids[mine]].double())
        assert float((view.camera.project(seen) - back.tracks.pixels[mine]).abs().max()) < 2e-3
    with pytest.raises(SplatError, match="no photo has a pose"):
        write_colmap(read(tmp_path / "in", ReadOptions(ignore_poses=True)), tmp_path / "none")


# ----------------------------------------------------------------------------------------------------- transforms.json


def test_frames_without_a_photo_are_counted_or_an_error(tmp_path: Path, scene: Scene) -> None:
    write_transforms(scene, tmp_path)
    scene.write_photos(tmp_path / "images")
    remove(tmp_path / "images", "shot_02.png", "shot_05.png")
    report = Silent()
    assert len(read(tmp_path, ReadOptions(), report).views) == 4
    assert len(report.warnings) == 1
    assert "2 of the 6 photos" in report.warnings[0] and "images/shot_02.png" in report.warnings[0]
    remove(tmp_path / "images", *(f"shot_0{i}.png" for i in (0, 1, 3, 4)))
    with pytest.raises(SplatError, match=r"None of the 6 photos .*transforms\.json.*first: images/shot_00\.png"):
        read(tmp_path)


def test_file_lists_of_the_dataset_give_the_roles(tmp_path: Path, scene: Scene) -> None:
    data = write_transforms(scene, tmp_path)
    scene.write_photos(tmp_path / "images")
    files = [f"images/shot_{i:02d}.png" for i in range(6)]
    data |= {"train_filenames": files[:3], "val_filenames": files[3:4], "test_filenames": files[4:5]}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    roles = {v.name: v.role for v in read(tmp_path).views}
    assert roles == {**{f"shot_{i:02d}.png": "train" for i in range(3)}, "shot_04.png": "test"}
    (tmp_path / "split.json").write_text(json.dumps({"train": ["shot_00.png", "shot_04.png"], "test": ["shot_02"]}))
    roles = {v.name: v.role for v in read(tmp_path).views}
    assert roles == {"shot_00.png": "train", "shot_02.png": "test", "shot_04.png": "train"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frames": []}, '"frames"'),
        ({"frames": [{"transform_matrix": []}]}, '"file_path"'),
        ({"fl_x": None, "fl_y": None}, "no focal length .*shot_00.png"),
        ({"fl_x": "wide"}, "\"fl_x\" is 'wide'"),
        ({"camera_model": "EQUIRECTANGULAR"}, "cameras of type EQUIRECTANGULAR"),
        ({"camera_angle_x": 9.0, "fl_x": None, "fl_y": None}, '"camera_angle_x"'),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, scene: Scene, change: dict, said: str) -> None:
    write_transforms(scene, tmp_path, **change)
    scene.write_photos(tmp_path / "images")
    with pytest.raises(SplatError, match=said) as caught:
        read(tmp_path)
    assert "transforms.json" in str(caught.value) and "\n" not in str(caught.value)
    assert not read(tmp_path, ReadOptions(ignore_poses=True)).posed


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (None, "there is no"),
        ([[1, 0], [0, 1]], "not 4x4"),
        ([[1, 0, 0, "a"]] * 4, "not a matrix of numbers"),
        (np.diag([1.0, 1, -1, 1]).tolist(), "mirrors the scene"),
        (np.diag([1.0, 2, 1, 1]).tolist(), "not a rotation"),
        (np.zeros((4, 4)).tolist(), "not a rotation"),
    ],
)
def test_a_wrong_pose_leaves_its_photo_out_and_is_named(
    tmp_path: Path, scene: Scene, matrix: list | None, said: str
) -> None:
    data = write_transforms(scene, tmp_path)
    scene.write_photos(tmp_path / "images")
    data["frames"][2]["transform_matrix"] = matrix
    if matrix is None:
        del data["frames"][2]["transform_matrix"]
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    report = Silent()
    assert [v.name for v in read(tmp_path, ReadOptions(), report).views] == [
        f"shot_{i:02d}.png" for i in (0, 1, 2, 4, 5)
    ]
    assert len(report.warnings) == 1 and "shot_03.png" in report.warnings[0] and said in report.warnings[0]


def test_a_pose_that_is_not_finite_leaves_its_photo_out(tmp_path: Path, scene: Scene) -> None:
    data = write_transforms(scene, tmp_path)
    scene.write_photos(tmp_path / "images")
    data["frames"][2]["transform_matrix"][0][3] = float("nan")
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    report = Silent()
    assert len(read(tmp_path, ReadOptions(), report).views) == 5
    assert "shot_03.png" in report.warnings[0]


def test_malformed_json_is_named_with_its_line(tmp_path: Path, scene: Scene) -> None:
    write_transforms(scene, tmp_path)
    text = (tmp_path / "transforms.json").read_text()
    (tmp_path / "transforms.json").write_text("{\n" + text[2:300])
    scene.write_photos(tmp_path / "images")
    with pytest.raises(SplatError, match=r"transforms\.json is not valid JSON \(line 2"):
        read(tmp_path)
    assert len(read(tmp_path, ReadOptions(ignore_poses=True)).views) == 6


def test_a_transform_that_is_no_similarity_is_ignored_aloud(tmp_path: Path, scene: Scene) -> None:
    write_transforms(scene, tmp_path, applied_transform=np.diag([1.0, 2.0, 1.0, 1.0])[:3].tolist())
    scene.write_photos(tmp_path / "images")
    report = Silent()
    capture = read(tmp_path, ReadOptions(), report)
    assert "applied_transform" in report.warnings[0]
    assert torch.equal(capture.world_from_source.matrix(), torch.eye(4, dtype=torch.float64))


def test_missing_points_are_a_warning(tmp_path: Path, scene: Scene) -> None:
    write_transforms(scene, tmp_path)
    scene.write_photos(tmp_path / "images")
    remove(tmp_path, "sparse_pc.ply")
    report = Silent()
    assert read(tmp_path, ReadOptions(), report).points is None
    assert "sparse_pc.ply" in report.warnings[0]


# ------------------------------------------------------------------------------------------------------- the other two


def test_the_files_of_a_synthetic_scene_give_the_roles(tmp_path: Path) -> None:
    write_blender(make_scene(centred(width=60, height=44, fx=50, fy=50, cx=30, cy=22, alpha=True), views=6), tmp_path)
    capture = read(tmp_path)
    assert [(v.name, v.role) for v in capture.views] == [
        *((f"train/r_{i}.png", "train") for i in range(2, 6)),
        *((f"test/r_{i}.png", "test") for i in range(2)),
    ]
    assert capture.points is None and capture.views[0].load().alpha is not None
    photos = read(tmp_path, ReadOptions(ignore_poses=True))
    assert not photos.posed and len(photos.test_views) == 2 and photos.views[0].focal_from == "guess"
    (tmp_path / "transforms_test.json").rename(tmp_path / "transforms_val.json")
    assert len(read(tmp_path).test_views) == 2


def test_llff_poses_must_match_their_photos(tmp_path: Path, scene: Scene) -> None:
    write_llff(scene, tmp_path)
    with pytest.raises(SplatError, match="no photos"):
        read(tmp_path)
    scene.write_photos(tmp_path / "images")
    remove(tmp_path / "images", "shot_03.png")
    with pytest.raises(SplatError, match=r"poses_bounds\.npy has 6 poses for 5 photos in .*images.*--ignore-poses"):
        read(tmp_path)
    assert len(read(tmp_path, ReadOptions(ignore_poses=True)).views) == 5
    for content, said in [
        (np.zeros((5, 15)), r"has \(5, 15\) values"),
        (np.full((5, 17), np.nan), "finite"),
        (np.ones((5, 17)), "no rotations"),
    ]:
        np.save(tmp_path / "poses_bounds.npy", content)
        with pytest.raises(SplatError, match=f"poses_bounds.npy {said}|poses_bounds.npy .*{said}"):
            read(tmp_path)
    (tmp_path / "poses_bounds.npy").write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(SplatError, match=r"poses_bounds\.npy cannot be read"):
        read(tmp_path)


def test_of_several_sizes_llff_takes_a_comfortable_one(tmp_path: Path, scene: Scene) -> None:
    write_llff(scene, tmp_path)
    rng = np.random.default_rng(0)
    for folder, side in (("images", 3000), ("images_4", 750), ("images_8", 375)):
        (tmp_path / folder).mkdir()
        for stem in scene.stems:
            noise = Image.fromarray(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8))
            noise.resize((side, round(side * 44 / 60)), Image.Resampling.BILINEAR).save(
                tmp_path / folder / f"{stem}.jpg"
            )
    assert read(tmp_path).views[0].photo_size[0] == 750
    assert read(tmp_path, ReadOptions(images="images_8")).views[0].photo_size[0] == 375
