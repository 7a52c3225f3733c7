"""Protocols as data: one file each, and the list that the command line reads."""

from __future__ import annotations

from splat.bench.protocols.captures import CAPTURES
from splat.bench.protocols.dtu import DTU_3
from splat.bench.protocols.llff import LLFF
from splat.bench.protocols.mipnerf360 import MIPNERF360
from splat.bench.protocols.mipnerf360_few import MIPNERF360_FEW
from splat.bench.protocols.nerf_synthetic import NERF_SYNTHETIC
from splat.bench.protocols.nvs_rgbd import NVS_RGBD
from splat.bench.protocols.protocol import Missing, Protocol, Published, Scene
from splat.bench.protocols.tandt_db import TANDT_DB
from splat.bench.protocols.tandt_few import TANDT_FEW

_ALL = (CAPTURES, MIPNERF360, *MIPNERF360_FEW, TANDT_DB, *TANDT_FEW, *LLFF, DTU_3, NERF_SYNTHETIC, NVS_RGBD)
PROTOCOLS = {p.name: p for p in _ALL}

__all__ = ["PROTOCOLS", "Missing", "Protocol", "Published", "Scene"]
