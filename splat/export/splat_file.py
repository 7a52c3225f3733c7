"""`.splat` (antimatter15's viewer, MIT): 32 bytes per Gaussian, without view-dependent colour.

Per row: position (3 float32), linear scale (3 float32), red green blue opacity (uint8), quaternion wxyz (uint8,
128 + 128 q). Viewers that draw while loading expect the largest and most opaque Gaussians first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.gaussians import Gaussians
from splat.core.slots import Reporter
from splat.export.packing import arrays, bundle, colour_from_dc, dc_from_colour, to_bytes
from splat.export.repair import repaired

_ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])


class SplatFileCodec:
    """Positions and scales are float32; colour, opacity and rotation have 8 bits; SH above degree 0 is lost."""

    name = "splat"
    suffixes: tuple[str, ...] = (".splat",)

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str]) -> None:
        means, quats, log_scales, opacities, sh = arrays(gaussians)
        order = np.argsort(-(log_scales.sum(1) + np.log(np.maximum(opacities, 1e-12))), kind="stable")
        rows = np.empty(len(means), _ROW)
        rows["means"] = means
        rows["scales"] = np.exp(log_scales)
        rows["rgba"] = to_bytes(255 * np.concatenate([colour_from_dc(sh[:, 0]), opacities[:, None]], 1))
        rows["quats"] = to_bytes(128 + 128 * quats)
        write_atomic(path, rows[order].tobytes())

    def load(self, path: Path, report: Reporter | None = None) -> Gaussians:
        try:
            data = path.read_bytes()
        except OSError as e:
            raise SplatError(f"{path} cannot be read ({e.strerror or e}): check the path.") from None
        if len(data) == 0 or len(data) % _ROW.itemsize:
            raise SplatError(f"{path} is cut short or is no .splat (its size is no multiple of 32): copy it again.")
        rows = np.frombuffer(data, _ROW)
        rgba = rows["rgba"] / 255
        with np.errstate(divide="ignore", invalid="ignore"):
            log_scales = np.log(rows["scales"])
        quats = (rows["quats"].astype(np.float32) - 128) / 128
        g = bundle(rows["means"], quats, log_scales, rgba[:, 3], dc_from_colour(rgba[:, None, :3]))
        return repaired(g, path, report)
