"""The adapter to Depth Anything V2: what goes in, what comes out, and one sentence where something is missing.

The network here is a tiny one of random weights: nothing is said about quality. Skipped where `transformers` is not
installed, except for what is said then.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import DepthMap, Reporter, Silent
from splat.geometry.surface_normals import normals_of_depth
from splat.priors import AlignedDepth, DepthAnything
from splat.priors.depth_anything import FILES, FOLDER, find_weights
from splat.stages.priors import ANYTHING, PriorSettings, depth_source

CAMERA = Camera(60.0, 60.0, 30.0, 20.0, 60, 40)
SCENE, POSES = planes.PlaneScene.make(35.0), planes.walk(2)


@pytest.fixture(autouse=True)
def _no_weights_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLAT_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny random network, as Hugging Face keeps them."""
    transformers = pytest.importorskip("transformers", reason="Depth Anything needs transformers, not installed here")
    backbone = transformers.Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=24,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_in_index=-1,
        head_hidden_size=8,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / FOLDER
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_map_of_disparity_is_predicted_for_every_photo_at_its_size(capture: Capture, weights: Path) -> None:
    report = Silent()
    maps = DepthAnything(weights, "cpu", 56)(capture, report)
    assert [tuple(m.depth.shape) for m in maps] == [(40, 60)] * 2
    assert all(m.family == "disparity" and bool((m.confidence == 1).all()) for m in maps)
    assert not torch.equal(maps[0].depth, maps[1].depth), "photos decide"
    assert "CC-BY-NC" in report.warnings[0], "the licence of larger ones is said; this one is not of Small's width"


def test_weights_are_found_in_the_folder_of_weights(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (weights, weights.parent):
        monkeypatch.setenv("SPLAT_WEIGHTS", str(place))
        assert find_weights() == weights == DepthAnything().check()


def test_the_flag_goes_through_the_same_alignment(capture: Capture, weights: Path) -> None:
    """What a random network says does not fit, and is not used."""

    class Matched:
        def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
            depths = [SCENE.depth(v.camera, v.pose).float() for v in capture.views]
            return [DepthMap(d, torch.ones_like(d), normals_cam=normals_of_depth(CAMERA, d)) for d in depths]

    network = DepthAnything(weights, "auto", 56)
    source = depth_source(Path(ANYTHING), Path("photos"), "auto", network, capture)
    assert source is network
    prior = PriorSettings(depth=source).on("cpu").priors(60).depth
    assert isinstance(prior, AlignedDepth) and prior.prior == replace(network, device="cpu")
    report = Silent()
    maps = replace(prior, matched=Matched())(capture, report)
    assert all(bool(m.measured.all()) for m in maps)
    assert any("do not fit the scene" in w for w in report.warnings), report.warnings


def test_damaged_weights_and_those_of_other_networks_are_one_sentence(
    weights: Path, capture: Capture, tmp_path: Path
) -> None:
    config = json.loads((weights / FILES[0]).read_text())
    few = tmp_path / "few.safetensors"
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = safetensors.load_file(weights / FILES[1])
    safetensors.save_file({k: v for k, v in tensors.items() if "head" not in k}, few)
    for name, text, data in (
        ("part", json.dumps(config), few.read_bytes()),
        ("cut", json.dumps(config), (weights / FILES[1]).read_bytes()[:100]),
        ("other", json.dumps(config | {"model_type": "dpt"}), b""),
        ("junk", "{", b""),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / FILES[0]).write_text(text)
        (folder / FILES[1]).write_bytes(data)
        with pytest.raises(SplatError, match=name) as error:
            DepthAnything(folder, "cpu", 56)(capture, Silent())
        assert "\n" not in str(error.value)


def test_missing_weights_are_said_with_size_licence_and_place(capture: Capture, tmp_path: Path) -> None:
    with pytest.raises(SplatError, match=r"99 MB, Apache-2\.0.*downloads nothing.*SPLAT_WEIGHTS"):
        depth_source(Path(ANYTHING), tmp_path, "auto", DepthAnything(), capture)
    with pytest.raises(SplatError, match=str(tmp_path)):
        DepthAnything(tmp_path).check()


def test_a_missing_package_is_said_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in FILES:
        (tmp_path / file).write_bytes(b"")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "transformers" else real(n, *a))
    with pytest.raises(SplatError, match=r'pip install "splat3d\[depth\]"'):
        DepthAnything(tmp_path).check()
