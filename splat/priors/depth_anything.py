"""Depth Anything V2 Small (Yang et al. 2024) through `transformers`: disparity of single photos.

Weights are read from a folder as Hugging Face keeps them, and are never downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core import devices, licences
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import read_json, regular_file, shown
from splat.core.slots import DepthMap, Reporter
from splat.priors.weights import named_folder

FOLDER = "Depth-Anything-V2-Small-hf"
"""The usual name of the folder, and of the repository that it is a copy of."""
TITLE = "Depth Anything V2 Small"
LICENCE, LARGER_LICENCE = "Apache-2.0", "CC-BY-NC-4.0"
"""Of Small, and of Base and Large."""
SIZE_MB = 99
FILES = ("config.json", "model.safetensors")
_PATCH = 14
_SMALL = 384
"""Width of the network of Small."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DepthAnything:
    """A `slots.DepthPrior`: disparity by Depth Anything V2 Small. Seconds a photo on a CPU."""

    weights: Path | None = None
    """Folder with config.json and model.safetensors of Depth-Anything-V2-Small-hf (default: that folder, or these
    files, in the one named by SPLAT_WEIGHTS)."""
    device: str = "auto"
    """Device of the network: cpu, cuda, or auto (that of training)."""
    size: int = 518
    """The short side of photos is resized to about this, px."""

    def check(self) -> Path:
        """The folder of the weights. Raises SplatError where it, or the package, is missing."""
        folder = find_weights(self.weights)
        if folder is None or (reason := self.unavailable()) is not None:
            raise SplatError(missing_weights(self.weights) if folder is None else f"{reason}.")
        return folder

    def unavailable(self) -> str | None:
        """Why it cannot run here, in one sentence without its full stop; None if it can."""
        if find_weights(self.weights) is None:
            return missing_weights(self.weights).removesuffix(".")
        if importlib.util.find_spec("transformers") is None:
            return f'{TITLE} needs the package transformers (Apache-2.0): pip install "splat3d[depth]"'
        return None

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A map per view, at its working size. Raises SplatError as `check` does, and where the weights are of another
        network."""
        started = time.monotonic()
        folder = self.check()
        network, family = self._network(folder, report)
        maps = []
        for i, view in enumerate(capture.views):
            values = self._predict(network, view.load().rgb)
            known = values.isfinite()
            maps.append(DepthMap(values.nan_to_num(0, 0, 0), known.float(), family))
            report.progress(i + 1, len(capture.views), what=TITLE)
        with (folder / FILES[1]).open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        licence = LICENCE if _is_small(read_json(folder / FILES[0], 2**20)) else LARGER_LICENCE
        licences.record(licences.Provenance(TITLE, licence, digest, round(time.monotonic() - started, 2)))
        return maps

    def _network(self, folder: Path, report: Reporter) -> tuple[Any, Any]:
        """The network, and the family of what it predicts."""
        config = read_json(folder / FILES[0], 2**20)
        if config.get("model_type") != "depth_anything":
            kind = shown(config.get("model_type"))[:80]
            raise SplatError(f"{shown(folder)} holds a network of type {kind}, not {TITLE}: give another folder.")
        regular_file(folder / FILES[1])
        if not _is_small(config):
            licences.require(f"{shown(folder)} (Base or Large)", LARGER_LICENCE, "give Depth-Anything-V2-Small-hf")
            report.warn(f"{shown(folder)} is larger than Small: Depth Anything V2 Base and Large are CC-BY-NC-4.0.")
        from transformers import DepthAnythingForDepthEstimation
        from transformers.utils import logging

        logging.disable_progress_bar()

        try:
            network, loaded = DepthAnythingForDepthEstimation.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            if missing := sorted(loaded["missing_keys"]):  # they would be random
                raise ValueError(f"{len(missing)} of its weights are missing")
        except Exception as e:  # damaged files raise all kinds
            reason = (shown(e) or type(e).__name__)[:160]
            raise SplatError(f"{shown(folder)} cannot be loaded as {TITLE} ({reason}): copy it again.") from None
        family = "up-to-scale" if config.get("depth_estimation_type") == "metric" else "disparity"
        return network.to(devices.named(self.device)).eval(), family

    def _predict(self, network: Any, rgb: np.ndarray) -> Float[Tensor, "h w"]:
        """Of a photo uint8 [h w 3]."""
        h, w = rgb.shape[:2]
        scale = self.size / min(h, w)
        size = [max(_PATCH, round(n * scale / _PATCH) * _PATCH) for n in (h, w)]
        small = cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        pixels = (small.astype(np.float32) / 255 - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(devices.named(self.device))
        with torch.no_grad():
            values = network(pixel_values=batch).predicted_depth
        found = torch.nn.functional.interpolate(values[None].float(), (h, w), mode="bilinear", align_corners=False)
        return found[0, 0].cpu()


def _is_small(config: dict[str, Any]) -> bool:
    backbone = config.get("backbone_config") or {}
    return not isinstance(backbone, dict) or backbone.get("hidden_size", _SMALL) == _SMALL


def find_weights(folder: Path | None = None) -> Path | None:
    """The folder that has both `FILES`: the one given, or the one named by SPLAT_WEIGHTS; or `FOLDER` inside it."""
    named = named_folder(folder)
    if named is None:
        return None
    return next((p for p in (named, named / FOLDER) if all((p / f).exists() for f in FILES)), None)


def missing_weights(folder: Path | None = None) -> str:
    """One sentence: what is missing, its size and licence, and where to put it."""
    place = f"into {shown(folder)}" if folder is not None else "as a folder into the one named by SPLAT_WEIGHTS"
    return (
        f"the weights of {TITLE} ({' and '.join(FILES)} of {FOLDER}, {SIZE_MB} MB, {LICENCE}) are not found, and splat "
        f"downloads nothing: put {FOLDER} {place}, or name it with --anything.weights."
    )
