"""The adapter to Stable Diffusion with the tile ControlNet.

The networks here are tiny ones of random weights, with the real classes: nothing is said about quality. Skipped where
`diffusers` is not installed, except for what is said then.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import refining
import tiny_diffusion
import torch

from splat.core import licences
from splat.core.errors import SplatError
from splat.core.metrics import psnr
from splat.core.slots import ViewRefiner
from splat.priors.diffusion_refiner import BASE, CONTROL, LICENCE, DiffusionRefiner, LoadedDiffusion, _without_lora
from splat.priors.refiner import FeedbackWeight

WANTED = ("diffusers", "transformers", "peft")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_diffusion.without_weights_and_network(monkeypatch)


def tiny_pipeline(folder: Path) -> Path:
    """The published layout with tiny networks."""
    import diffusers

    torch.manual_seed(0)
    blocks = {"block_out_channels": (16, 32), "layers_per_block": 1, "cross_attention_dim": 32}
    blocks |= {"attention_head_dim": 8, "norm_num_groups": 8}
    down = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    unet = diffusers.UNet2DConditionModel(up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **down, **blocks)
    control = diffusers.ControlNetModel(conditioning_embedding_out_channels=(8, 16, 16, 32), **down, **blocks)
    vae, text, tokenizer, scheduler = tiny_diffusion.parts(folder)
    pipeline = diffusers.StableDiffusionPipeline(
        vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder / BASE)
    control.save_pretrained(folder / CONTROL)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if any(importlib.util.find_spec(name) is None for name in WANTED):
        pytest.skip("the diffusion refiner needs diffusers, transformers and peft, not installed here")
    return tiny_pipeline(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture
def loaded(weights: Path) -> LoadedDiffusion:
    return DiffusionRefiner(weights=weights, device="cpu", rank=4, crop=64).start()


def test_the_defaults_are_those_published() -> None:
    s = DiffusionRefiner()
    assert (s.strength, s.steps, s.eta, s.control, s.guidance) == (0.2, 50, 1.0, 0.8, 1.0)
    assert (s.rank, s.rate, s.fit_steps) == (64, 1e-3, 1800)


def test_missing_weights_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SplatError, match="downloads nothing: put the folders stable-diffusion-v1-5"):
        DiffusionRefiner().start()
    with pytest.raises(SplatError, match="OpenRAIL"):
        DiffusionRefiner(weights=tmp_path).start()


def test_a_missing_package_is_one_sentence(tmp_path: Path) -> None:
    if importlib.util.find_spec("diffusers") is not None:
        pytest.skip("diffusers is installed")
    for name in ("vae/diffusion_pytorch_model", "unet/diffusion_pytorch_model", "text_encoder/model"):
        (tmp_path / BASE / name).parent.mkdir(parents=True)
        (tmp_path / BASE / f"{name}.safetensors").touch()
    (tmp_path / CONTROL).mkdir()
    (tmp_path / CONTROL / "diffusion_pytorch_model.safetensors").touch()
    with pytest.raises(SplatError, match=r"pip install \"splat3d\[diffusion\]\""):
        DiffusionRefiner(weights=tmp_path).start()


def test_its_weights_are_named_and_asked_about(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DiffusionRefiner(weights=weights, device="cpu")
    with licences.recorded() as used:
        settings.start()
    assert [(u["licence"], u["sha256"]) for u in used] == [(LICENCE, settings.sha256())]
    monkeypatch.setattr(licences, "COMMERCIAL", frozenset())
    with licences.policy("commercial"), pytest.raises(SplatError, match="--license commercial"):
        settings.check()


def test_what_a_photo_masks_teaches_nothing(loaded: LoadedDiffusion) -> None:
    """Black masks beside the same photos without a mask: the LoRA comes out the same."""
    found = []
    for black in (True, False):
        pairs = []
        for p in refining.pairs(3):
            weight = torch.ones(p.target.shape[:2])
            weight[:, : p.target.shape[1] // 2] = 0
            dark = torch.where(weight[..., None] > 0, p.target, 0)
            pairs.append(replace(p, target=dark if black else p.target, weight=weight))
        kept = replace(loaded, settings=replace(loaded.settings, min_gain=-99.0)).fit(pairs, budget=1, seed=0)
        found.append({n: v.clone() for n, v in kept.pipeline.unet.named_parameters() if "lora_B" in n})
        for part in (kept.pipeline.unet, kept.pipeline.controlnet, kept.pipeline.text_encoder):
            _without_lora(part)
    assert found[0] and all(torch.equal(v, found[1][n]) for n, v in found[0].items())


def test_it_refines_any_size_and_repeats_itself(loaded: LoadedDiffusion) -> None:
    assert isinstance(loaded, ViewRefiner)
    p = refining.pairs(3)[1]
    one, two, other = (loaded.refine(p.view, (), seed=s) for s in (1, 1, 2))
    assert one.rgb.shape == p.view.rgb.shape and bool(one.rgb.isfinite().all())
    assert torch.equal(one.rgb, two.rgb) and not torch.equal(one.rgb, other.rgb)
    assert torch.equal(loaded.refine(p.view, (), strength=0.0).rgb, p.view.rgb)
    assert float(one.confidence.min()) >= 0 and float(one.confidence.max()) <= 1


def test_a_fit_changes_the_lora_alone_and_is_taken_off_where_it_does_not_help(loaded: LoadedDiffusion) -> None:
    before = {n: p.clone() for n, p in loaded.pipeline.unet.named_parameters()}
    fitted = loaded.fit(refining.pairs(3), budget=2, seed=0)
    assert not fitted.accepted and fitted.summary.startswith("not used")  # random networks paint noise
    after = dict(loaded.pipeline.unet.named_parameters())
    assert before.keys() == after.keys() and all(torch.equal(p, after[n]) for n, p in before.items())
    view = refining.pairs(3)[0].view
    assert torch.equal(fitted.refine(view, ()).rgb, view.rgb)


def test_the_lora_learns(loaded: LoadedDiffusion) -> None:
    kept = replace(loaded, settings=replace(loaded.settings, min_gain=-99.0)).fit(refining.pairs(3), budget=2, seed=0)
    changed = [p for n, p in kept.pipeline.unet.named_parameters() if "lora_B" in n]
    assert kept.accepted and changed and all(bool(p.any()) for p in changed)


def test_a_round_of_refining_pulls_a_scene_towards_the_refined_view(loaded: LoadedDiffusion) -> None:
    view = refining.pairs(3)[1].view
    refined = loaded.refine(view, (), seed=0)
    cameras = [p.world_from_cam for p in refining.photos(3)[::2]]
    weight = FeedbackWeight(max_change=1.0)(view, refined, cameras)
    assert float(weight.max()) > 0
    image = view.rgb.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], 0.02)
    for _ in range(10):
        loss = (weight[..., None] * (image - refined.rgb).abs()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    use = weight > 0
    assert psnr(image.detach(), refined.rgb, use) > psnr(view.rgb, refined.rgb, use)


def test_damaged_weights_are_one_sentence(weights: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(weights, tmp_path / "w")
    file = tmp_path / "w" / BASE / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SplatError, match="cannot be loaded as"):
        DiffusionRefiner(weights=tmp_path / "w", device="cpu").start()
