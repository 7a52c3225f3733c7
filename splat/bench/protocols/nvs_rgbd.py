"""NVS-RGBD (Wang et al. 2023, SparseNeRF) with three training photos: its scenes are in the layout of LLFF."""

from __future__ import annotations

from pathlib import Path

from splat.bench.protocols.layouts import Llff
from splat.bench.protocols.llff import FEW_VIEWS
from splat.bench.protocols.protocol import Protocol, Published, Scene, figures, scene_name

_ZED = "the eight scenes of the ZED 2 camera alone"
_SOURCE = "table of CoherentGS (arXiv 2403.19495), as third parties quote it"


def scenes(data: Path) -> list[Scene]:
    """Every folder with `poses_bounds.npy`, up to two folders deep (`zed2/scene01`)."""
    found = sorted(p.parent for pattern in ("*", "*/*") for p in data.glob(f"{pattern}/poses_bounds.npy"))
    layout = Llff()
    return [Scene(scene_name(f, data), layout.source(f)) for f in found]


NVS_RGBD = Protocol(
    name="nvs-rgbd",
    about="scenes taken by cameras with depth sensors, three training photos, photos alone",
    where="https://sparsenerf.github.io/",
    split="every 8th photo by name held out; of the other n, round(linspace(0, n - 1, 3)) are trained on",
    resolution="the largest folder of photos with at most 1100 px on the long side",
    truth="the held-out photos, all pixels",
    overrides={"test-every": 8, "train-photos": 3, "max-resolution": 1100} | figures(*FEW_VIEWS.values()),
    compare=FEW_VIEWS,
    any_scene=scenes,
    any_layout=Llff(""),
    needed="a folder with poses_bounds.npy and images/",
    published=(
        Published("FreeNeRF", {"psnr": 25.60, "ssim": 0.817, "lpips": 0.166}, _SOURCE, differs=_ZED),
        Published("SparseNeRF", {"psnr": 26.56, "ssim": 0.835, "lpips": 0.154}, _SOURCE, differs=_ZED),
        Published("CoherentGS", {"psnr": 24.93, "ssim": 0.840, "lpips": 0.135}, _SOURCE, differs=_ZED),
    ),
    differs="the publication's own list of held-out photos and its size of photos are not known here; its regions that "
    "no training photo shows are left out of CoherentGS's figures",
)
