"""Poses from photos alone, against exact truth, then on a real capture."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import align_points
from splat.core.slots import PoseResult, Silent
from splat.poses import Sfm

QUICK = Sfm(attempts=1, max_features=1500)


def _errors(result: PoseResult, world) -> torch.Tensor:
    """Distance of every camera centre from the truth after alignment, as a share of the distance to the scene."""
    centres = world.centres([v.name for v in result.capture.views])
    found = align_points(result.capture.camera_centres(), centres).apply(result.capture.camera_centres())
    return (found - centres).norm(dim=1) / 4.0


def test_camera_centres_are_within_one_percent_of_the_truth(world, posed) -> None:
    assert [v.name for v in posed.capture.views] == [f"{i:03d}.png" for i in range(7)]
    assert posed.total == 11
    assert float(_errors(posed, world).max()) < 0.01


def test_the_guessed_focal_length_is_corrected(world, posed) -> None:
    view = posed.capture.views[0]
    # The crop that removes the lens keeps the angle per pixel nearly as it was.
    assert view.camera.fx / view.camera.width * 400 == pytest.approx(world.camera.fx, rel=0.04)


def test_points_project_to_where_they_were_seen(posed) -> None:
    capture = posed.capture
    assert capture.points is not None and capture.tracks is not None and len(capture.points) > 200
    errors = []
    for i, view in enumerate(capture.views):
        seen = capture.tracks.view_ids == i
        points = capture.points.positions[capture.tracks.point_ids[seen]].double()
        pixels = view.camera.project(view.world_from_cam.inverse().apply(points))
        errors.append((pixels - capture.tracks.pixels[seen].double()).norm(dim=1))
    assert float(torch.cat(errors).median()) < 0.7


def test_points_carry_the_colour_of_the_photos(posed) -> None:
    capture = posed.capture
    view, photo = capture.views[0], capture.views[0].load()
    seen = capture.tracks.view_ids == 0
    at = capture.tracks.pixels[seen].long()
    inside = (at >= 0).all(1) & (at[:, 0] < view.camera.width) & (at[:, 1] < view.camera.height)
    there = torch.from_numpy(photo.rgb)[at[inside][:, 1], at[inside][:, 0]].float() / 255
    mine = capture.points.rgb[capture.tracks.point_ids[seen][inside]]
    assert float((mine - there).abs().median()) < 0.08


def test_every_unregistered_photo_has_its_reason(posed) -> None:
    elsewhere = {f"elsewhere{i}.png" for i in (1, 2, 3)}
    assert set(posed.unregistered) == elsewhere | {"wall.png"}
    assert all("separate group of 3 photos" in posed.unregistered[name] for name in elsewhere)
    assert "little texture" in posed.unregistered["wall.png"]


def test_a_right_model_raises_no_warnings(posed) -> None:
    assert posed.warnings == ()


def test_a_folded_model_is_contradicted_by_its_own_pairs(world, attempt) -> None:
    import pycolmap

    from splat.poses.doubts import duplicated_surfaces, inconsistent_rotations
    from splat.poses.evidence import pair_evidence
    from splat.poses.model import observations

    own = [e.rotation_error for e in attempt.settled.evidence if e.rotation_error is not None]
    assert attempt.trusted and len(own) > 5 and max(own) < 3
    folded = pycolmap.Reconstruction(attempt.model)
    half_a_radian = pycolmap.Rotation3d(np.array([0.0, np.sin(0.25), 0.0, np.cos(0.25)]))
    for i in (1, 2, 3):  # the first three photos, turned about the origin together
        frame = folded.frame(folded.image(i).frame_id)
        frame.rig_from_world = frame.rig_from_world * pycolmap.Rigid3d(half_a_radian, np.zeros(3))
    evidence = pair_evidence(
        world.capture, folded, attempt.features, attempt.geometries, observations(attempt.model), seed=0
    )
    assert "turned" in (inconsistent_rotations(evidence) or "")
    points = observations(attempt.model)
    points = points.select(np.arange(len(points.xyz)) < 3)  # as if every pair had points of its own
    evidence = pair_evidence(world.capture, folded, attempt.features, attempt.geometries, points, seed=0)
    assert "twice" in (duplicated_surfaces(evidence) or "")
    evidence = pair_evidence(world.capture, attempt.model, attempt.features, attempt.geometries, points, seed=0)
    assert duplicated_surfaces(evidence) is None  # the poses explain the matches: points alone are no contradiction


def test_the_frame_is_upright(posed) -> None:
    up_of_cameras = torch.stack([-v.world_from_cam.rotation[:, 1] for v in posed.capture.views]).mean(0)
    assert float(up_of_cameras @ torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)) > 0.97
    assert posed.details["up"] == [0.0, -1.0, 0.0]


def test_the_same_photos_give_the_same_bits(world, tmp_path: Path) -> None:
    photos = world.photos([1, 3, 5])
    first = QUICK(photos, tmp_path / "a", Silent()).capture
    second = QUICK(photos, tmp_path / "b", Silent()).capture
    assert torch.equal(first.camera_centres(), second.camera_centres())
    assert torch.equal(first.points.positions, second.points.positions)
    assert first.views[0].camera == second.views[0].camera


def test_two_photos_are_enough(world, sfm_folder: Path) -> None:
    result = QUICK(world.photos([2, 4]), sfm_folder, Silent())
    assert len(result.capture.views) == 2
    a, b = (v.world_from_cam for v in result.capture.views)
    true = world.truth[2].rotation.T @ world.truth[4].rotation
    angle = torch.arccos(((true.T @ a.rotation.T @ b.rotation).trace() - 1) / 2)
    assert float(torch.rad2deg(angle)) < 2.5
    assert len(result.capture.points) > 100


def test_a_photo_stored_on_its_side_is_turned_by_its_exif(world, sfm_folder: Path, tmp_path: Path) -> None:
    views = list(world.photos([1, 2, 3, 4]).views)
    upright = Image.open(views[1].image_path)
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to view
    path = tmp_path / "turned.jpg"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    assert Image.open(path).size == (300, 400)
    views[1] = replace(views[1], image_path=path)
    result = QUICK(Capture(tuple(views)), sfm_folder, Silent())
    assert len(result.capture.views) == 4
    assert float(_errors(result, world).max()) < 0.015


def test_features_are_sought_only_where_the_mask_is_white(world, tmp_path: Path) -> None:
    from splat.poses.features import FeatureSettings, extract

    mask = np.zeros((300, 400), np.uint8)
    mask[:, 250:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    view = replace(world.capture.views[0], mask_path=tmp_path / "mask.png")
    inverted = replace(view, invert_mask=True)
    right, left = extract((view, inverted), FeatureSettings(), tmp_path / "features", Silent(), 2)
    assert len(right) > 50 and float(right.xy[:, 0].min()) >= 249
    assert len(left) > 50 and float(left.xy[:, 0].max()) <= 251


def test_photos_of_different_places_are_one_sentence(world, sfm_folder: Path) -> None:
    with pytest.raises(SplatError, match="2 photos") as caught:
        QUICK(world.photos([0, 8]), sfm_folder, Silent())
    assert "overlap" in str(caught.value)
    with pytest.raises(SplatError, match="1 photo"):
        Sfm()(world.photos([0]), sfm_folder, Silent())


def test_a_folder_that_cannot_be_written_is_one_sentence(world, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SplatError, match="taken"):
        QUICK(world.photos([0, 1]), tmp_path / "taken", Silent())


def test_a_full_disk_is_one_sentence(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(SplatError, match="free some"):
        QUICK(world.photos([0, 1]), tmp_path / "a", Silent())
    monkeypatch.undo()
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SplatError, match="free some"):
        QUICK(world.photos([0, 1]), tmp_path / "b", Silent())


def test_features_are_computed_once(world, tmp_path: Path) -> None:
    photos = world.photos([2, 3])
    QUICK(photos, tmp_path, Silent())
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "features").glob("*.npz")}
    assert len(stamps) == 2
    QUICK(photos, tmp_path, Silent())
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "features").glob("*.npz")} == stamps


@pytest.mark.data
def test_all_eleven_photos_of_kermit_are_registered(data_root: Path, tmp_path: Path) -> None:
    from splat.core.slots import ReadOptions
    from splat.ingest import read

    folder = data_root / "kermit"
    if not folder.is_dir():
        pytest.skip(f"no capture at {folder}")
    result = QUICK(read(folder, ReadOptions(workdir=tmp_path), Silent()), tmp_path, Silent())
    assert len(result.capture.views) == result.total == 11
    assert result.warnings == ()
    assert result.details["reprojection_error"] < 1.0
