"""LLFF (Mildenhall et al. 2019) with few training photos: eight scenes before the camera, an eighth of their size."""

from __future__ import annotations

from splat.bench.protocols.layouts import Llff
from splat.bench.protocols.protocol import Protocol, Published, SceneData, figures, psnr_ssim_lpips

PHOTOS = {"fern": 20, "flower": 34, "fortress": 42, "horns": 62, "leaves": 26, "orchids": 25, "room": 41, "trex": 55}
FEW_VIEWS = {"psnr": "psnr-8bit", "ssim": "ssim-8bit", "lpips": "lpips-vgg-01-8bit"}
"""As the line of FSGS, CoR-GS and SparseNeRF, whose networks are fed [0, 1]."""
_B = "table of Binocular3DGS (arXiv 2410.18822)"
_H = "table of HeroGS (CVPR 2026)"
_M = "table of multimodal-prior-guided importance sampling"
_N = "third-party notes on the paper"
_MASKED = "measured without the regions that no training photo shows, where the others are measured on whole photos"


def _coherent(method: str, psnr: float, ssim: float, lpips: float) -> Published:
    values = {"psnr": psnr, "ssim": ssim, "lpips": lpips}
    return Published(method, values, "table of CoherentGS (arXiv 2403.19495), as third parties quote it", "", _MASKED)


_PUBLISHED: dict[int, tuple[Published, ...]] = {
    2: (
        psnr_ssim_lpips("FSGS", 15.65, 0.460, 0.412, _H),
        psnr_ssim_lpips("DropGaussian", 17.32, 0.509, 0.343, _H),
        psnr_ssim_lpips("CoR-GS", 17.38, 0.539, 0.350, _H),
        psnr_ssim_lpips("HeroGS", 18.78, 0.595, 0.317, _H),
        _coherent("3DGS", 12.83, 0.311, 0.470),
        _coherent("SparseNeRF", 17.74, 0.513, 0.386),
        _coherent("CoherentGS", 18.32, 0.644, 0.220),
    ),
    3: (
        psnr_ssim_lpips("3DGS, sparse points", 15.52, 0.405, 0.408, _B),
        psnr_ssim_lpips("3DGS, multi-view stereo points", 19.22, 0.649, 0.229, f"CoR-GS, {_N}"),
        psnr_ssim_lpips("DNGaussian", 19.12, 0.591, 0.294, _B),
        psnr_ssim_lpips("FreeNeRF", 19.63, 0.612, 0.308, _H),
        psnr_ssim_lpips("SparseNeRF", 19.86, 0.624, 0.328, _H),
        psnr_ssim_lpips("FSGS", 20.43, 0.682, 0.248, _M),
        psnr_ssim_lpips("CoR-GS", 20.45, 0.712, 0.196, _M),
        psnr_ssim_lpips("DropGaussian", 20.76, 0.713, None, _N),
        psnr_ssim_lpips("SCGaussian", 20.73, 0.725, 0.196, "HBSplat's re-run"),
        psnr_ssim_lpips("Binocular3DGS without dense points", 20.82, 0.716, 0.189, _B),
        psnr_ssim_lpips("NexusGS", 21.07, 0.738, 0.177, _M),
        psnr_ssim_lpips("CoMapGS", 21.11, 0.747, 0.182, _N),
        psnr_ssim_lpips("HeroGS", 21.30, 0.739, 0.189, _H),
        psnr_ssim_lpips("Binocular3DGS", 21.44, 0.751, 0.168, _B),
        psnr_ssim_lpips("ICO-GS", 22.20, None, None, _N),
        _coherent("3DGS", 14.99, 0.483, 0.362),
        _coherent("CoherentGS", 20.33, 0.725, 0.180),
        Published(
            "LM-Gaussian",
            {"psnr": 19.63, "ssim": 0.644, "lpips": 0.228},
            "table III of LM-Gaussian (v3), as third parties quote it",
            differs="without given poses",
        ),
    ),
    4: (
        _coherent("3DGS", 17.31, 0.584, 0.297),
        _coherent("SparseNeRF", 21.90, 0.720, 0.260),
        _coherent("CoherentGS", 21.58, 0.762, 0.167),
    ),
    6: (
        psnr_ssim_lpips("PairDropGS", 24.93, None, None, _N),
        psnr_ssim_lpips("ICO-GS", 25.37, None, None, _N),
    ),
    9: (
        psnr_ssim_lpips("SE-GS", 26.36, None, None, _N),
        psnr_ssim_lpips("CoMapGS", 26.73, None, None, _N),
    ),
}


def llff(count: int) -> Protocol:
    """With `count` training photos."""
    return Protocol(
        name=f"llff-{count}",
        about=f"eight scenes, {count} training photos",
        scenes=tuple(
            SceneData(n, Llff("images_8", (504, 378)), (f"nerf_llff_data/{n}", f"llff_{n}"), photos)
            for n, photos in PHOTOS.items()
        ),
        where="https://www.matthewtancik.com/nerf (nerf_llff_data.zip)",
        split=f"every 8th photo by name held out; of the other n, round(linspace(0, n - 1, {count})) are trained on",
        resolution="images_8, 504x378",
        truth="the held-out photos of images_8, all pixels; poses of poses_bounds.npy",
        overrides={"test-every": 8, "train-photos": count, "max-resolution": 504}
        | figures(*FEW_VIEWS.values(), "ssim-uniform-8bit"),
        compare=FEW_VIEWS,
        published=_PUBLISHED[count],
        differs="methods after FSGS take poses that COLMAP finds in all photos; their SSIM is that of 3DGS or of "
        "scikit-image (ssim-uniform), which differ by 0.002 on the mean and up to 0.014 on a scene",
    )


LLFF = tuple(llff(count) for count in sorted(_PUBLISHED))
