"""The refiner of LM-Gaussian (Yu et al. 2024): Stable Diffusion 1.5 with the tile ControlNet, through `diffusers`.

A render is noised a little and denoised with the render itself as the condition; a LoRA teaches network and condition
the scene. Weights are read from folders as Hugging Face keeps them, safetensors alone, and are never downloaded; no
code that comes with weights is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss, pad

from splat.core import devices, licences
from splat.core.errors import SplatError
from splat.core.foreign import regular_file, shown
from splat.core.metrics import psnr
from splat.core.slots import ReferencePhoto, RefinedView, RefinerPair, RenderedView, Reporter, Silent
from splat.priors import diffusers_door
from splat.priors.weights import named_folder, networks_sha256

TITLE = "Stable Diffusion 1.5 with the tile ControlNet"
BASE, CONTROL = "stable-diffusion-v1-5", "control_v11f1e_sd15_tile"
"""The usual names of the folders, and of the repositories that they are copies of."""
LICENCE = "CreativeML OpenRAIL-M"
SIZE_GB = 5.5
_MULTIPLE = 64
_CONFIDENT_CHANGE = 0.1
_PARTS = {
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@dataclass(frozen=True)
class DiffusionRefiner:
    """Settings, as published. `start()` gives the `slots.ViewRefiner`."""

    weights: Path | None = None
    """Folder that holds the folders stable-diffusion-v1-5 and control_v11f1e_sd15_tile (default: that named by
    SPLAT_WEIGHTS)."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    prompt: str = ""
    """What the scene shows; "best quality,sharp" is added."""
    steps: int = 50
    """Of the whole schedule; the last `strength` x `steps` are done."""
    strength: float = 0.2
    eta: float = 1.0
    """Of DDIM: 0 adds no noise on the way, 1 as much as DDPM."""
    control: float = 0.8
    """Strength of the condition."""
    guidance: float = 1.0
    """Classifier-free guidance; 1: none."""
    rank: int = 64
    """Of the LoRA on the linear layers of all transformer blocks and of the text encoder."""
    rate: float = 1e-3
    fit_steps: int = 1800
    crop: int = 512
    """Fitting: the short side of photos is resized to this, then a square is cropped, px."""
    min_gain: float = 0.1
    """PSNR in dB that a fit has to gain on a photo that it has not seen."""

    def check(self) -> tuple[Path, Path]:
        """The folders of the two networks. Raises SplatError where one, or a package, is missing."""
        licences.require(TITLE, LICENCE, "choose --lm.refiner scene")
        root = named_folder(self.weights)
        needed = [f"{BASE}/{part}/{name}" for part, name in _PARTS.items()]
        needed.append(f"{CONTROL}/diffusion_pytorch_model.safetensors")
        missing = [n for n in needed if root is None or not (root / n).exists()]
        if root is None or missing:
            place = shown(root) if root is not None else "the folder named by SPLAT_WEIGHTS"
            raise SplatError(
                f"the weights of {TITLE} ({missing[0]} among {SIZE_GB} GB, {LICENCE}) are not found, and splat "
                f"downloads nothing: put the folders {BASE} and {CONTROL} into {place}."
            )
        for name in needed:
            regular_file(root / name)
        if (reason := diffusers_door.unusable(TITLE, "peft")) is not None:
            raise SplatError(f"{reason}.")
        return root / BASE, root / CONTROL

    def sha256(self) -> str:
        """Of the networks' weights. Raises SplatError as `check`."""
        base, control = self.check()
        parts = [*(f"{base.name}/{p}" for p in _PARTS), control.name]
        return networks_sha256(base.parent, parts, f"copy {BASE} and {CONTROL} again")

    def start(self) -> LoadedDiffusion:
        """Raises SplatError as `check`, and where the weights are damaged or of other networks."""
        base, control = self.check()
        licences.record(licences.Provenance(TITLE, LICENCE, self.sha256()))
        condition = diffusers_door.load("ControlNetModel", control, TITLE)
        pipeline = diffusers_door.load(
            "StableDiffusionControlNetImg2ImgPipeline", base, TITLE, controlnet=condition, safety_checker=None,
            requires_safety_checker=False,
        )  # fmt: skip
        pipeline.scheduler = diffusers_door.scheduler("DDIMScheduler", pipeline, base, TITLE, clip_sample=False)
        for part in _networks(pipeline):
            part.requires_grad_(False)
        return LoadedDiffusion(self, pipeline.to(devices.named(self.device), torch.float32))


@dataclass(frozen=True, eq=False)
class LoadedDiffusion:
    """A `slots.ViewRefiner`. `fit` adds its LoRA to the networks in place, or takes it off again."""

    settings: DiffusionRefiner
    pipeline: Any
    accepted: bool = True
    """False: judged of no use; `refine` then gives the render as it is."""
    summary: str = "not fitted"

    def refine(
        self, view: RenderedView, references: Sequence[ReferencePhoto], strength: float = 1.0, seed: int = 0
    ) -> RefinedView:
        """`references` are not read. `strength`: share of the correction. Confidence falls with the change."""
        if not self.accepted:
            return RefinedView(view.rgb, torch.zeros_like(view.alpha))
        image = self._denoised(view.rgb, seed)
        confidence = torch.exp(-(image - view.rgb).abs().mean(-1) / _CONFIDENT_CHANGE)
        return RefinedView((view.rgb + strength * (image - view.rgb)).clamp(0, 1), confidence)

    def _denoised(self, rgb: Float[Tensor, "h w 3"], seed: int) -> Float[Tensor, "h w 3"]:
        """Padded to whole multiples of 64 px and cropped back."""
        s, (h, w) = self.settings, rgb.shape[:2]
        top, left = -h % _MULTIPLE // 2, -w % _MULTIPLE // 2
        around = (left, -w % _MULTIPLE - left, top, -h % _MULTIPLE - top)
        image = pad(rgb.permute(2, 0, 1)[None], around, mode="replicate").to(self.pipeline.device)
        with torch.no_grad():
            out = self.pipeline(
                prompt=self._prompt,
                image=image,
                control_image=image,
                height=image.shape[2],
                width=image.shape[3],
                strength=s.strength,
                num_inference_steps=s.steps,
                guidance_scale=s.guidance,
                eta=s.eta,
                controlnet_conditioning_scale=s.control,
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
            ).images[0]
        return out.float().cpu().permute(1, 2, 0)[top : top + h, left : left + w].contiguous()

    @property
    def _prompt(self) -> str:
        return ", ".join(filter(None, [self.settings.prompt, "best quality,sharp"]))

    def fit(
        self, pairs: Sequence[RefinerPair], budget: int = 0, seed: int = 0, report: Reporter | None = None
    ) -> LoadedDiffusion:
        """Train the LoRA in `budget` steps (0: as published) to predict the noise on photos, given their renders. One
        photo is held out; where the result does not gain `min_gain` on it, the LoRA is taken off and the refiner is
        not used. What a photo has masked is taken to be as rendered."""
        report = report or Silent()
        pairs = [replace(p, target=_where_it_counts(p, p.target)) for p in pairs]
        photos = sorted({p.photo for p in pairs})
        if len(photos) < 2:
            return self._rejected("not used: it needs pairs of two photos", report)
        generator = torch.Generator().manual_seed(seed)
        held = photos[int(torch.randint(len(photos), (1,), generator=generator))]
        train = [p for p in pairs if p.photo != held]
        layers = self._add_lora(seed)
        optimizer = torch.optim.AdamW(layers, self.settings.rate)
        steps = budget or self.settings.fit_steps
        for step in range(steps):
            pick = train[int(torch.randint(len(train), (1,), generator=generator))]
            loss = self._noise_loss(*self._crop(pick, generator), generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            report.progress(step + 1, steps, loss=float(loss.detach()))
        gain = self._gain([p for p in pairs if p.photo == held], seed)
        about = f"{gain:+.2f} dB on {held}, which it had not seen"
        if gain >= self.settings.min_gain:
            report.info(f"refiner: {about}")
            return replace(self, summary=about)
        for part in _networks(self.pipeline):
            _without_lora(part)
        return self._rejected(f"not used: {about}", report)

    def _rejected(self, why: str, report: Reporter) -> LoadedDiffusion:
        report.info(f"refiner: {why}")
        return replace(self, accepted=False, summary=why)

    def state(self) -> dict[str, Any]:
        lora = [
            {n: p.detach().cpu() for n, p in part.named_parameters() if "lora_" in n}
            for part in _networks(self.pipeline)
        ]
        return {"accepted": self.accepted, "summary": self.summary, "lora": lora}

    def restored(self, state: dict[str, Any]) -> LoadedDiffusion:
        """The LoRA is added to the networks in place."""
        if any(state["lora"]):
            self._add_lora(0)
            for part, found in zip(_networks(self.pipeline), state["lora"], strict=True):
                part.load_state_dict(found, strict=False)
        return replace(self, accepted=bool(state["accepted"]), summary=str(state["summary"]))

    def _gain(self, pairs: list[RefinerPair], seed: int) -> float:
        """Mean of dB, over what the photos have not masked."""

        def gain(p: RefinerPair) -> float:
            denoised = _where_it_counts(p, self._denoised(p.view.rgb, seed))
            return psnr(denoised, p.target) - psnr(p.view.rgb, p.target)

        return sum(map(gain, pairs)) / len(pairs)

    def _add_lora(self, seed: int) -> list[Tensor]:
        """LoRA layers on all three networks; the parameters to train."""
        from peft import LoraConfig, inject_adapter_in_model

        layers: list[Tensor] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for part, inside in zip(_networks(self.pipeline), ("transformer_blocks", "transformer_blocks", "")):
                names = [n for n, m in part.named_modules() if isinstance(m, torch.nn.Linear) and inside in n]
                config = LoraConfig(r=self.settings.rank, lora_alpha=self.settings.rank, target_modules=names)
                inject_adapter_in_model(config, part)
                layers += [p for n, p in part.named_parameters() if "lora_" in n]
        for layer in layers:
            layer.requires_grad_(True)
        return layers

    def _crop(self, pair: RefinerPair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Photo and render [1 3 crop crop] in [0, 1]."""
        both = torch.cat([pair.target, pair.view.rgb], 2).permute(2, 0, 1)[None]
        side = self.settings.crop
        scale = side / min(both.shape[2:])
        both = interpolate(both, [max(side, round(n * scale)) for n in both.shape[2:]], mode="bilinear")
        y, x = (int(torch.randint(n - side + 1, (1,), generator=generator)) for n in both.shape[2:])
        both = both[..., y : y + side, x : x + side].to(self.pipeline.device)
        return both[:, :3], both[:, 3:]

    def _noise_loss(self, photo: Tensor, render: Tensor, generator: torch.Generator) -> Float[Tensor, ""]:
        p = self.pipeline
        device = photo.device
        with torch.no_grad():
            latent = p.vae.encode(2 * photo - 1).latent_dist.mode() * p.vae.config.scaling_factor
        tokens = p.tokenizer(
            self._prompt, padding="max_length", max_length=p.tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        text = p.text_encoder(tokens.input_ids.to(device))[0]
        noise = torch.randn(latent.shape, generator=generator).to(device)
        t = torch.randint(p.scheduler.config.num_train_timesteps, (1,), generator=generator).to(device)
        noisy = p.scheduler.add_noise(latent, noise, t)
        down, middle = p.controlnet(noisy, t, encoder_hidden_states=text, controlnet_cond=render, return_dict=False)
        predicted = p.unet(
            noisy, t, encoder_hidden_states=text, down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample  # fmt: skip
        return mse_loss(predicted, noise)


def _where_it_counts(pair: RefinerPair, image: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """The image; the render where the photo says nothing."""
    return image if pair.weight is None else torch.where(pair.weight[..., None] > 0, image, pair.view.rgb)


def _without_lora(network: torch.nn.Module) -> None:
    """Puts the layers back that a LoRA stands before."""
    for name, module in list(network.named_modules()):
        if hasattr(module, "base_layer"):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, module.base_layer)


def _networks(pipeline: Any) -> tuple[Any, Any, Any]:
    """Those that a LoRA is put on."""
    return pipeline.unet, pipeline.controlnet, pipeline.text_encoder
