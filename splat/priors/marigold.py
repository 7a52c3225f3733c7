"""Marigold (Ke et al. 2024) through `diffusers`: depth and normals of single photos.

Weights are read from folders as Hugging Face keeps them, and are never downloaded; only safetensors are read, and no
code that a folder brings is run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core import devices, licences
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.slots import DepthMap, Reporter
from splat.priors import diffusers_door
from splat.priors.weights import networks_sha256

TITLE = "Marigold"
DEPTH_FOLDER, NORMALS_FOLDER = "marigold-depth-v1-1", "marigold-normals-v1-1"
"""The usual names of the folders, and of the repositories that they are copies of."""
LICENCE = "OpenRAIL++-M"
SIZE_GB = 2.6
"""Of either, in half precision."""
_NETWORKS = ("unet", "vae", "text_encoder")


@dataclass(frozen=True)
class Marigold:
    """A `slots.DepthPrior`: depth up to scale and offset, and normals where their weights are there too. Half a minute
    a photo and step on a CPU."""

    weights: Path | None = None
    """Folder that holds marigold-depth-v1-1 and, for normals, marigold-normals-v1-1 (default: the one named by
    SPLAT_WEIGHTS)."""
    device: str = "auto"
    """Device of the networks: cpu, cuda, or auto."""
    steps: int = 4
    """Steps of denoising."""
    size: int = 768
    """The long side of photos is resized to this, px."""

    def unavailable(self) -> str | None:
        """Why it cannot run here, in one sentence without its full stop; None if it can."""
        if diffusers_door.find(DEPTH_FOLDER, self.weights) is None:
            place = shown(self.weights) if self.weights is not None else "the folder named by SPLAT_WEIGHTS"
            return (
                f"the weights of {TITLE} ({DEPTH_FOLDER}, about {SIZE_GB:g} GB, {LICENCE}) are not found, and splat "
                f"downloads nothing: put that folder, as Hugging Face has it, into {place}"
            )
        return diffusers_door.unusable(TITLE)

    def check(self) -> None:
        """Raises SplatError where it cannot run, or may not."""
        if (reason := self.unavailable()) is not None:
            raise SplatError(f"{reason}.")
        licences.require(TITLE, LICENCE)

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A map per view, at its working size. Raises SplatError as `check` does, and for damaged weights."""
        self.check()
        depths = self._predictions(DEPTH_FOLDER, "MarigoldDepthPipeline", capture, report, seed)
        normals: list[Tensor | None] = [None] * len(depths)
        if diffusers_door.find(NORMALS_FOLDER, self.weights) is not None:
            found = self._predictions(NORMALS_FOLDER, "MarigoldNormalsPipeline", capture, report, seed)
            normals = [opencv_normals(n) for n in found]
        # Its depth is 0 at what is nearest: a little more keeps all of it above 0, where depth counts as known.
        values = [d[..., 0].clamp(0, 1) + 0.01 for d in depths]
        return [DepthMap(d, torch.ones_like(d), "up-to-scale", n) for d, n in zip(values, normals, strict=True)]

    def _predictions(
        self, name: str, pipeline: str, capture: Capture, report: Reporter, seed: int
    ) -> list[Float[Tensor, "h w c"]]:
        folder = diffusers_door.find(name, self.weights)
        assert folder is not None
        started = time.monotonic()
        digest = networks_sha256(folder, _NETWORKS, f"copy {shown(folder.name)} again")
        pipe = diffusers_door.load(pipeline, folder, TITLE).to(devices.named(self.device))
        found = []
        for i, view in enumerate(capture.views):
            found.append(predict(pipe, view.load().rgb, self.steps, self.size, seed))
            report.progress(i + 1, len(capture.views), what=TITLE)
        licences.record(licences.Provenance(name, LICENCE, digest, round(time.monotonic() - started, 2)))
        return found


def predict(pipe: Any, rgb: np.ndarray, steps: int, size: int, seed: int) -> Float[Tensor, "h w c"]:
    """What a pipeline of Marigold says of a photo (uint8 [h w 3]), at its size: depth in [0, 1], or normals in
    Marigold's axes."""
    h, w = rgb.shape[:2]
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    out = pipe(
        image,
        num_inference_steps=steps,
        processing_resolution=size,
        match_input_resolution=True,
        output_type="pt",
        generator=torch.Generator().manual_seed(seed),
    )
    values = out.prediction.float().cpu()
    if tuple(values.shape[-2:]) != (h, w):
        values = torch.nn.functional.interpolate(values, (h, w), mode="bilinear", align_corners=False)
    return values[0].permute(1, 2, 0).contiguous()


def opencv_normals(normals: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Unit normals in OpenCV's camera axes (x right, y down, z ahead), facing the camera, of Marigold's (x right, y up,
    z to the viewer): what faces up has y = -1."""
    turned = torch.nn.functional.normalize(normals * normals.new_tensor([1.0, -1.0, -1.0]), dim=2, eps=1e-6)
    short = normals.norm(dim=2, keepdim=True) < 1e-3
    return torch.where(short, turned.new_tensor([0.0, 0.0, -1.0]), turned)
