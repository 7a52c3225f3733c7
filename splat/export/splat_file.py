"""`.splat` (antimatter15's viewer, MIT): 32 bytes per Gaussian, without view-dependent colour.

Per row: position (3 float32), linear scale (3 float32), red green blue opacity (uint8), quaternion wxyz (uint8,
128 + 128 q). Viewers that draw while loading expect the largest and most opaque Gaussians first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.foreign import regular_file
from splat.core.gaussians import Gaussians
from splat.core.reading import check_expansion, reading
from splat.core.slots import Reporter, SplatFile
from splat.export.header import OFFSET, UP, is_antialiased, read_notes, write_notes
from splat.export.packing import arrays, bundle, colour_from_dc, dc_from_colour, decoded_bytes, to_bytes
from splat.export.repair import repaired, warn

_ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])
MAX_LOG = 88.0
"""The logarithm of the largest float32, rounded down."""


class SplatFileCodec:
    """Positions and scales are float32; colour, opacity and rotation have 8 bits; SH above degree 0 is lost."""

    name = "splat"
    suffixes: tuple[str, ...] = (".splat",)
    about = "antimatter15's format: 32 bytes per Gaussian, no view-dependent colour"

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        means, quats, log_scales, opacities, sh = arrays(gaussians)
        order = np.argsort(-(log_scales.sum(1) + np.log(np.maximum(opacities, 1e-12))), kind="stable")
        rows = np.empty(len(means), _ROW)
        rows["means"] = means
        rows["scales"] = np.exp(np.minimum(log_scales, MAX_LOG))
        rows["rgba"] = to_bytes(255 * np.concatenate([colour_from_dc(sh[:, 0]), opacities[:, None]], 1))
        rows["quats"] = to_bytes(128 + 128 * quats)
        write_atomic(path, rows[order].tobytes())
        notes = write_notes(path, header)
        if notes is not None:
            lost = ["that it was trained with anti-aliasing"] if is_antialiased(header) else []
            lost += ["where its origin is"] if OFFSET in header else []
            lost += ["which way is up"] if UP in header else []
            what = " and ".join(lost)
            warn(report, f"{path} cannot say {what}: {notes.name} beside it does, which other programs do not read.")

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        with reading(path, ".splat"):
            size = regular_file(path)
            if size % _ROW.itemsize:
                raise SplatError(f"{path} is cut short or is no .splat (its size is no multiple of 32): copy it again.")
            check_expansion(path, decoded_bytes(size // _ROW.itemsize, 1), size)
            rows = np.fromfile(path, _ROW)
            with np.errstate(divide="ignore", invalid="ignore"):
                log_scales = np.log(rows["scales"])
            quats = (rows["quats"].astype(np.float32) - 128) / 128
            dc = dc_from_colour(rows["rgba"][:, None, :3] / 255)
            g = bundle(rows["means"], quats, log_scales, rows["rgba"][:, 3] / 255, dc)
            return SplatFile(repaired(g, path, report), read_notes(path) or {})
