"""Tanks and Temples with few training photos. Publications use lists of frames of their own; few print them."""

from __future__ import annotations

from pathlib import Path

from splat.bench.protocols.layouts import Colmap
from splat.bench.protocols.llff import FEW_VIEWS
from splat.bench.protocols.protocol import Protocol, Published, Scene, figures, psnr_ssim_lpips, scene_name

_H = "HeroGS's protocol, third-party notes"
_LM = "table II of LM-Gaussian (v3), as third parties quote it"
_FREE = "without given poses; photos of its own choice"


def _lm(method: str, ssim: float, psnr: float, lpips: float) -> Published:
    return Published(method, {"psnr": psnr, "ssim": ssim, "lpips": lpips}, _LM, differs=_FREE)


_PUBLISHED: dict[int, tuple[Published, ...]] = {
    3: (
        psnr_ssim_lpips("CoR-GS", 17.06, None, None, _H),
        psnr_ssim_lpips("HeroGS", 17.51, None, None, _H),
    ),
    6: (
        psnr_ssim_lpips("DropGaussian", 24.15, None, None, _H),
        psnr_ssim_lpips("HeroGS", 24.70, None, None, _H),
    ),
    9: (),
    16: (
        _lm("DNGaussian", 0.5025, 16.69, 0.4475),
        _lm("Scaffold-GS", 0.5625, 18.10, 0.3600),
        _lm("CoR-GS", 0.5950, 18.00, 0.3725),
        _lm("InstantSplat", 0.6050, 19.28, 0.3450),
        _lm("LM-Gaussian", 0.6875, 20.54, 0.2300),
    ),
}


def scenes(data: Path) -> list[Scene]:
    """Every folder with a COLMAP model, up to two folders deep (`tandt/train`, which is called train, unless another
    scene is called so too: then tandt_train)."""
    found = sorted(p.parent for pattern in ("*", "*/*") for p in data.glob(f"{pattern}/sparse"))
    names = [scene_name(f, f.parent) for f in found]
    in_full = [scene_name(f, data) for f in found]
    return [
        Scene(name if names.count(name) == 1 else full, f, {"images": "images"})
        for name, full, f in zip(names, in_full, found, strict=True)
    ]


def tandt_few(count: int) -> Protocol:
    """With `count` training photos."""
    return Protocol(
        name=f"tandt-{count}",
        about=f"every scene with a COLMAP model, {count} training photos",
        where="https://www.tanksandtemples.org/download/ (photos); train and truck with poses: "
        "https://repo-sam.inria.fr/fungraph/3d-gaussian-splatting/ (tandt_db.zip)",
        split=f"every 8th photo by name held out; of the other n, round(linspace(0, n - 1, {count})) are trained on",
        resolution="the photos, at most 980 px on the long side",
        truth="the held-out photos, all pixels",
        overrides={"test-every": 8, "train-photos": count, "max-resolution": 980} | figures(*FEW_VIEWS.values()),
        compare=FEW_VIEWS,
        any_scene=scenes,
        any_layout=Colmap("images"),
        needed="a folder with images/ and sparse/0/",
        published=_PUBLISHED[count],
        differs="scenes and frames of the publications are not these: 12 dB lie between two choices of them",
    )


TANDT_FEW = tuple(tandt_few(count) for count in sorted(_PUBLISHED))
