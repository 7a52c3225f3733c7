"""The scene enhancement of LM-Gaussian (Yu et al. 2024): ZeroScope v2 XL, video to video, through `diffusers`.

Frames of a flight are noised a little and denoised together. The released code cuts a flight into chunks of 30 frames
that know nothing of each other, and it jumps at their seams; here chunks overlap, and are blended where they do. The
brightening that the released code ends with is left out. Weights are read from a folder as Hugging Face keeps it,
safetensors alone, and are never downloaded; no code that comes with weights is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from splat.core import devices, licences
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.slots import EnhancedView, RenderedView
from splat.priors import diffusers_door
from splat.priors.weights import networks_sha256

TITLE = "ZeroScope v2 XL"
FOLDER = "zeroscope_v2_XL"
"""The usual name of the folder, and of the repository that it is a copy of."""
LICENCE = "CC-BY-NC-4.0"
SIZE_GB = 7.0
"""In single precision."""
_NETWORKS = ("unet", "vae", "text_encoder")
_MULTIPLE = 64
"""Px: eight of the latent space, which the network halves three times."""


@dataclass(frozen=True)
class VideoEnhancer:
    """Settings, as published except for the overlap. `start()` gives the `slots.FrameEnhancer`."""

    weights: Path | None = None
    """Folder that holds the folder zeroscope_v2_XL (default: that named by SPLAT_WEIGHTS)."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    prompt: str = "real-world, sharp, high contrast, gradation"
    strength: float = 0.2
    steps: int = 50
    """Of the whole schedule; the last `strength` x `steps` are done."""
    guidance: float = 15.0
    """Classifier-free guidance; 1: none."""
    chunk: int = 30
    """Frames denoised together."""
    overlap: int = 6
    """Frames that a chunk shares with the one before it; 0, as published: none."""
    seed: int = 0

    def unavailable(self) -> str | None:
        """Why it cannot run here, in one sentence; None if it can."""
        try:
            self.check()
        except SplatError as e:
            return str(e)
        return None

    def check(self) -> Path:
        """The folder of the weights. Raises SplatError where they, or a package, are missing, may not be used, or have
        no safetensors."""
        if not 0 <= self.overlap <= self.chunk // 2:
            raise SplatError(f"chunks of {self.chunk} frames cannot overlap by {self.overlap}: at most by a half.")
        licences.require(TITLE, LICENCE, "choose --enhance filter, which needs no weights")
        folder = diffusers_door.find(FOLDER, self.weights)
        if folder is None:
            place = shown(self.weights) if self.weights is not None else "the folder named by SPLAT_WEIGHTS"
            raise SplatError(
                f"the weights of {TITLE} ({FOLDER}, about {SIZE_GB:g} GB, {LICENCE}) are not found, and splat "
                f"downloads nothing: put that folder, as Hugging Face has it, into {place}, or choose --enhance filter."
            )
        if (reason := diffusers_door.unusable(TITLE)) is not None:
            raise SplatError(f"{reason}.")
        return folder

    def start(self) -> LoadedVideo:
        """Raises SplatError as `check`, and where the weights are damaged or of other networks."""
        folder = self.check()
        digest = networks_sha256(folder, _NETWORKS, f"convert the weights of {TITLE}, or choose --enhance filter")
        pipeline = diffusers_door.load("VideoToVideoSDPipeline", folder, TITLE)
        pipeline.scheduler = diffusers_door.scheduler("DPMSolverMultistepScheduler", pipeline, folder, TITLE)
        pipeline.vae.enable_slicing()  # one frame at a time: a chunk of them would fill a GPU
        device = devices.named(self.device)
        precision = torch.float16 if torch.device(device).type == "cuda" else torch.float32
        licences.record(licences.Provenance(TITLE, LICENCE, digest))
        return LoadedVideo(self, pipeline.to(device, precision), digest)


@dataclass(frozen=True, eq=False)
class LoadedVideo:
    """A `slots.FrameEnhancer`."""

    settings: VideoEnhancer
    pipeline: Any
    sha256: str
    """Of the networks' weights."""

    def __call__(self, frames: Iterable[RenderedView]) -> Iterator[EnhancedView]:
        """Holds one chunk, and the overlap with the one before it."""
        size, shared = self.settings.chunk, self.settings.overlap
        chunk: list[Tensor] = []
        before: list[Tensor] = []  # the last frames of the chunk before, denoised there, not given back yet
        denoised = 0  # frames at the start of `chunk` that `before` has too
        for view in frames:
            chunk.append(view.rgb.float())
            if len(chunk) < size:
                continue
            out = blended(before, self._denoised(chunk))
            yield from map(EnhancedView, out[: size - shared])
            before, chunk = out[size - shared :], chunk[size - shared :]
            denoised = len(chunk)
        if len(chunk) > denoised:
            yield from map(EnhancedView, blended(before, self._denoised(chunk)))
        else:
            yield from map(EnhancedView, before)

    def about(self) -> dict[str, Any]:
        kept = {k: v for k, v in asdict(self.settings).items() if k not in ("weights", "device")}
        weights = [{"title": TITLE, "sha256": self.sha256, "licence": LICENCE}]
        what = "denoised as a video by a network, which makes things up"
        return {"method": "diffusion", "what": what, "settings": kept, "weights": weights}

    def _denoised(self, frames: list[Float[Tensor, "h w 3"]]) -> list[Float[Tensor, "h w 3"]]:
        """Padded to whole multiples of 64 px and cropped back."""
        s, (h, w) = self.settings, frames[0].shape[:2]
        top, left = -h % _MULTIPLE // 2, -w % _MULTIPLE // 2
        around = (left, -w % _MULTIPLE - left, top, -h % _MULTIPLE - top)
        video = pad(torch.stack(frames).permute(0, 3, 1, 2), around, mode="replicate")
        with torch.no_grad():
            out = self.pipeline(
                prompt=s.prompt,
                video=list(video.permute(0, 2, 3, 1).numpy()),
                strength=s.strength,
                num_inference_steps=s.steps,
                guidance_scale=s.guidance,
                generator=torch.Generator().manual_seed(s.seed),
                output_type="np",
            ).frames[0]
        found = torch.from_numpy(np.asarray(out, np.float32))[:, top : top + h, left : left + w]
        return list(found.clamp(0, 1))


def blended(before: list[Tensor], chunk: list[Tensor]) -> list[Tensor]:
    """A chunk whose first frames go over from those of the chunk before it, evenly."""
    n = len(before)
    mixed = [b + (k + 1) / (n + 1) * (c - b) for k, (b, c) in enumerate(zip(before, chunk))]
    return mixed + chunk[n:]
