"""Geometry from another program: the same as in this process, checked, and one sentence for whatever goes wrong."""

from __future__ import annotations

import json
import shlex
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import planes
import pytest
import torch

from splat.core import licences
from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.estimates import GeometryEstimate, PriorInfo, ViewEstimate, check_estimate
from splat.core.licences import Provenance
from splat.core.slots import Priors, Reporter, Silent
from splat.init.background import BackgroundSurfaces
from splat.priors import AlignedDepth, EstimatedDepth, PriorCommand
from splat.priors.estimate_files import read_estimate

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(20.0), planes.walk(3)
FAKE = """
import json, sys
from pathlib import Path
import numpy as np
images, out = Path(sys.argv[1]), sys.argv[2]
views = json.loads((images / "cameras.json").read_text())["views"]
arrays = {"about": np.frombuffer(json.dumps({"name": "fake", "licence": LICENCE, "sha256": "ab12"}).encode(), np.uint8)}
for i, view in enumerate(views):
    assert (images / view["file"]).is_file()
    k, pose = np.array(view["intrinsics"]), np.array(view["cam_from_world"])
    y, x = np.mgrid[: view["height"], : view["width"]] + 0.5
    rays = np.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], np.ones_like(x)], -1)
    turned = rays @ pose[:3, :3]
    centre = -pose[:3, :3].T @ pose[:3, 3]
    normal, origin = np.array(NORMAL), np.array([0, 0, 4.0])
    depth = (origin - centre) @ normal / (turned @ normal)
    points = centre + turned * depth[..., None]
    facing = np.broadcast_to(pose[:3, :3] @ normal, rays.shape)
    arrays |= {f"depth_{i}": (0.5 * depth + 0.1).astype(np.float32), f"normals_{i}": facing.astype(np.float32)}
np.savez(out, **arrays)
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("command"))


def command(folder: Path, program: str, arguments: str = "{images} {out}") -> str:
    path = folder / "it's a prior.py"
    path.write_text(program)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {arguments}"


def fake(folder: Path, licence: str = "Apache-2.0") -> PriorCommand:
    return PriorCommand(
        command(folder, FAKE.replace("NORMAL", str(SCENE.normal.tolist())).replace("LICENCE", repr(licence)))
    )


class InProcess:
    """What the program does, here."""

    info = PriorInfo("fake", licence="Apache-2.0", needs_weights=False)

    def unavailable(self) -> str | None:
        return None

    def estimate(self, capture: Capture, report: Reporter, seed: int = 0) -> GeometryEstimate:
        views = []
        for view in capture.views:
            depth = SCENE.depth(view.camera, view.pose)
            facing = (view.pose.rotation.T @ SCENE.normal).float().expand(*depth.shape, 3)
            k, pose = view.camera.matrix().float(), view.pose.inverse().matrix().float()
            one = torch.ones(depth.shape)
            size = (view.camera.width, view.camera.height)
            value = (0.5 * depth + 0.1).float()
            views.append(ViewEstimate(value, one, one > 0, k, pose, size, normals_cam=facing.contiguous()))
        return GeometryEstimate(tuple(views), "affine", Provenance("fake", "Apache-2.0", "ab12"))


def test_the_same_estimate_in_another_process_gives_the_same_gaussians(capture: Capture, tmp_path: Path) -> None:
    matched = planes.TrueDepth(SCENE, confidence=0.3)
    results = []
    for prior in (fake(tmp_path), EstimatedDepth(InProcess())):
        maps = prior(capture, Silent())
        assert all(m.family == "up-to-scale" for m in maps)
        init = replace(BackgroundSurfaces(), budget=1000, matching_size=120)(
            capture, 0, 0, Silent(), Priors(AlignedDepth(matched, prior))
        )
        results.append((maps, init.gaussians))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert torch.allclose(a.depth, b.depth, atol=1e-5) and torch.allclose(a.normals_cam, b.normals_cam, atol=1e-6)
    assert len(results[0][1]) == len(results[1][1])
    assert torch.allclose(results[0][1].means, results[1][1].means, atol=1e-3)


def test_an_estimate_in_a_file_is_the_one_in_memory(capture: Capture, tmp_path: Path) -> None:
    """Bit for bit, through the file."""
    made = InProcess().estimate(capture, Silent())
    arrays: dict[str, np.ndarray] = {"about": np.frombuffer(b'{"name": "fake", "licence": "Apache-2.0"}', np.uint8)}
    for i, view in enumerate(made.views):
        assert view.normals_cam is not None
        arrays |= {f"depth_{i}": view.depth.numpy(), f"normals_{i}": view.normals_cam.numpy()}
    np.savez(tmp_path / "e.npz", **arrays)
    found = read_estimate(tmp_path / "e.npz", capture, "fake")
    for a, b in zip(made.views, found.views, strict=True):
        for name in ("depth", "confidence", "valid", "intrinsics", "cam_from_world", "normals_cam"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_what_was_used_is_recorded(capture: Capture, tmp_path: Path) -> None:
    with licences.recorded() as used:
        fake(tmp_path)(capture, Silent())
    (one,) = used
    assert (one["plug_in"], one["licence"], one["sha256"]) == ("fake", "Apache-2.0", "ab12") and one["seconds"] > 0


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit('no GPU here')", "no GPU here"),
        ("pass", "wrote no"),
        ("import sys; open(sys.argv[2], 'w').write('x')", "cannot be read as an estimate"),
        ("import sys, numpy; numpy.savez(sys.argv[2], depth_0=numpy.ones((90, 120)))", "depth_1 is missing"),
        ("import sys, numpy; numpy.savez(sys.argv[2], depth_0=numpy.ones((9, 120)))", "where its image is 120x90"),
        ("import sys, numpy; numpy.savez(sys.argv[2], depth_0=numpy.array([{}], object))", "numbers"),
    ],
)
def test_a_program_that_fails_is_one_sentence(capture: Capture, tmp_path: Path, program: str, words: str) -> None:
    with pytest.raises(SplatError, match=words) as found:
        PriorCommand(command(tmp_path, program))(capture, Silent())
    assert "\n" not in str(found.value) and len(str(found.value)) < 500


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("python x.py", "must name"),
        ("no-such-program-here {images} {out}", "not found"),
        ("python 'x {images} {out}", "close its quotes"),
    ],
)
def test_a_command_that_cannot_run_fails_before_anything_is_made(given: str, words: str) -> None:
    with pytest.raises(SplatError, match=words):
        PriorCommand(given).check()


def test_a_program_that_hangs_is_stopped_with_all_that_it_started(capture: Capture, tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\ntime.sleep(60)"
    )
    start = time.monotonic()
    with pytest.raises(SplatError, match="took more than 1 s"):
        replace(PriorCommand(command(tmp_path, program)), timeout=1.0)(capture, Silent())
    assert time.monotonic() - start < 10


def test_no_shell_reads_the_command(capture: Capture, tmp_path: Path) -> None:
    target = tmp_path / "made-by-a-shell"
    program = "import sys; raise SystemExit(repr(sys.argv[3:]))"
    with pytest.raises(SplatError, match="touch"):
        PriorCommand(command(tmp_path, program, "{images} {out} ; touch " + shlex.quote(str(target))))(
            capture, Silent()
        )
    assert not target.exists()


def test_a_commercial_run_needs_a_licence_that_allows_it(capture: Capture, tmp_path: Path) -> None:
    with licences.policy("commercial"):
        with pytest.raises(SplatError, match="name its licence with"):
            fake(tmp_path).check()
        allowed = replace(fake(tmp_path), licence="Apache-2.0")
        assert len(allowed(capture, Silent())) == 3
        with pytest.raises(SplatError, match="CC-BY-NC"):
            replace(fake(tmp_path, "CC-BY-NC-4.0"), licence="Apache-2.0")(capture, Silent())
    assert len(fake(tmp_path, "CC-BY-NC-4.0")(capture, Silent())) == 3


def test_archives_that_are_larger_than_they_say_are_refused(capture: Capture, tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    np.savez(path, depth_0=np.ones((90, 120), np.float32))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("about.npy", b"\x93NUMPY\x01\x00" + b"\xff\xff" + b"0" * 100)
    with pytest.raises(SplatError, match="cannot be read"):
        read_estimate(path, capture, "x")


# ----------------------------------------------------------------------------------------------------------- the check


def good(capture: Capture) -> GeometryEstimate:
    estimate = InProcess().estimate(capture, Silent())
    views = []
    for view, own in zip(estimate.views, capture.views, strict=True):
        z = view.depth.double()
        points = own.pose.apply(own.camera.unproject(own.camera.pixel_centres().double(), z)).float()
        views.append(replace(view, points=points))
    return replace(estimate, views=tuple(views))


def test_a_right_estimate_passes(capture: Capture) -> None:
    check_estimate(good(capture), [v.name for v in capture.views])


def _changed(view: ViewEstimate, name: str) -> ViewEstimate:
    depth, pose, k = view.depth.clone(), view.cam_from_world.clone(), view.intrinsics.clone()
    if name == "depth":
        depth[3, 4] = -1.0
    if name == "finite":
        depth[3, 4] = torch.nan
    if name == "rotation":
        pose[0, 0] += 0.05
    if name == "mirror":
        pose[:3, :3] *= -1
    if name == "focal":
        k[0, 0] = 0.0
    confidence = view.confidence * (2.0 if name == "confidence" else 1.0)
    points = view.points if name != "points" or view.points is None else view.points + torch.tensor([0.05, 0, 0])
    normals = view.normals_cam if name != "normals" or view.normals_cam is None else 2 * view.normals_cam
    return replace(
        view, depth=depth, cam_from_world=pose, intrinsics=k, confidence=confidence, points=points, normals_cam=normals
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *(("depth", "depth is not"), ("finite", "depth is not"), ("rotation", "rotation"), ("mirror", "determinant")),
        *(("focal", "focal"), ("confidence", "confidence"), ("points", "miss their own pixels"), ("normals", "length")),
    ],
)
def test_an_impossible_estimate_names_its_photo(capture: Capture, name: str, words: str) -> None:
    estimate = good(capture)
    views = list(estimate.views)
    views[1] = _changed(views[1], name)
    with pytest.raises(SplatError, match=words) as found:
        check_estimate(replace(estimate, views=tuple(views)), [v.name for v in capture.views])
    assert "1.png" in str(found.value)
    with pytest.raises(SplatError, match="2 views for 3"):
        check_estimate(replace(estimate, views=estimate.views[:2]), [v.name for v in capture.views])


def test_what_is_not_valid_is_not_checked(capture: Capture) -> None:
    estimate = good(capture)
    view = _changed(estimate.views[0], "finite")
    valid = view.valid.clone()
    valid[3, 4] = False
    check_estimate(replace(estimate, views=(replace(view, valid=valid), *estimate.views[1:])), ["a", "b", "c"])


def test_cameras_reach_the_program(capture: Capture, tmp_path: Path) -> None:
    kept = tmp_path / "cameras.json"
    program = f"import shutil, sys; shutil.copy(sys.argv[1] + '/cameras.json', {str(kept)!r}); raise SystemExit('seen')"
    with pytest.raises(SplatError, match="seen"):
        PriorCommand(command(tmp_path, program)).estimate(capture, Silent(), seed=7)
    found = json.loads(kept.read_text())
    assert found["seed"] == 7 and [v["name"] for v in found["views"]] == [v.name for v in capture.views]
    assert np.allclose(found["views"][1]["cam_from_world"], POSES[1].inverse().matrix().numpy())
