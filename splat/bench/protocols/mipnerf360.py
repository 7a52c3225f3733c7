"""Mip-NeRF 360 (Barron et al. 2022), all photos: nine scenes at the sizes that their authors ship."""

from __future__ import annotations

from splat.bench.protocols.layouts import Colmap
from splat.bench.protocols.protocol import Protocol, Published, SceneData, figures

OUTDOOR = ("bicycle", "flowers", "garden", "stump", "treehill")
INDOOR = ("room", "counter", "kitchen", "bonsai")
WHERE = "https://jonbarron.info/mipnerf360/ (360_v2.zip, and flowers and treehill in 360_extra_scenes.zip)"
EIGHT_BITS = {"psnr": "psnr-8bit", "ssim": "ssim-8bit", "lpips": "lpips-vgg-01-8bit"}
"""As metrics.py of 3DGS, which reads renders from PNG files and feeds them to the network in [0, 1]."""
TABLE = "table 1 of EDGS (Kotovenko et al. 2025, v1)"
FASTGS = "table of FastGS"


def _row(
    method: str, ssim: float, psnr: float, lpips: float, minutes: float, millions: float, source: str
) -> Published:
    values = {"psnr": psnr, "ssim": ssim, "lpips": lpips, "minutes": minutes, "num_gaussians": 1e6 * millions}
    return Published(method, values, source)


MIPNERF360 = Protocol(
    name="mipnerf360",
    about="nine scenes outdoors and indoors, all photos",
    scenes=(
        *(SceneData(n, Colmap("images_4"), (f"360_v2/{n}", f"360_extra_scenes/{n}")) for n in OUTDOOR),
        *(SceneData(n, Colmap("images_2"), (f"360_v2/{n}",)) for n in INDOOR),
    ),
    where=WHERE,
    split="every 8th photo by name held out",
    resolution="the shipped images_4 of scenes outdoors, images_2 of scenes indoors, not resampled",
    truth="the held-out photos of images_4 or images_2",
    overrides={"test-every": 8, "max-resolution": 1600} | figures(*EIGHT_BITS.values()),
    compare=EIGHT_BITS,
    groups={"outdoor": OUTDOOR, "indoor": INDOOR},
    published=(
        _row("3DGS (re-trained)", 0.816, 27.49, 0.215, 26.0, 2.8, TABLE),
        _row("gsplat", 0.818, 27.51, 0.215, 18.0, 3.1, TABLE),
        _row("Mip-Splatting", 0.838, 27.97, 0.179, 26.0, 4.0, TABLE),
        _row("3DGS-MCMC", 0.842, 28.15, 0.176, 20.0, 3.2, TABLE),
        _row("Taming 3DGS", 0.820, 27.71, 0.207, 14.0, 3.2, TABLE),
        _row("Mini-Splatting", 0.820, 27.25, 0.217, 12.0, 0.5, TABLE),
        _row("EDGS, 30k steps", 0.840, 27.80, 0.175, 29.0, 1.9, TABLE),
        _row("EDGS, 5k steps", 0.820, 26.70, 0.202, 8.0, 2.9, TABLE),
        _row("EDGS + Taming, 30k steps", 0.839, 28.06, 0.174, 16.0, 3.2, TABLE),
        Published(
            "EDGS, 30k steps (CVPR 2026)",
            {"psnr": 28.02, "ssim": 0.839, "lpips": 0.141, "minutes": 27.0, "num_gaussians": 1.9e6},
            "table 1 of EDGS (v2)",
            differs="with a fit of spherical harmonics that the authors have not released",
        ),
        _row("FastGS", 0.796, 27.54, 0.264, 1.92, 0.38, FASTGS),
        _row("FastGS-Big", 0.820, 27.93, 0.216, 3.59, 1.16, FASTGS),
        _row("DashGaussian", 0.817, 27.73, 0.217, 6.38, 2.40, FASTGS),
    ),
    differs="published minutes are of GPUs (A100, RTX 4090), with or without the time of poses and initialization",
)
