"""Each ablation of dense initialization leaves out one part of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import planes
import pytest
import torch
from init.test_dense_surfaces import CAMERA, Known
from scripted import script

from splat.core.capture import Capture
from splat.core.slots import DepthMap, Init, Priors, Reporter, Silent
from splat.init import DenseSurfaces
from splat.methods import METHODS

SCENE = planes.PlaneScene.make(20.0)


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    return script("edgs_ablations")


@pytest.fixture
def registered() -> Iterator[None]:
    """Methods that a test registers are gone after it."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def initialized(initializer: DenseSurfaces, folder: Path, depth: Known | None = None) -> Init:
    capture = planes.capture_of(SCENE, CAMERA, planes.walk(4, step=0.1), folder)
    initializer = replace(initializer, keep_points=0.0, margin=0.0)
    return initializer(capture, 0, 0, Silent(), Priors(depth or Moved(SCENE)))


class Moved(Known):
    """The plane's own depth in photos next to each other; `nearer`: in the first photo, by that factor."""

    nearer = 1.0

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i, v in enumerate(capture.views):
            depth = self.scene.depth(v.camera, v.pose).float()
            normal = (v.pose.rotation.T.float() @ self.scene.normal.float()).expand(*depth.shape, 3)
            others = tuple(j for j in range(len(capture.views)) if j != i)
            depth = depth * (self.nearer if i == 0 else 1)
            maps.append(DepthMap(depth, torch.ones_like(depth), "metric", normal, others))
        return maps


class Wrong(Moved):
    nearer = 0.8


def test_without_fusion_every_photo_has_its_share_of_the_surface(ablations, tmp_path):
    fused, all_photos = (initialized(i, tmp_path).view_ids for i in (DenseSurfaces(), ablations.NoFusion()))
    assert fused is not None and all_photos is not None
    assert float(fused.bincount(minlength=4).min() / len(fused)) < 0.1
    assert float(all_photos.bincount(minlength=4).min() / len(all_photos)) > 0.2


def test_isotropic_gaussians_have_one_scale(ablations, tmp_path):
    scales = [initialized(i, tmp_path).gaussians.log_scales for i in (DenseSurfaces(), ablations.Isotropic())]
    assert float((scales[0].amax(1) - scales[0].amin(1)).min()) > 1
    assert torch.equal(scales[1], scales[1][:, :1].expand(-1, 3))


def test_only_without_support_are_depths_believed_that_all_other_photos_contradict(ablations, tmp_path):
    def wrong(init: Init) -> int:
        off = ((init.gaussians.means.double() - SCENE.origin) @ SCENE.normal).abs()
        return int((off > 0.05).sum())

    checked = initialized(DenseSurfaces(fill=0.0), tmp_path, Wrong(SCENE))
    believed = initialized(ablations.NoSupport(fill=0.0), tmp_path, Wrong(SCENE))
    assert wrong(believed) > 100 and wrong(checked) < 0.2 * wrong(believed)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("variant", ["edgs_no_fusion", "edgs_isotropic", "edgs_no_consistency"])
def test_the_command_line_runs_a_variant_with_settings_of_its_own(ablations, variant, posed_photos, tmp_path):
    name = variant.replace("_", "-")
    flags = ["--method", variant, f"--{name}.init.budget", "200", "--iterations", "20", "--no-renders", "--quiet"]
    assert ablations.main(["reconstruct", str(posed_photos), "--out", str(tmp_path), *flags]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["method"] == variant
    settings = json.loads((tmp_path / "config.json").read_text())["method_settings"]
    assert settings["init"]["budget"] == 200
    assert "Gaussians by dense matching" in (tmp_path / "log.jsonl").read_text()
