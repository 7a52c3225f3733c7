"""COLMAP models and transforms.json of a capture, read again by this program and by pycolmap."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from noting import Noting
from PIL import Image

from splat.core.camera import Lens
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle
from splat.core.lens import pinhole_for
from splat.core.slots import ReadOptions, Silent
from splat.export.colmap_model import write_colmap_model
from splat.export.transforms_json import write_transforms
from splat.ingest import read

LENSES = {
    "SIMPLE_RADIAL": (210.0, 121.0, 79.0, 0.05),
    "OPENCV": (210.0, 205.0, 121.0, 79.0, 0.05, -0.01, 0.002, -0.001),
    "FULL_OPENCV": (210.0, 205.0, 121.0, 79.0, 0.05, -0.01, 0.002, -0.001, 0.003, 0.01, 0.02, 0.0),
    "OPENCV_FISHEYE": (210.0, 205.0, 121.0, 79.0, 0.02, -0.01, 0.002, -0.001),
    "PINHOLE": (210.0, 205.0, 121.0, 79.0),
}
WIDTH, HEIGHT = 240, 160


def capture(root: Path, model: str, orientation: int = 1, mask: bool = False) -> Capture:
    """Four photos with a lens and random poses, in a world frame that is not the source frame."""
    generator = torch.Generator().manual_seed(4)
    lens = Lens(model, LENSES[model], WIDTH, HEIGHT)
    pinhole = pinhole_for(lens)
    world_from_source = Similarity(
        0.37, rotation_from_axis_angle(torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)), torch.tensor([1.0, 2, 3])
    )
    world_from_source = replace(world_from_source, translation=world_from_source.translation.double())
    views = []
    for i in range(4):
        path = root / "photos" / f"photo {i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
        Image.new("RGB", stored, (90, 40 * i, 60)).save(path, exif=exif)
        mask_path = None
        if mask:
            mask_path = root / "masks" / f"{i}.png"
            mask_path.parent.mkdir(exist_ok=True)
            Image.new("L", stored, 255).save(mask_path)
        turn = rotation_from_axis_angle(torch.randn(3, generator=generator, dtype=torch.float64))
        views.append(
            View(
                name=path.name,
                image_path=path,
                photo_size=(WIDTH, HEIGHT),
                camera=pinhole.resized(
                    round(pinhole.width / 2), round(pinhole.height / 2)
                ),  # training was at half size
                world_from_cam=Rigid(turn, torch.randn(3, generator=generator, dtype=torch.float64)),
                role="test" if i == 2 else "train",
                mask_path=mask_path,
            )
        )
    points = PointCloud(torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.rand(6, 3))
    pixels = torch.tensor([[30.0, 20.0], [60.0, 50.0], [90.0, 10.0]])
    tracks = Tracks(torch.tensor([0, 1, 1]), torch.tensor([2, 2, 5]), pixels)
    return Capture(tuple(views), points, tracks, world_from_source)


def same_cameras(found: Capture, made: Capture, rtol: float = 1e-9) -> None:
    by_name = {Path(v.name).name: v for v in found.views}
    source = made.transformed(made.world_from_source.inverse())
    for expected in source.views:
        v = by_name[expected.name]
        full = expected.camera.resized(v.camera.width, v.camera.height)
        values = [[getattr(c, k) for k in ("fx", "fy", "cx", "cy")] for c in (v.camera, full)]
        np.testing.assert_allclose(*values, rtol=rtol)
        np.testing.assert_allclose(v.pose.matrix(), expected.pose.matrix(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("model", LENSES)
def test_a_colmap_model_comes_back_with_its_lenses(tmp_path: Path, model: str, text: bool) -> None:
    made = capture(tmp_path, model)
    assert write_colmap_model(tmp_path / "sparse" / "0", made, Silent(), text) == 4
    assert (tmp_path / "sparse" / "0" / f"images.{'txt' if text else 'bin'}").is_file()
    found = read(tmp_path, ReadOptions(images="photos", test_every=None), Silent())
    same_cameras(found, made)
    lenses = {v.camera.lens for v in found.views}
    assert lenses == ({None} if model == "PINHOLE" else {Lens(model, LENSES[model], WIDTH, HEIGHT)})
    assert found.points is not None and found.tracks is not None and made.points is not None
    back = made.world_from_source.inverse().apply(made.points.positions)
    torch.testing.assert_close(found.points.positions.double(), back, rtol=1e-6, atol=1e-6)
    # keypoints went through the lens and back
    assert made.tracks is not None
    a, b = found.views[0].camera, made.views[0].camera
    scale = torch.tensor([a.width / b.width, a.height / b.height])
    torch.testing.assert_close(found.tracks.pixels, scale * made.tracks.pixels, rtol=1e-4, atol=1e-3)


def test_pycolmap_reads_the_model(tmp_path: Path) -> None:
    made = capture(tmp_path, "OPENCV")
    write_colmap_model(tmp_path / "m", made, Silent())
    model = pycolmap.Reconstruction(tmp_path / "m")
    assert model.num_reg_images() == 4 and model.num_points3D() == 6 and len(model.cameras) == 1
    assert list(model.cameras[1].params) == list(LENSES["OPENCV"]) and model.cameras[1].model.name == "OPENCV"


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("writer", ["colmap", "transforms"])
def test_cameras_are_of_the_pixels_as_stored(tmp_path: Path, orientation: int, writer: str) -> None:
    made = capture(tmp_path, "OPENCV", orientation)
    if writer == "colmap":
        write_colmap_model(tmp_path / "sparse" / "0", made, Silent())
        lens = pycolmap.Reconstruction(tmp_path / "sparse" / "0").cameras[1]
        size = lens.width, lens.height
    else:
        write_transforms(tmp_path / "transforms.json", made, Silent())
        data = json.loads((tmp_path / "transforms.json").read_text())
        size = data["w"], data["h"]
    assert size == ((WIDTH, HEIGHT) if orientation == 3 else (HEIGHT, WIDTH))
    same_cameras(read(tmp_path, ReadOptions(images="photos", test_every=None), Silent()), made, 1e-7)


@pytest.mark.parametrize("model", LENSES)
def test_transforms_come_back_with_lenses_masks_and_roles(tmp_path: Path, model: str) -> None:
    made = capture(tmp_path, model, mask=True)
    out = tmp_path / "out" / "transforms.json"
    assert write_transforms(out, made, Silent()) == 4
    found = read(out, ReadOptions(), Silent())
    same_cameras(found, made)
    assert [v.role for v in found.views] == ["train", "train", "test", "train"]
    assert all(v.mask_path is not None and v.mask_path.is_file() for v in found.views)
    assert found.points is not None and len(found.points) == 6


def test_transforms_have_opengl_axes_and_paths_relative_to_the_file(tmp_path: Path) -> None:
    made = capture(tmp_path, "SIMPLE_RADIAL")
    pose = Rigid(torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 2, 3], dtype=torch.float64))
    made = replace(
        made.with_views((replace(made.views[0], world_from_cam=pose),)), world_from_source=Similarity.identity()
    )
    write_transforms(tmp_path / "out" / "transforms.json", replace(made, tracks=None), Silent())
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    (frame,) = data["frames"]
    # +x right, +y up, +z back, seen from a camera with +x right, +y down, +z ahead
    assert frame["transform_matrix"] == [[1, 0, 0, 1], [0, -1, 0, 2], [0, 0, -1, 3], [0, 0, 0, 1]]
    assert frame["file_path"] == "../photos/photo 0.jpg" and data["camera_model"] == "OPENCV"
    assert (data["fl_x"], data["fl_y"], data["k1"], data["k2"]) == (210.0, 210.0, 0.05, 0.0)


def test_what_the_format_cannot_say_is_named(tmp_path: Path) -> None:
    made = capture(tmp_path, "OPENCV", mask=True)
    views = tuple(replace(v, invert_mask=True) for v in made.views)
    report = Noting()
    write_transforms(tmp_path / "transforms.json", made.with_views(views), report)
    assert any("masks of 4 photos" in w for w in report.warnings)
    lens = Lens("FOV", (210.0, 205.0, 121.0, 79.0, 0.9), WIDTH, HEIGHT)
    views = tuple(replace(v, camera=replace(v.camera, lens=lens)) for v in made.views)
    with pytest.raises(SplatError, match="FOV"):
        write_transforms(tmp_path / "transforms.json", made.with_views(views), report)
    with pytest.raises(SplatError, match="pose"):
        write_colmap_model(
            tmp_path / "m", made.with_views(tuple(replace(v, world_from_cam=None) for v in made.views)), report
        )
