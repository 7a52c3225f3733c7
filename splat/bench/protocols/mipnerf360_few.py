"""Mip-NeRF 360 with few training photos, at an eighth of the photos' size."""

from __future__ import annotations

from splat.bench.protocols.layouts import Colmap
from splat.bench.protocols.llff import FEW_VIEWS
from splat.bench.protocols.mipnerf360 import INDOOR, OUTDOOR, WHERE
from splat.bench.protocols.protocol import Protocol, Published, SceneData, figures, psnr_ssim_lpips

_N = "third-party notes on the paper"
_AT_A_QUARTER = "at a quarter of the photos' size"


def _cor(psnr: float) -> Published:
    return Published("CoR-GS", {"psnr": psnr}, _N, differs=_AT_A_QUARTER)


_PUBLISHED: dict[int, tuple[Published, ...]] = {
    12: (
        psnr_ssim_lpips("3DGS", 18.52, None, None, _N),
        psnr_ssim_lpips("FSGS", 18.80, None, None, _N),
        _cor(19.52),
        psnr_ssim_lpips("CoMapGS", 19.68, 0.591, 0.394, _N),
        psnr_ssim_lpips("DropGaussian", 19.74, None, None, _N),
        psnr_ssim_lpips("DropAnSH-GS", 19.95, None, None, _N),
        psnr_ssim_lpips("D2GS", 20.09, 0.587, 0.356, "table of D2GS (ICLR 2026)"),
        psnr_ssim_lpips("TWINGS", 20.35, 0.618, None, _N),
    ),
    24: (
        psnr_ssim_lpips("3DGS", 22.80, None, None, _N),
        psnr_ssim_lpips("FSGS", 23.70, None, None, _N),
        _cor(23.39),
        psnr_ssim_lpips("CoMapGS", 23.46, 0.734, 0.264, _N),
        psnr_ssim_lpips("NexusGS", 23.86, 0.753, 0.206, "table of multimodal-prior-guided importance sampling"),
        psnr_ssim_lpips("DropGaussian", 24.13, None, None, _N),
    ),
}


def mipnerf360_few(count: int) -> Protocol:
    """With `count` training photos."""
    return Protocol(
        name=f"mipnerf360-{count}",
        about=f"nine scenes, {count} training photos",
        scenes=tuple(
            SceneData(n, Colmap("images_8"), (f"360_v2/{n}", f"360_extra_scenes/{n}")) for n in (*OUTDOOR, *INDOOR)
        ),
        where=WHERE,
        split=f"every 8th photo by name held out; of the other n, round(linspace(0, n - 1, {count})) are trained on",
        resolution="the shipped images_8",
        truth="the held-out photos of images_8",
        overrides={"test-every": 8, "train-photos": count, "max-resolution": 800} | figures(*FEW_VIEWS.values()),
        compare=FEW_VIEWS,
        published=_PUBLISHED[count],
        differs="published rows mix sizes of photos, and not all say theirs",
    )


MIPNERF360_FEW = tuple(mipnerf360_few(count) for count in sorted(_PUBLISHED))
