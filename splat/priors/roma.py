"""The learned dense matchers RoMa (Edstedt et al. 2024) and RoMa v2 (2025), through `romatch` and `romav2`.

Weights are read from a folder or from torch's cache and are never downloaded. Where they are missing, the error names
the files with their size and licence.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core import devices, licences
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import DenseMatch, Reporter
from splat.priors.matching import upsampled
from splat.priors.weights import named_folder

BACKBONE = "dinov2_vitl14_pretrain.pth"
DINOV3 = "facebookresearch_dinov3_adc254450203739c8149213a7a69d8d905b4fcfa"
WEIGHTS = {
    "roma_outdoor.pth": "446 MB, MIT",
    "roma_indoor.pth": "446 MB, MIT",
    BACKBONE: "1.2 GB, Apache-2.0",
    "romav2.0.1.pt": "MIT, but made from DINOv3, which has its own licence",
    DINOV3: "a folder: the source of the network DINOv3 as torch.hub keeps it, with its own licence",
}
"""Required files, by the names that their authors and torch.hub use, with size and licence. (romav2 2.0.1 needs this
commit of DINOv3.)"""

Match = Callable[[np.ndarray, np.ndarray], tuple[Tensor, Tensor]]
"""uint8 photos a and b [h w 3] -> for a grid over a, coordinates in b from -1 to 1 [H W 2] and certainty [H W]."""


@dataclass(frozen=True)
class RomaMatcher:
    """Dense matches by RoMa: slow without a GPU."""

    model: Literal["outdoor", "indoor", "v2"] = "outdoor"
    """Weights: RoMa for outdoor or indoor scenes, or RoMa v2."""
    weights: Path | None = None
    """Folder of the weights (default: that of SPLAT_WEIGHTS, then torch's cache). RoMa v2 reads only torch's cache."""
    device: str = "auto"
    """Device of RoMa: cpu, cuda, or auto (that of training). RoMa v2 chooses its own."""
    size: int = 560
    """Both photos are resized to a square of this side, px, a multiple of 14. RoMa v2 has its own sizes."""
    setting: Literal["turbo", "fast", "base", "precise"] = "fast"
    """Only RoMa v2: image size and number of refinements of the warp."""

    def __call__(
        self, capture: Capture, pairs: Sequence[tuple[int, int]], report: Reporter, seed: int = 0
    ) -> Iterator[DenseMatch]:
        """Raises SplatError where the package or its weights are missing."""
        match = self._v2() if self.model == "v2" else self._v1()
        for k, (a, b) in enumerate(pairs):
            photos = [capture.views[i].load().rgb for i in (a, b)]
            warp, certainty = match(*photos)
            camera = capture.views[b].camera
            inside = (warp.abs() < 1).all(2)  # RoMa's `match` clamps coordinates outside the image
            pixels = pixels_from_normalized(warp, camera.width, camera.height)
            found = DenseMatch(a, b, pixels, torch.where(inside, certainty.clamp(0, 1), 0.0))
            yield upsampled(found, camera, capture)
            report.progress(k + 1, len(pairs), what="RoMa")

    def _v1(self) -> Match:
        try:
            import romatch
        except ImportError as e:
            raise _missing_package("RoMa", "romatch", "MIT", e) from None
        from PIL import Image

        weights, backbone = self._files(f"roma_{self.model}.pth", BACKBONE)

        device = devices.named(self.device)
        on_gpu = device.type == "cuda"
        network = getattr(romatch, f"roma_{self.model}")(
            device=device,
            weights=torch.load(weights, map_location=device, weights_only=True),
            dinov2_weights=torch.load(backbone, map_location=device, weights_only=True),
            coarse_res=(self.size, self.size),
            # One pass from a to b, as in EDGS: half the time of a symmetric pass, and no upsampling pass at 864 px.
            symmetric=False,
            upsample_preds=False,
            amp_dtype=torch.float16 if on_gpu else torch.float32,  # half precision is emulated on the CPU
            use_custom_corr=on_gpu and importlib.util.find_spec("local_corr") is not None,
        )

        def match(a: np.ndarray, b: np.ndarray) -> tuple[Tensor, Tensor]:
            warp, certainty = network.match(Image.fromarray(a), Image.fromarray(b), device=device)
            return forward_warp(warp, certainty)

        return match

    def _v2(self) -> Match:
        try:
            import romav2
        except ImportError as e:
            raise _missing_package("RoMa v2", "romav2", "MIT, its backbone under the DINOv3 licence", e) from None
        # romav2 reads only torch's cache, and would download missing files.
        licences.require("the backbone of RoMa v2", "DINOv3", "choose another matcher")
        hub = Path(torch.hub.get_dir())
        if missing := [p for p in (hub / "checkpoints" / "romav2.0.1.pt", hub / DINOV3) if not p.exists()]:
            raise _missing_weights(missing)
        network: Any = romav2.RoMaV2(romav2.RoMaV2.Cfg(setting=self.setting, compile=False))

        def match(a: np.ndarray, b: np.ndarray) -> tuple[Tensor, Tensor]:
            found = network.match(a, b)
            return found["warp_AB"][0].float().cpu(), found["overlap_AB"][0, ..., 0].float().cpu()

        return match

    def _files(self, *names: str) -> list[Path]:
        """Paths of weight files, from `weights`, SPLAT_WEIGHTS or torch's cache. Raises SplatError for missing ones."""
        places = [p for p in (named_folder(self.weights), Path(torch.hub.get_dir()) / "checkpoints") if p is not None]
        found = [next((p / name for p in places if (p / name).is_file()), places[0] / name) for name in names]
        if missing := [p for p in found if not p.exists()]:
            raise _missing_weights(missing)
        return found


def forward_warp(warp: Tensor, certainty: Tensor) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w"]]:
    """Coordinates in b and certainty over a, from the result of romatch's `match`.

    warp: [h w 4], or [h 2w 4] where the right half is the warp from b to a; some releases add a batch dimension of 1.
    """
    if warp.ndim == 4:
        warp, certainty = warp[0], certainty[0]
    w = certainty.shape[1]
    # The left half of a symmetric warp is a -> b: the coordinates in a rise from -1 to 1 over half the width.
    columns = warp[0, :, 0]
    if w % 2 == 0 and w > 2 and bool((columns[: w // 2].diff() > 0).all()) and float(columns[w // 2 - 1]) > 1 - 3 / w:
        warp, certainty = warp[:, : w // 2], certainty[:, : w // 2]
    return warp[..., 2:].float().cpu(), certainty.float().cpu()


def pixels_from_normalized(xy: Float[Tensor, "*n 2"], width: int, height: int) -> Float[Tensor, "*n 2"]:
    """Coordinates with -1 and 1 at the image borders -> pixels (centres at .5)."""
    return 0.5 * (xy + 1) * xy.new_tensor([width, height])


def _missing_package(name: str, package: str, licence: str, error: ImportError) -> SplatError:
    """The packages are no extra of this one: they need a torchvision that fits the torch at hand, which only the user
    can choose."""
    return SplatError(
        f"{name} needs the package {package} ({licence}): install it with `pip install {package}`, with a torchvision "
        f"that fits your torch ({error})."
    )


def _missing_weights(missing: list[Path]) -> SplatError:
    files = " and ".join(f"{p.name} ({WEIGHTS[p.name]})" for p in missing)
    return SplatError(f"RoMa's weights are never downloaded by splat: put {files} into {missing[0].parent}.")
