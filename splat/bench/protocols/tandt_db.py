"""Tanks and Temples (Knapitsch et al. 2017) and Deep Blending (Hedman et al. 2018): the two scenes of each that the
authors of 3DGS publish with poses."""

from __future__ import annotations

from splat.bench.protocols.layouts import Colmap
from splat.bench.protocols.mipnerf360 import EIGHT_BITS, FASTGS, TABLE
from splat.bench.protocols.protocol import Protocol, Published, SceneData, figures


def _rows(method: str, tandt: tuple[float, ...], db: tuple[float, ...], source: str) -> tuple[Published, ...]:
    """ssim, psnr, lpips, minutes, millions of Gaussians on either set."""
    names = ("ssim", "psnr", "lpips", "minutes", "num_gaussians")
    return tuple(
        Published(method, dict(zip(names, (*row[:4], 1e6 * row[4]), strict=True)), source, scene)
        for scene, row in (("Tanks and Temples", tandt), ("Deep Blending", db))
    )


TANDT_DB = Protocol(
    name="tandt-db",
    about="train and truck of Tanks and Temples, drjohnson and playroom of Deep Blending, all photos",
    scenes=(
        *(SceneData(n, Colmap("images"), (f"tandt/{n}", f"tandt_db/tandt/{n}")) for n in ("train", "truck")),
        *(SceneData(n, Colmap("images"), (f"db/{n}", f"tandt_db/db/{n}")) for n in ("drjohnson", "playroom")),
    ),
    where="https://repo-sam.inria.fr/fungraph/3d-gaussian-splatting/ (tandt_db.zip)",
    split="every 8th photo by name held out",
    resolution="the shipped images, at most 1600 px on the long side",
    truth="the held-out photos",
    overrides={"test-every": 8, "max-resolution": 1600} | figures(*EIGHT_BITS.values()),
    compare=EIGHT_BITS,
    groups={"Tanks and Temples": ("train", "truck"), "Deep Blending": ("drjohnson", "playroom")},
    published=(
        *_rows("3DGS (re-trained)", (0.853, 23.76, 0.169, 19.0, 1.6), (0.908, 29.77, 0.242, 27.0, 2.6), TABLE),
        *_rows("gsplat", (0.845, 23.57, 0.170, 13.0, 1.8), (0.904, 29.57, 0.237, 15.0, 2.8), TABLE),
        *_rows("3DGS-MCMC", (0.863, 24.22, 0.158, 13.0, 1.9), (0.902, 29.56, 0.244, 19.0, 2.9), TABLE),
        *_rows("Taming 3DGS", (0.856, 24.34, 0.164, 9.0, 1.9), (0.907, 29.54, 0.237, 12.0, 2.8), TABLE),
        *_rows("EDGS, 30k steps", (0.874, 24.45, 0.124, 22.0, 1.4), (0.909, 30.05, 0.219, 30.0, 1.6), TABLE),
        *_rows("EDGS, 5k steps", (0.860, 22.95, 0.164, 9.0, 2.2), (0.909, 29.46, 0.231, 10.0, 2.2), TABLE),
        *_rows("FastGS", (0.839, 24.15, 0.210, 1.32, 0.24), (0.901, 30.03, 0.270, 1.28, 0.22), FASTGS),
    ),
    differs="published minutes are of GPUs (A100, RTX 4090), with or without the time of poses and initialization",
)
