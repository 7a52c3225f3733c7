"""A run that has ended opens again, whichever version wrote it; anything else is one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import DepthMap, Init
from splat.run.arrays_io import save_init
from splat.run.capture_io import save_capture
from splat.run.completed import CompletedRun
from splat.run.outputs import content_hash
from splat.run.record import digest_of
from splat.run.trained import Trained, load_trained, save_trained


def trained() -> Trained:
    one = torch.ones(3, 3)
    gaussians = Gaussians(one, torch.ones(3, 4), -one, torch.zeros(3), torch.zeros(3, 1, 3))
    history = [{"step": 5, "evaluation": {"psnr": 9.0}, "gaussians": 3, "seconds": 1.0}]
    return Trained(gaussians, {"a.jpg": torch.eye(3, 4)}, {}, torch.zeros(3), 2.0, 7, history, 0.5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as version 0.1.0 left it."""
    pose = Rigid.from_matrix(torch.eye(4, dtype=torch.float64))
    view = View("a.jpg", tmp_path / "a.jpg", (80, 60), Camera(50.0, 50.0, 40.0, 30.0, 80, 60), pose)
    for stage in ("capture", "poses", "init", "train", "evaluate", "export"):
        (tmp_path / stage).mkdir()
        record = {"key": "0" * 16, "config": {}, "code": "0.1.0", "extent": None, "seconds": 1.0, "finished": True}
        (tmp_path / stage / "stage.json").write_text(json.dumps(record))
    save_capture(tmp_path / "poses", Capture((view,)))
    save_trained(tmp_path / "train", trained())
    (tmp_path / "config.json").write_text(json.dumps({"antialiased": True}))
    (tmp_path / "metrics.json").write_text(json.dumps({"resolution": [40, 30]}))
    return tmp_path


def test_a_run_of_version_0_1_0_opens(run: Path) -> None:
    opened = CompletedRun.open(run, "reference")
    assert opened.settings.mode == "antialiased"
    assert opened.capture.views[0].camera.width == 40
    torch.testing.assert_close(opened.trained.gaussians.means, trained().gaussians.means)


def test_what_training_left_is_the_same_when_it_is_read(run: Path) -> None:
    before, after = trained(), load_trained(run / "train")
    assert (after.steps, after.scene_extent, after.displacement) == (7, 2.0, 0.5)
    assert after.timeline == before.timeline
    torch.testing.assert_close(after.exposures["a.jpg"], before.exposures["a.jpg"])
    path = run / "train" / "trained.json"
    saved = json.loads(path.read_text())
    del saved["displacement"]
    path.write_text(json.dumps(saved))
    assert load_trained(run / "train").displacement is None, "not every version wrote it"


def test_surroundings_are_kept_and_come_last_of_what_is_drawn(tmp_path: Path) -> None:
    plain = trained()
    assert plain.scene is plain.gaussians
    around = replace(plain.gaussians, means=9 + plain.gaussians.means)
    save_trained(tmp_path, replace(plain, gaussians=plain.gaussians.with_sh_degree(2), surroundings=around))
    after = load_trained(tmp_path)
    assert after.surroundings is not None and after.surroundings.sh_degree == 0 and len(after.gaussians) == 3
    assert after.scene.means[:, 0].tolist() == [1, 1, 1, 10, 10, 10] and after.scene.sh_degree == 2


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "poses/views.json", "train/trained.json"])
@pytest.mark.parametrize("text", [None, "[]", "{}", "3", '{"antial', "[" * 100_000, b"\xff\xfe\x00"])
def test_a_run_that_has_not_ended_or_is_damaged_is_one_sentence(run: Path, name: str, text: str | bytes | None) -> None:
    if text is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SplatError, match=r"run (that|the same `splat reconstruct`) again") as e:
        CompletedRun.open(run, "reference")
    assert name.split("/")[0] in str(e.value)


def test_arrays_cut_off_are_one_sentence(run: Path) -> None:
    path = run / "train" / "gaussians.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SplatError, match="train"):
        CompletedRun.open(run, "reference")


def keep_matched_depth(run: Path, trained_from: str | None = None) -> torch.Tensor:
    """Write the depth of the run's one photo beside its first Gaussians; returns it."""
    depth = torch.linspace(1, 2, 48).reshape(6, 8)
    normals = torch.tensor([0.0, 0.0, -1.0]).expand(6, 8, 3)
    path = run / "init" / "init.npz"
    save_init(path, Init(trained().gaussians, depths=(DepthMap(depth, torch.ones(6, 8), normals_cam=normals),)))
    outputs = {"init.npz": (path.stat().st_size, content_hash(path))}
    record = {"key": "0" * 16, "code": "a", "version": "1", "seconds": 1.0, "complete": True}
    (run / "init" / "stage.json").write_text(json.dumps(record | {"outputs": outputs}))
    inputs = {"init": trained_from or digest_of(outputs)}
    (run / "train" / "stage.json").write_text(json.dumps(record | {"inputs": inputs}))
    return depth


def test_depth_that_was_matched_before_training_is_read_back(run: Path) -> None:
    depth = keep_matched_depth(run)
    (found,) = CompletedRun.open(run, "reference").matched_depths()
    torch.testing.assert_close(found.depth, depth)
    assert bool((found.confidence == 1).all())


def test_matched_depth_that_is_missing_damaged_or_of_another_training_is_not_used(run: Path) -> None:
    assert CompletedRun.open(run, "reference").matched_depths() == (), "version 0.1.0 kept none"
    keep_matched_depth(run, trained_from="another")
    assert CompletedRun.open(run, "reference").matched_depths() == ()
    keep_matched_depth(run)
    path = run / "init" / "init.npz"
    path.write_bytes(path.read_bytes()[:-10])
    assert CompletedRun.open(run, "reference").matched_depths() == ()
