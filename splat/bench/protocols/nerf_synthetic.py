"""NeRF-synthetic (Mildenhall et al. 2020): eight rendered objects with transparency, compared over white."""

from __future__ import annotations

from splat.bench.protocols.layouts import Blender
from splat.bench.protocols.mipnerf360 import EIGHT_BITS
from splat.bench.protocols.protocol import Protocol, SceneData, figures

OBJECTS = ("chair", "drums", "ficus", "hotdog", "lego", "materials", "mic", "ship")

NERF_SYNTHETIC = Protocol(
    name="nerf-synthetic",
    about="eight rendered objects, 100 training photos",
    scenes=tuple(SceneData(n, Blender(size=(800, 800)), (f"nerf_synthetic/{n}",), 300) for n in OBJECTS),
    where="https://www.matthewtancik.com/nerf (nerf_synthetic.zip)",
    split="transforms_train.json trained on, the 200 photos of transforms_test.json held out",
    resolution="800x800",
    truth="the photos of transforms_test.json over white",
    overrides={"max-resolution": 800} | figures(*EIGHT_BITS.values()),
    compare=EIGHT_BITS,
)
