"""The adapter to ZeroScope v2 XL, video to video.

The networks here are tiny ones of random weights, with the real classes: nothing is said about quality. Skipped where
`diffusers` is not installed, except for what is said then.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_diffusion
import torch

from splat.commands.render import RenderPath
from splat.core import licences
from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.slots import EnhancedView, FrameEnhancer, RenderedView
from splat.priors.video_enhancer import FOLDER, LICENCE, LoadedVideo, VideoEnhancer, blended

CAMERA = Camera(60.0, 60.0, 35.0, 25.0, 70, 50)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_diffusion.without_weights_and_network(monkeypatch)


def tiny_video_model(folder: Path) -> Path:
    """The published layout with tiny networks."""
    import diffusers

    torch.manual_seed(0)
    unet = diffusers.UNet3DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae, text, tokenizer, scheduler = tiny_diffusion.parts(folder)
    diffusers.TextToVideoSDPipeline(vae, text, tokenizer, unet, scheduler).save_pretrained(folder / FOLDER)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if any(importlib.util.find_spec(name) is None for name in ("diffusers", "transformers")):
        pytest.skip("the video enhancer needs diffusers and transformers, not installed here")
    return tiny_video_model(tmp_path_factory.mktemp("video"))


def frames(count: int) -> list[RenderedView]:
    rgb = torch.rand(50, 70, 3, generator=torch.Generator().manual_seed(0))
    one = torch.ones(50, 70)
    return [RenderedView(CAMERA, Rigid.identity(), (rgb + 0.01 * i).clamp(0, 1), one, one) for i in range(count)]


class AddsTheChunk:
    """Stands for the pipeline: every call adds a little more, so that seams can be seen."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, video: list[Any], **_: Any) -> Any:
        self.sizes.append(len(video))
        out = torch.stack([torch.from_numpy(f) for f in video]) * 0 + 0.1 * len(self.sizes)
        return type("Out", (), {"frames": [out.numpy()]})


@pytest.mark.parametrize("count", [1, 5, 6, 7, 10, 11, 14, 15])
def test_every_frame_comes_back_once_and_a_bounded_number_is_held(count: int) -> None:
    settings = VideoEnhancer(chunk=6, overlap=2)
    pipeline = AddsTheChunk()
    asked = 0

    def counted() -> Iterator[RenderedView]:
        nonlocal asked
        for f in frames(count):
            asked += 1
            yield f

    given = []
    for e in LoadedVideo(settings, pipeline, "")(counted()):
        given.append(e)
        assert asked - len(given) < settings.chunk
    assert len(given) == count and max(pipeline.sizes) <= 6
    assert all(e.rgb.shape == (50, 70, 3) for e in given)


def test_overlapping_chunks_go_over_into_each_other_and_published_ones_jump() -> None:
    soft, hard = (
        [float(e.rgb.mean()) for e in LoadedVideo(VideoEnhancer(chunk=6, overlap=n), AddsTheChunk(), "")(frames(9))]
        for n in (3, 0)
    )
    assert soft[:3] == pytest.approx([0.1] * 3) and soft[3:6] == pytest.approx([0.125, 0.15, 0.175])
    assert max(b - a for a, b in pairwise(soft)) < 0.03 < max(b - a for a, b in pairwise(hard))
    assert blended([], [torch.ones(1)]) == [torch.ones(1)]


def test_the_defaults_are_those_published_but_for_the_overlap() -> None:
    s = VideoEnhancer()
    assert (s.strength, s.chunk, s.steps, s.guidance) == (0.2, 30, 50, 15.0) and s.overlap > 0


def test_missing_weights_are_one_sentence(tmp_path: Path) -> None:
    for given in (None, tmp_path):
        with pytest.raises(SplatError, match="downloads nothing: put that folder") as found:
            VideoEnhancer(weights=given).start()
        for words in (FOLDER, "GB", LICENCE, "--enhance filter"):
            assert words in str(found.value)


def test_the_command_refuses_before_anything_is_read_or_drawn(tmp_path: Path) -> None:
    with pytest.raises(SplatError, match="ZeroScope v2 XL"):
        RenderPath(tmp_path / "no run", enhance="diffusion")()
    with pytest.raises(SplatError, match="--license commercial: ZeroScope v2 XL is under CC-BY-NC"):
        RenderPath(tmp_path / "no run", enhance="diffusion", license="commercial")()
    assert list(tmp_path.iterdir()) == []


def test_a_commercial_run_never_loads_the_weights_though_they_are_there(weights: Path) -> None:
    with licences.policy("commercial"), pytest.raises(SplatError, match="--license commercial"):
        VideoEnhancer(weights=weights).start()


def test_chunks_cannot_overlap_by_more_than_a_half() -> None:
    with pytest.raises(SplatError, match="cannot overlap"):
        VideoEnhancer(chunk=4, overlap=3).start()


def test_weights_without_safetensors_are_refused(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "w")
    file = tmp_path / "w" / FOLDER / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(SplatError, match=r"no \.safetensors file"):
        VideoEnhancer(weights=tmp_path / "w", device="cpu").start()


def test_damaged_weights_are_one_sentence(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "w")
    file = tmp_path / "w" / FOLDER / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SplatError, match="cannot be loaded as"):
        VideoEnhancer(weights=tmp_path / "w", device="cpu").start()


def test_it_denoises_a_flight_of_any_size_and_repeats_itself(weights: Path) -> None:
    loaded = VideoEnhancer(weights=weights, device="cpu", chunk=4, overlap=1, steps=10).start()
    assert isinstance(loaded, FrameEnhancer)
    one, two = (list(loaded(frames(6))) for _ in range(2))
    other = list(replace(loaded, settings=replace(loaded.settings, seed=1))(frames(6)))
    assert len(one) == 6 and all(isinstance(e, EnhancedView) for e in one)
    for a, b, c in zip(one, two, other, strict=True):
        assert a.rgb.shape == (50, 70, 3) and bool(a.rgb.isfinite().all())
        assert float(a.rgb.min()) >= 0 and float(a.rgb.max()) <= 1
        assert torch.equal(a.rgb, b.rgb) and not torch.equal(a.rgb, c.rgb)


def test_it_says_what_it_used(weights: Path) -> None:
    with licences.recorded() as used:
        about = VideoEnhancer(weights=weights, device="cpu", chunk=4, overlap=1).start().about()
    assert about["method"] == "diffusion" and about["settings"]["strength"] == 0.2
    (named,) = about["weights"]
    assert named["licence"] == LICENCE and len(named["sha256"]) == 64
    assert [u["sha256"] for u in used] == [named["sha256"]]
    json.dumps(about)
