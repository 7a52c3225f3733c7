"""A prior's depth, aligned to what matching trusts: what it changes, and what it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import planes
import pytest
import torch
from noting import Noting
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.slots import DepthMap, DepthPrior, Reporter, Silent
from splat.geometry.surface_normals import normals_of_depth
from splat.priors import AlignedDepth, DepthFiles
from splat.priors.aligned_depth import fuse

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(35.0), planes.walk(3)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("photos"))


def truth(view: int) -> Tensor:
    return SCENE.depth(CAMERA, POSES[view]).float()


class HalfMatched:
    """True depth in the left half, of which 0.8 counts as measured; in the right half 30 % too far and doubtful."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        left = (torch.arange(120) < 60).expand(90, 120)
        for i, view in enumerate(capture.views):
            depth = torch.where(left, truth(i), 1.3 * truth(i))
            confidence = torch.where(left, 0.95, 0.3)
            maps.append(DepthMap(depth, confidence, "metric", normals_of_depth(view.camera, depth), (), 0.8))
        return maps


class Predicted:
    """Maps made from the true depth by `function`."""

    def __init__(self, *functions, family: str = "unknown") -> None:  # type: ignore[no-untyped-def]
        self.functions, self.family = functions, family

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i in range(len(capture.views)):
            values = self.functions[i % len(self.functions)](truth(i))
            maps.append(DepthMap(values.nan_to_num(0), values.isfinite().float(), self.family))  # type: ignore[arg-type]
        return maps


def aligned(
    capture: Capture, prior: DepthPrior, report: Reporter | None = None, min_right: float = 0.5
) -> list[DepthMap]:
    return AlignedDepth(HalfMatched(), prior, min_right)(capture, report or Silent())


def disparity(z: Tensor) -> Tensor:
    return 3 / z + 0.4


def affine_depth(z: Tensor) -> Tensor:
    return 0.2 * z + 0.3


@pytest.mark.parametrize(("prior", "title"), [(disparity, "disparity"), (affine_depth, "depth")])
def test_the_family_is_the_one_that_fits_and_the_prior_stands_in_where_matching_is_in_doubt(
    capture: Capture, prior, title: str
) -> None:
    report = Noting()
    for i, (found, before) in enumerate(
        zip(aligned(capture, Predicted(prior), report), HalfMatched()(capture, Silent()))
    ):
        assert torch.equal(found.measured, before.measured), "what was measured stays measured"
        assert torch.equal(found.depth[:, :60], before.depth[:, :60])
        assert found.predicted is not None and bool(found.predicted[:, 60:].all())
        assert float((found.depth / truth(i) - 1).abs().max()) < 0.01
        assert float(found.confidence[found.predicted].min()) > 0.5
        assert found.normals_cam is not None
        cos = (found.normals_cam * normals_of_depth(CAMERA, truth(i))).sum(2)
        assert float(cos[5:-5, 65:-5].min()) > 0.99
    assert f"Depth maps of 3 of 3 photos fit as {title}: right at 100 %" in report.lines[0] and not report.warnings


def test_unknown_pixels_of_a_prior_change_nothing(capture: Capture) -> None:
    def holed(z: Tensor) -> Tensor:
        out = disparity(z)
        out[:, 90:] = torch.nan
        return out

    for found, before in zip(aligned(capture, Predicted(holed)), HalfMatched()(capture, Silent())):
        assert torch.equal(found.depth[:, 90:], before.depth[:, 90:])
        assert torch.equal(found.confidence[:, 90:], before.confidence[:, 90:])
        assert found.predicted is not None and not bool(found.predicted[:, 90:].any())


def test_a_smooth_distortion_is_corrected(capture: Capture) -> None:
    def bent(z: Tensor) -> Tensor:
        return disparity(z) * (1 + 0.12 * torch.sin(torch.arange(90) / 15)[:, None])

    for i, found in enumerate(aligned(capture, Predicted(bent))):
        near = slice(60, 68)  # beside what is known; far from it nothing says how it is bent
        assert float((found.depth / truth(i) - 1)[:, near].abs().median()) < 0.03


@pytest.mark.parametrize("wrong", [lambda z: 1 / disparity(z) ** 4 * 0 + torch.rand(90, 120), lambda z: z])
def test_a_prior_that_does_not_fit_is_named_and_not_used(capture: Capture, wrong) -> None:
    """Noise; and depth that is said to be disparity, whose slope is negative."""
    report = Noting()
    maps = aligned(capture, Predicted(disparity, wrong, family="disparity"), report)
    assert len(report.warnings) == 1 and "1 photos (1.png) do not fit the scene" in report.warnings[0]
    assert maps[1].predicted is None and torch.equal(maps[1].depth, HalfMatched()(capture, Silent())[1].depth)
    assert maps[0].predicted is not None and maps[2].predicted is not None


def test_probability_is_that_of_being_right_where_depth_is_known(capture: Capture) -> None:
    def partly_wrong(z: Tensor) -> Tensor:
        rough = 1 + 0.5 * torch.rand(90, 120, generator=torch.Generator().manual_seed(0))
        return torch.where((torch.arange(90) < 65)[:, None], disparity(z), disparity(z) * rough)

    for found in aligned(capture, Predicted(partly_wrong), min_right=0.2):
        assert float(found.confidence[:50, 60:75].mean()) > 0.7
        assert found.predicted is not None and float(found.predicted[75:, 60:75].float().mean()) < 0.3


def test_sparse_points_do_where_matching_knows_nothing(capture: Capture) -> None:
    class Nothing:
        def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
            return [DepthMap(torch.ones(90, 120), torch.zeros(90, 120), min_probability=0.8) for _ in capture.views]

    for i, found in enumerate(AlignedDepth(Nothing(), Predicted(disparity))(capture, Silent())):
        assert found.predicted is not None and float(found.predicted.float().mean()) > 0.95
        assert float((found.depth / truth(i) - 1)[found.predicted].abs().max()) < 0.02


def test_a_doubtful_depth_that_the_prior_agrees_with_is_measured() -> None:
    found = DepthMap(torch.full((1, 4), 2.0), torch.tensor([[0.9, 0.6, 0.6, 0.6]]), min_probability=0.8)
    fused = fuse(found, torch.tensor([[3.0, 2.02, 3.0, 0.0]]), torch.full((1, 4), 0.7))
    assert fused.predicted is not None
    assert fused.measured.tolist() == [[True, True, False, False]]
    assert fused.predicted.tolist() == [[False, False, True, False]]
    assert fused.depth.tolist() == [[2.0, 2.0, 3.0, 2.0]]


def test_an_improbable_prior_is_weak_evidence_where_it_is_the_more_probable_one() -> None:
    found = DepthMap(torch.full((1, 2), 2.0), torch.tensor([[0.1, 0.45]]), min_probability=0.8)
    fused = fuse(found, torch.full((1, 2), 3.0), torch.full((1, 2), 0.4))
    assert fused.predicted is not None and not bool(fused.predicted.any()) and not bool(fused.measured.any())
    assert fused.depth.tolist() == [[3.0, 2.0]] and fused.confidence[0].tolist() == pytest.approx([0.4, 0.45])


def test_maps_of_files_are_read_at_the_size_of_the_views_and_faults_are_named(capture: Capture, tmp_path: Path) -> None:
    whole = torch.nn.functional.interpolate(disparity(truth(0))[None, None], (45, 60), mode="area")[0, 0]
    np.save(tmp_path / "0.npy", whole.numpy())
    (tmp_path / "1.npy").write_bytes(b"junk")
    np.save(tmp_path / "2.npy", np.ones((90, 90), np.float32))
    report = Noting()
    files = tuple((f"{i}.png", tmp_path / f"{i}.npy") for i in range(3))
    maps = DepthFiles(files, "disparity")(capture, report)
    assert [bool(m.confidence.any()) for m in maps] == [True, False, False]
    assert float((maps[0].depth / disparity(truth(0)) - 1)[2:-2, 2:-2].abs().max()) < 0.005
    assert len(report.warnings) == 1 and "1.png, 2.png are used without depth maps" in report.warnings[0]
    assert "1.npy" in report.warnings[0]
