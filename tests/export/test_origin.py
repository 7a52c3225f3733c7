"""Coordinates far from the origin (UTM) survive export, conversion and reading to a fraction of a millimetre."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import hostile
import numpy as np
import oracles
import pytest
import torch
from street import QUICK, street, transforms, write_photos

from splat.commands.convert import Convert
from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid, needs_local_origin
from splat.core.ply import read_ply, read_ply_header, write_ply
from splat.core.slots import Codec, Silent, SplatFile
from splat.export import CODECS, load_splat, read_splat, save_splat
from splat.export.colmap_model import write_colmap
from splat.export.header import header_of, offset_of, tidy, with_offset
from splat.export.ply_rows import vertex_rows
from splat.export.sidecar import from_original_frame, local_origin, to_original_frame, write_sidecar
from splat.export.spz import SpzCodec
from splat.ingest import read
from splat.poses.normalize import normalize
from splat.run.trained import Trained
from splat.stages.export import write_cameras, write_splats

UTM = torch.tensor([500000.25, 4649776.5, 2350.75], dtype=torch.float64)
"""With an altitude."""
EACH = pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)


def survey(shift: torch.Tensor = UTM, points: int = 300, size: float = 1.0) -> Capture:
    """Cameras on a ring about points within `size` units, all of it moved by `shift`; float64."""
    generator = torch.Generator().manual_seed(2)
    up = torch.tensor([0.0, 0.0, 1.0])
    views = []
    for i in range(8):
        angle = torch.tensor(2 * torch.pi * i / 8)
        eye = size * torch.stack([3 * angle.cos(), 3 * angle.sin(), torch.tensor(1.5)]).double()
        pose = Rigid.look_at(eye, torch.zeros(3), up)
        pose = Rigid(pose.rotation, pose.translation + shift)
        views.append(View(f"{i}.png", Path(f"{i}.png"), (40, 30), Camera(50.0, 50.0, 20.0, 15.0, 40, 30), pose))
    positions = size * torch.randn(points, 3, generator=generator, dtype=torch.float64)
    return Capture(tuple(views), points=PointCloud(positions + shift, torch.rand(points, 3, generator=generator)))


def prepared(shift: torch.Tensor = UTM, size: float = 1.0) -> tuple[Capture, torch.Tensor]:
    """A capture as training sees it, and the true positions of its points in the source frame."""
    from splat.ingest import _near_origin

    capture = survey(shift, size=size)
    assert capture.points is not None
    return normalize(_near_origin(capture, Silent())), capture.points.positions


def on_points(capture: Capture, scale: float = 0.01) -> Gaussians:
    """A Gaussian on each point, in the frame of training."""
    assert capture.points is not None
    g = oracles.random_gaussians(len(capture.points), torch.Generator().manual_seed(5), 1, dtype=torch.float32)
    sizes = torch.full_like(g.log_scales, scale).log()
    return replace(g, means=capture.points.positions.float(), log_scales=sizes)


def absolute(splat: SplatFile) -> torch.Tensor:
    return splat.gaussians.means.double() + torch.tensor(offset_of(splat.header), dtype=torch.float64)


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest distance from a true position to the nearest that was found."""
    return float(torch.cdist(truth - UTM, found - UTM).amin(1).max())


def written(folder: Path, capture: Capture) -> Path:
    trained = Trained(on_points(capture), {}, {}, torch.zeros(3), 1.0, 0, [])
    write_splats(folder, capture, trained, False, Silent())
    return folder / "splat.ply"


def test_neighbouring_gaussians_keep_their_distances_far_from_the_origin(tmp_path: Path) -> None:
    capture, truth = prepared()
    splat = read_splat(written(tmp_path, capture))
    assert offset_of(splat.header) != (0, 0, 0)
    assert float((absolute(splat) - truth).abs().max()) < 1e-5
    apart = torch.cdist(truth - UTM, truth - UTM)
    found = torch.cdist(splat.gaussians.means.double(), splat.gaussians.means.double())
    assert float((apart - found).abs().max()) < 1e-5
    assert splat.gaussians.means.abs().max() < 20


@pytest.mark.parametrize("axis", range(3))
def test_each_coordinate_is_put_back_to_its_place(tmp_path: Path, axis: int) -> None:
    """East, north and altitude, one alone."""
    shift = torch.zeros(3, dtype=torch.float64)
    shift[axis] = -123456.5
    capture, truth = prepared(shift)
    assert float((absolute(read_splat(written(tmp_path, capture))) - truth).abs().max()) < 1e-5
    undo = capture.world_from_source.inverse()
    centres = torch.stack([undo.apply_pose(v.pose).translation for v in capture.views])
    assert torch.allclose(centres, survey(shift).camera_centres(), atol=1e-7)


def test_the_far_shift_of_a_dataset_is_undone(tmp_path: Path) -> None:
    names = [f"images/{i}.jpg" for i in range(8)]
    write_photos(tmp_path, names)
    data = transforms(names)
    for frame in data["frames"]:
        for k in range(3):
            frame["transform_matrix"][k][3] += float(UTM[k])
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    report = Silent()
    capture = normalize(read(tmp_path, report=report))
    assert capture.camera_centres().norm(dim=1).max() < 3
    undo = capture.world_from_source.inverse()
    for view, true in zip(capture.views, street()):
        centre = torch.from_numpy(-true.rotation.T @ true.translation) + UTM
        assert torch.allclose(undo.apply_pose(view.pose).translation, centre, atol=1e-7)


def test_near_the_origin_nothing_is_added(tmp_path: Path) -> None:
    """The same files as ever: no comment, no key, float32 points."""
    capture, truth = prepared(torch.tensor([12.0, -7.0, 400.0], dtype=torch.float64))
    splat = written(tmp_path, capture)
    assert local_origin(capture) == (0, 0, 0)
    assert read_ply_header(splat).comments == ("Generated by splat", "SplatRenderMode: default")
    assert "offset" not in (tmp_path / "splat.frame.json").read_text()
    assert read_ply(tmp_path / "points_sfm.ply")["vertex"].dtype["x"] == np.float32
    assert float((load_splat(splat).means - truth).abs().max()) < 1e-4
    write_cameras(tmp_path / "cameras.json", capture)
    assert list(json.loads((tmp_path / "cameras.json").read_text())) == ["convention", "views"]


def test_the_origin_stands_in_the_header_and_the_sidecars(tmp_path: Path) -> None:
    capture, _ = prepared()
    splat = written(tmp_path, capture)
    offset = offset_of(read_splat(splat).header)
    assert offset == local_origin(capture) and all(v == round(v) for v in offset)
    assert f"offset {offset[0]:.0f} {offset[1]:.0f} {offset[2]:.0f}" in read_ply_header(splat).comments
    assert json.loads((tmp_path / "splat.frame.json").read_text())["offset"] == list(offset)
    write_cameras(tmp_path / "cameras.json", capture)
    cameras = json.loads((tmp_path / "cameras.json").read_text())
    centre = torch.tensor(cameras["views"][2]["world_from_cam"], dtype=torch.float64)[:3, 3]
    assert cameras["splat_offset"] == list(offset)
    assert torch.allclose(centre, survey().camera_centres()[2], atol=1e-7)
    sidecar = json.loads(write_sidecar(tmp_path / "w.ply", capture, "world").read_text())
    assert "offset" not in sidecar


def test_point_clouds_far_from_the_origin_have_doubles(tmp_path: Path) -> None:
    capture, truth = prepared()
    written(tmp_path, capture)
    for name, count in (("points_sfm.ply", 300), ("points.ply", 1)):
        rows = read_ply(tmp_path / name)["vertex"]
        assert rows.dtype["x"] == rows.dtype["y"] == rows.dtype["z"] == np.float64 and len(rows) >= count
        found = torch.from_numpy(np.stack([rows[a] for a in "xyz"], 1))
        nearest = torch.cdist(found - UTM, truth - UTM).amin(1)
        assert float(nearest.max()) < 1e-5


def test_colmap_points_far_from_the_origin_have_doubles(tmp_path: Path) -> None:
    import pycolmap

    capture, truth = prepared()
    write_colmap(capture, tmp_path, photos=False)
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    found = torch.from_numpy(np.stack([model.points3D[i + 1].xyz for i in range(len(truth))]))
    assert float((found - truth).abs().max()) < 1e-5
    centres = np.stack([model.images[i + 1].projection_center() for i in range(8)])
    assert np.abs(centres - survey().camera_centres().numpy()).max() < 1e-6


@EACH
def test_every_format_keeps_the_origin_and_gives_it_back(codec: Codec, tmp_path: Path) -> None:
    capture, truth = prepared()
    splat = written(tmp_path, capture)
    other = tmp_path / f"other{codec.suffixes[0]}"
    Convert(splat, (other, tmp_path / "back.ply"))()
    Convert(other, (tmp_path / "again.ply",))()
    # half a step: 12 fraction bits, 16 bits of a logarithm, 11 bits of a chunk
    steps = {"spz": 3e-4, "sog": 5e-4, "sog-levels": 5e-4, "compressed-ply": 6e-3}
    tolerance = steps.get(codec.name, 1e-5)
    for path in (other, tmp_path / "again.ply"):
        assert error(absolute(read_splat(path)), truth) < tolerance
    assert read_splat(other).header["offset"] == read_splat(splat).header["offset"]
    # in the frame of training again, as `evaluate` and `render` draw it
    back = from_original_frame(read_splat(other), capture)
    assert capture.points is not None
    nearest = torch.cdist(capture.points.positions.double(), back.means.double()).amin(1)
    assert float(nearest.max()) < tolerance


def test_the_gzip_comment_of_spz_is_passed_over_by_other_readers(tmp_path: Path) -> None:
    g = oracles.random_gaussians(20, torch.Generator().manual_seed(0), dtype=torch.float32)
    third = SpzCodec(version=3)
    third.save(tmp_path / "a.spz", g, {}, Silent())
    third.save(tmp_path / "b.spz", g, with_offset({}, (500000.0, -0.125, 1e-3)), Silent())
    a, b = (gzip.decompress((tmp_path / f"{n}.spz").read_bytes()) for n in "ab")
    assert a == b and read_splat(tmp_path / "b.spz").header["offset"] == "500000 -0.125 0.001"


def test_a_dot_splat_has_its_origin_in_a_file_beside_it(tmp_path: Path) -> None:
    g = oracles.random_gaussians(20, torch.Generator().manual_seed(0), dtype=torch.float32)
    report = Silent()
    path = tmp_path / "a.splat"
    save_splat(path, g, with_offset({}, (5e5, 4.6e6, 100.0)), report)
    assert "cannot say where its origin is: a.splat.json" in report.warnings[0]
    assert offset_of(read_splat(path).header) == (5e5, 4.6e6, 100.0)
    save_splat(path, g)  # without an origin the old one must not stay
    assert read_splat(path).header == {} and not (tmp_path / "a.splat.json").exists()
    (tmp_path / "a.splat.json").write_text('{"file": "b.splat", "offset": [1, 2, 3]}')
    save_splat(path, g)
    assert read_splat(path).header == {} and (tmp_path / "a.splat.json").exists()


@pytest.mark.parametrize("text", ["[1, 2]", '["a", 2, 3]', "[1e400, 0, 0]", "7", "null", "[[1], 2, 3]", "[NaN, 0, 0]"])
def test_an_offset_that_is_none_is_passed_over(text: str, tmp_path: Path) -> None:
    meta, images = hostile.sog_parts()
    path = tmp_path / "a.sog"
    path.write_bytes(hostile.sog(json.dumps(meta)[:-1] + f', "offset": {text}}}', images))
    assert read_splat(path).header == {}
    assert header_of([f"offset {text}", "offset 1 2", "offset a b c", "offset nan 0 0", "offset 1e300 0 0"]) == {}


def test_doubles_of_another_program_are_read_about_a_local_origin(tmp_path: Path) -> None:
    capture, truth = prepared()
    rows = vertex_rows(on_points(capture))
    wide = np.empty(len(rows), [(n, "<f8" if n in "xyz" else "<f4") for n in rows.dtype.names or ()])
    for n in rows.dtype.names or ():
        wide[n] = truth[:, "xyz".index(n)].numpy() if n in "xyz" else rows[n]
    write_ply(tmp_path / "a.ply", {"vertex": wide})
    assert float((absolute(read_splat(tmp_path / "a.ply")) - truth).abs().max()) < 1e-5
    write_ply(tmp_path / "b.ply", {"vertex": wide}, ["offset 1000 0 -5"])
    moved = truth + torch.tensor([1000.0, 0, -5])
    assert float((absolute(read_splat(tmp_path / "b.ply")) - moved).abs().max()) < 1e-5
    report = Silent()
    load_splat(tmp_path / "a.ply", report)
    assert "the coordinates read are relative to that" in report.warnings[0]


def test_when_float32_is_too_coarse() -> None:
    assert needs_local_origin(4.7e6, 3.0) and needs_local_origin(5.0, 0.001)
    assert needs_local_origin(4.7e6, 5000.0)  # a survey of kilometres: steps of half a metre
    assert not needs_local_origin(400.0, 3.0) and not needs_local_origin(0.0, 0.0)
    assert not needs_local_origin(9000.0, 2000.0)  # an origin at hand would gain no digit
    assert tidy([4649776.5, -0.4, 12.34], 30.0) == (4649780.0, 0.0, 10.0)
    assert tidy([5.12345, 0.0, 0.0], 0.01) == (5.12, 0.0, 0.0)


@pytest.mark.parametrize("size", [1e-3, 1.0, 3000.0])
def test_small_and_large_scenes_far_away_lose_nothing(size: float, tmp_path: Path) -> None:
    capture, truth = prepared(size=size)
    assert float((absolute(read_splat(written(tmp_path, capture))) - truth).abs().max()) < 2e-6 * max(size, 1e-3)


def test_to_the_frame_of_the_file_and_back(tmp_path: Path) -> None:
    capture, _ = prepared()
    g = on_points(capture)
    offset = local_origin(capture)
    there = SplatFile(to_original_frame(g, capture, offset), with_offset({}, offset))
    back = from_original_frame(there, capture)
    assert torch.allclose(back.means, g.means, atol=1e-5) and torch.allclose(back.log_scales, g.log_scales, atol=1e-5)
    assert torch.allclose(back.covariances, g.covariances, atol=1e-8)
    with pytest.raises(SplatError, match="has no suffix"):
        Convert(tmp_path / "gone.ply", (tmp_path / "b.foo",))()


@pytest.mark.slow
def test_a_run_in_utm_measures_the_same_from_every_format(tmp_path: Path) -> None:
    from splat.__main__ import main

    names = [f"images/{i}.jpg" for i in range(8)]
    write_photos(tmp_path / "photos", names)
    data = transforms(names)
    for frame in data["frames"]:
        for k in range(3):
            frame["transform_matrix"][k][3] += float(UTM[k])
    (tmp_path / "photos" / "transforms.json").write_text(json.dumps(data))
    run, held_out = str(tmp_path / "run"), ("--heldout", "posed", "--test-every", "4")
    assert main(["reconstruct", str(tmp_path / "photos"), "--out", run, *QUICK, *held_out, "--quiet"]) == 0
    exported = tmp_path / "run" / "export" / "splat.ply"
    psnr = {}
    for codec in CODECS:
        other = tmp_path / f"b{codec.suffixes[0]}"
        assert main(["convert", str(exported), str(other)]) == 0
        main(["evaluate", run, "--splat", str(other), "--json", str(tmp_path / "figures.json")])
        psnr[codec.name] = json.loads((tmp_path / "figures.json").read_text())["psnr"]
    assert main(["render", run, "--splat", str(exported), "--path", "test", "--out", str(tmp_path / "drawn")]) == 0
    trained = json.loads((tmp_path / "run" / "metrics.json").read_text())["psnr"]
    assert psnr["ply"] == pytest.approx(trained, abs=0.02)
    assert min(psnr.values()) > trained - 0.6
