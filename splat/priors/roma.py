"""The learned dense matchers RoMa (Edstedt et al. 2024) and RoMa v2 (2025): the one door to `romatch` and `romav2`.

Weights are read from a folder or from torch's cache, never fetched: what is missing is said in one sentence, with its
size and licence.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import DenseMatch, Reporter
from splat.priors.matching import enlarged

BACKBONE = "dinov2_vitl14_pretrain.pth"
DINOV3 = "facebookresearch_dinov3_adc254450203739c8149213a7a69d8d905b4fcfa"
WHAT = {
    "roma_outdoor.pth": "446 MB, MIT",
    "roma_indoor.pth": "446 MB, MIT",
    BACKBONE: "1.2 GB, Apache-2.0",
    "romav2.0.1.pt": "MIT, but made from DINOv3, which has its own licence",
    DINOV3: "a folder: the source of the network DINOv3 as torch.hub keeps it, with its own licence",
}
"""What is needed, by the names that its authors and torch.hub give it: size and licence. (romav2 2.0.1 asks for that
very commit of DINOv3.)"""

Match = Callable[[np.ndarray, np.ndarray], tuple[Tensor, Tensor]]
"""uint8 photos a and b [h w 3] -> b's coordinates in -1 ... 1 [H W 2] and certainty [H W], over the area of a."""


@dataclass(frozen=True)
class RomaMatcher:
    """RoMa's warp and certainty; needs a GPU to be quick."""

    model: Literal["outdoor", "indoor", "v2"] = "outdoor"
    """Which weights: RoMa's for landmarks or rooms, or RoMa v2's."""
    weights: Path | None = None
    """Folder with the weights (default: the one named by SPLAT_WEIGHTS, then torch's cache). RoMa v2 reads torch's
    cache alone."""
    device: str = "auto"
    """Where RoMa runs: cpu, cuda, or auto (where everything else does). RoMa v2 decides by itself."""
    size: int = 560
    """Side of the square that both photos are resized to, px, a multiple of 14. RoMa v2 has its own sizes."""
    setting: Literal["turbo", "fast", "base", "precise"] = "fast"
    """Of RoMa v2: how large the photos are and how often the warp is refined."""

    def __call__(
        self, capture: Capture, pairs: Sequence[tuple[int, int]], report: Reporter, seed: int = 0
    ) -> Iterator[DenseMatch]:
        """Raises SplatError where the package or its weights are missing."""
        match = self._v2() if self.model == "v2" else self._v1()
        for k, (a, b) in enumerate(pairs):
            photos = [capture.views[i].load().rgb for i in (a, b)]
            warp, certainty = match(*photos)
            camera = capture.views[b].camera
            inside = (warp.abs() < 1).all(2)  # RoMa's own `match` clamps what leads outside
            pixels = pixels_from_normalized(warp, camera.width, camera.height)
            found = DenseMatch(a, b, pixels, torch.where(inside, certainty.clamp(0, 1), 0.0))
            yield enlarged(found, camera, capture)
            report.progress(k + 1, len(pairs), what="RoMa")

    def _v1(self) -> Match:
        try:
            import romatch
        except ImportError as e:
            raise _absent("RoMa", "romatch", "MIT", e) from None
        from PIL import Image

        weights, backbone = self._files(f"roma_{self.model}.pth", BACKBONE)

        device = self._device()
        on_gpu = device.type == "cuda"
        network = getattr(romatch, f"roma_{self.model}")(
            device=device,
            weights=torch.load(weights, map_location=device, weights_only=True),
            dinov2_weights=torch.load(backbone, map_location=device, weights_only=True),
            coarse_res=(self.size, self.size),
            # One pass from a to b, as EDGS has it: half the time of both ways, and no second pass at 864 px.
            symmetric=False,
            upsample_preds=False,
            amp_dtype=torch.float16 if on_gpu else torch.float32,  # half precision on the CPU is emulated
            use_custom_corr=on_gpu and importlib.util.find_spec("local_corr") is not None,
        )

        def match(a: np.ndarray, b: np.ndarray) -> tuple[Tensor, Tensor]:
            warp, certainty = network.match(Image.fromarray(a), Image.fromarray(b), device=device)
            return a_to_b(warp, certainty)

        return match

    def _v2(self) -> Match:
        try:
            import romav2
        except ImportError as e:
            raise _absent("RoMa v2", "romav2", "MIT, its backbone under the DINOv3 licence", e) from None
        # It looks nowhere else, and would download what it does not find.
        hub = Path(torch.hub.get_dir())
        if missing := [p for p in (hub / "checkpoints" / "romav2.0.1.pt", hub / DINOV3) if not p.exists()]:
            raise _unfound(missing)
        network: Any = romav2.RoMaV2(romav2.RoMaV2.Cfg(setting=self.setting, compile=False))

        def match(a: np.ndarray, b: np.ndarray) -> tuple[Tensor, Tensor]:
            found = network.match(a, b)
            return found["warp_AB"][0].float().cpu(), found["overlap_AB"][0, ..., 0].float().cpu()

        return match

    def _files(self, *names: str) -> list[Path]:
        """Where they are: in the folder given, or in torch's cache."""
        named = os.environ.get("SPLAT_WEIGHTS")
        folder = self.weights or (Path(named) if named else None)
        places = [p for p in (folder, Path(torch.hub.get_dir()) / "checkpoints") if p is not None]
        found = [next((p / name for p in places if (p / name).is_file()), places[0] / name) for name in names]
        if missing := [p for p in found if not p.exists()]:
            raise _unfound(missing)
        return found

    def _device(self) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def a_to_b(warp: Tensor, certainty: Tensor) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w"]]:
    """b's coordinates and certainty, from what romatch's `match` returns: [h w 4], or [h 2w 4] with the way back on the
    right; by release, with a batch of one before it."""
    if warp.ndim == 4:
        warp, certainty = warp[0], certainty[0]
    w = certainty.shape[1]
    # The left half of both ways is a -> b: its own coordinates rise from -1 to 1 over half the width.
    columns = warp[0, :, 0]
    if w % 2 == 0 and w > 2 and bool((columns[: w // 2].diff() > 0).all()) and float(columns[w // 2 - 1]) > 1 - 3 / w:
        warp, certainty = warp[:, : w // 2], certainty[:, : w // 2]
    return warp[..., 2:].float().cpu(), certainty.float().cpu()


def pixels_from_normalized(xy: Float[Tensor, "*n 2"], width: int, height: int) -> Float[Tensor, "*n 2"]:
    """-1 and 1 are the photo's borders: the centre of pixel i is at -1 + (2 i + 1) / width, and at i + 0.5 for us."""
    return 0.5 * (xy + 1) * xy.new_tensor([width, height])


def _absent(name: str, package: str, licence: str, error: ImportError) -> SplatError:
    """The packages are no extra of this one: they need a torchvision that fits the torch at hand, which only the user
    can choose."""
    return SplatError(
        f"{name} needs the package {package} ({licence}): install it with `pip install {package}`, with a torchvision "
        f"that fits your torch ({error})."
    )


def _unfound(missing: list[Path]) -> SplatError:
    files = " and ".join(f"{p.name} ({WHAT[p.name]})" for p in missing)
    return SplatError(f"RoMa's weights are never fetched by splat: put {files} into {missing[0].parent}.")
