"""DTU (Jensen et al. 2014) with three training photos: fifteen scans of objects, in the layout of IDR and NeuS.

The split is that of PixelNeRF (Yu et al. 2021): of 49 photos, 25, 22 and 28 are trained on, those with bad light are
left out, and so are six that protocols of more photos train on.
"""

from __future__ import annotations

from splat.bench.protocols.layouts import Idr
from splat.bench.protocols.protocol import Protocol, SceneData, figures, psnr_ssim_lpips

SCANS = (8, 21, 30, 31, 34, 38, 40, 41, 45, 55, 63, 82, 103, 110, 114)
TRAIN = (25, 22, 28)
_MORE = (40, 44, 48, 0, 8, 13)
"""Trained on where there are up to nine."""
_LEFT_OUT = (3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 36, 37, 38, 39)
TEST = tuple(i for i in range(49) if i not in (*TRAIN, *_MORE, *_LEFT_OUT))
_COMPARE = {"psnr": "psnr-8bit", "ssim": "ssim-white-8bit", "lpips": "lpips-vgg-white-01-8bit"}
_B = "table of Binocular3DGS (arXiv 2410.18822)"
_M = "table of multimodal-prior-guided importance sampling"
_N = "third-party notes on the paper"


DTU_3 = Protocol(
    name="dtu-3",
    about="fifteen scans, three training photos, measured within the masks of the objects",
    scenes=tuple(
        SceneData(f"scan{n}", Idr(), tuple(f"{pre}scan{n}" for pre in ("dtu_", "DTU/", "DTU/dtu_")), 49) for n in SCANS
    ),
    where="https://roboimagedata.compute.dtu.dk/ (photos); cameras and masks in the layout of IDR, "
    "https://github.com/lioryariv/idr",
    split="photos 25, 22 and 28 trained on, the 25 of PixelNeRF held out",
    resolution="a quarter of 1600x1200: 400x300",
    truth="the held-out photos; PSNR over the object's mask, SSIM and LPIPS with white elsewhere in both pictures",
    overrides={
        "train-ids": list(TRAIN),
        "test-ids": list(TEST),
        "mask-mode": "test",
        "max-resolution": 400,
        **figures(*_COMPARE.values()),
    },
    compare=_COMPARE,
    published=(
        psnr_ssim_lpips("3DGS, sparse points", 10.99, None, None, _B),
        psnr_ssim_lpips("3DGS, multi-view stereo points", 17.65, 0.816, 0.146, _M),
        psnr_ssim_lpips("DNGaussian", 18.91, 0.790, 0.176, _B),
        psnr_ssim_lpips("CoR-GS", 19.21, 0.853, 0.119, _M),
        psnr_ssim_lpips("FreeNeRF", 19.92, None, None, _B),
        psnr_ssim_lpips("NexusGS", 20.21, 0.869, 0.102, _M),
        psnr_ssim_lpips("Binocular3DGS", 20.71, 0.862, 0.111, _B),
        psnr_ssim_lpips("MuRF", 21.31, 0.885, 0.127, _N),
        psnr_ssim_lpips("TWINGS", 21.52, 0.880, 0.107, _N),
        psnr_ssim_lpips("ICO-GS", 21.77, None, None, _N),
        psnr_ssim_lpips("GenCoGS", 23.11, None, None, _N),
    ),
    differs="photos are shrunk from their full size here, and some publications train on white or random backgrounds",
)
