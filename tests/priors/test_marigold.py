"""Marigold: its axes, what is missing, and a real pipeline of random weights where diffusers is installed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch

from splat.core import licences
from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.slots import Silent
from splat.priors import Marigold, marigold, weights
from splat.priors.diffusers_door import find
from splat.priors.weights import TABLE


def test_what_faces_up_faces_minus_y_and_the_viewer_is_minus_z() -> None:
    theirs = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]]])
    ours = marigold.opencv_normals(theirs)[0]
    expected = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -0.6, -0.8]])
    assert torch.allclose(ours, expected)


def test_normals_become_unit_vectors_and_those_without_length_face_the_camera() -> None:
    ours = marigold.opencv_normals(torch.tensor([[[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]]))[0]
    assert torch.allclose(ours, torch.tensor([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]))


def test_missing_weights_are_named_with_their_size_licence_and_place(tmp_path: Path) -> None:
    with pytest.raises(SplatError) as found:
        Marigold(weights=tmp_path).check()
    for words in (marigold.DEPTH_FOLDER, "GB", "OpenRAIL++-M", str(tmp_path), "downloads nothing"):
        assert words in str(found.value)


def test_weights_without_safetensors_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / marigold.DEPTH_FOLDER
    for part in ("unet", "vae", "text_encoder"):
        (folder / part).mkdir(parents=True)
        (folder / part / "diffusion_pytorch_model.bin").write_bytes(b"x")
    (folder / "model_index.json").write_text("{}")
    assert find(marigold.DEPTH_FOLDER, tmp_path) == folder == find(marigold.DEPTH_FOLDER, folder)
    with pytest.raises(SplatError, match="safetensors"):
        weights.networks_sha256(folder, ("unet",), "copy it again")


def test_a_commercial_run_never_loads_weights_that_do_not_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the file is there and right."""
    path = tmp_path / "theirs.pth"
    torch.save({"w": torch.ones(2)}, path)
    about = replace(
        TABLE["disk"],
        pattern="theirs.pth",
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence="CC-BY-NC-4.0",
    )
    monkeypatch.setitem(weights.TABLE, "theirs", about)
    assert set(weights.load("theirs", tmp_path)) == {"w"}
    with licences.policy("commercial"), pytest.raises(SplatError, match="CC-BY-NC"):
        weights.load("theirs", tmp_path)


def test_all_weights_that_packages_carry_allow_commercial_use() -> None:
    with licences.policy("commercial"):
        for w in TABLE.values():
            licences.require(w.title, w.licence)


def tiny(folder: Path, kind: str, name: str) -> None:
    """A pipeline of Marigold with random weights, as `save_pretrained` leaves it."""
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=300
        )
    )
    vocabulary = {c: i for i, c in enumerate([*map(chr, range(33, 127)), *(f"{chr(c)}</w>" for c in range(33, 127))])}
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    about = {"prediction_type": "depth"} if kind == "MarigoldDepthPipeline" else {"prediction_type": "normals"}
    pipeline = getattr(diffusers, kind)(unet, vae, scheduler, text, tokenizer, **about)
    pipeline.save_pretrained(folder / name, safe_serialization=True)


@pytest.mark.slow
def test_a_pipeline_of_random_weights_gives_maps_of_the_views_the_same_ones_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tiny(tmp_path, "MarigoldDepthPipeline", marigold.DEPTH_FOLDER)
    tiny(tmp_path, "MarigoldNormalsPipeline", marigold.NORMALS_FOLDER)
    camera = Camera(60.0, 60.0, 36.0, 24.0, 72, 48)
    capture = planes.capture_of(planes.PlaneScene.make(), camera, planes.walk(2), tmp_path / "photos")
    prior = Marigold(weights=tmp_path, steps=2, size=64, device="cpu")
    with licences.recorded() as used:
        first = prior(capture, Silent(), 3)
    again = prior(capture, Silent(), 3)
    assert [u["plug_in"] for u in used] == [marigold.DEPTH_FOLDER, marigold.NORMALS_FOLDER]
    assert all(len(u["sha256"]) == 64 and u["licence"] == "OpenRAIL++-M" for u in used)
    for a, b in zip(first, again, strict=True):
        assert a.depth.shape == (48, 72) and torch.equal(a.depth, b.depth) and bool((a.depth > 0).all())
        assert a.normals_cam is not None and torch.allclose(a.normals_cam.norm(dim=2), torch.ones(48, 72), atol=1e-4)
