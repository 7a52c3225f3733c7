"""The pose comparison finds exactly the error that was put in, whatever frame the run is in."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scripted import script

from splat.core.errors import SplatError
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle


@pytest.fixture(scope="module", name="script")
def pose_accuracy() -> ModuleType:
    return script("pose_accuracy")


def ring(n: int = 12) -> dict[str, Rigid]:
    angles = torch.linspace(0, 5, n)
    eyes = torch.stack([4 * angles.cos(), 4 * angles.sin(), 0.2 * angles], 1)
    up = torch.tensor([0.0, 0.0, 1.0])
    return {f"{i:04d}.jpg": Rigid.look_at(eye, torch.zeros(3), up) for i, eye in enumerate(eyes)}


FRAME = Similarity(
    0.03, rotation_from_axis_angle(torch.tensor([0.4, -2.0, 1.0]).double()), torch.tensor([9.0, -3.0, 2.0]).double()
)


def write_run(folder: Path, poses: dict[str, Rigid]) -> None:
    (folder / "export").mkdir(parents=True)
    views = [{"name": n, "world_from_cam": p.matrix().tolist()} for n, p in poses.items()]
    (folder / "export" / "cameras.json").write_text(json.dumps({"views": views}))


def test_the_same_cameras_in_another_frame_have_no_error(tmp_path: Path, script: ModuleType) -> None:
    truth = ring()
    write_run(tmp_path, {n: FRAME.apply_pose(p) for n, p in truth.items()})
    figures = script.compare(script.read_poses(tmp_path), truth, 1000.0)
    assert figures["cameras"] == 12
    assert figures["max_mm"] < 1e-6
    assert figures["max_degrees"] < 1e-4


def test_an_error_is_measured_in_units_of_the_truth(tmp_path: Path, script: ModuleType) -> None:
    """Pairs of opposite errors leave the alignment alone, to first order: every camera is 10 mm off."""
    truth = ring(40)
    signs = [(-1) ** i * torch.tensor([0.0, 0.0, 0.01], dtype=torch.float64) for i in range(40)]
    moved = {n: Rigid(p.rotation, p.translation + s) for (n, p), s in zip(truth.items(), signs)}
    figures = script.compare({n: FRAME.apply_pose(p) for n, p in moved.items()}, truth, 1000.0)
    assert figures["median_mm"] == pytest.approx(10, rel=0.05)


def test_surveyed_camera_files_point_at_the_fountain(data_root: Path, script: ModuleType) -> None:
    """All eleven see one common place ahead of them, which a wrong reading of the rotation would not give."""
    truth = script.read_poses(data_root / "fountain_P11")
    assert len(truth) == 11
    centres = torch.stack([p.translation for p in truth.values()])
    ahead = torch.stack([p.rotation[:, 2] for p in truth.values()])
    # least-squares meeting point of the optical axes
    across = torch.eye(3, dtype=torch.float64) - ahead[:, :, None] * ahead[:, None, :]
    meeting = torch.linalg.solve(across.sum(0), (across @ centres[:, :, None]).sum(0))[:, 0]
    depths = ((meeting - centres) * ahead).sum(1)
    assert (depths > 2).all()
    assert ((meeting - centres) - depths[:, None] * ahead).norm(dim=1).max() < 3


def test_too_few_common_photos_are_named(script: ModuleType) -> None:
    with pytest.raises(SplatError, match="names"):
        script.compare(ring(), {f"other-{n}": p for n, p in ring().items()}, 1000.0)


def test_a_folder_without_cameras_is_named(tmp_path: Path, script: ModuleType) -> None:
    with pytest.raises(SplatError, match=r"cameras\.json"):
        script.read_poses(tmp_path)
