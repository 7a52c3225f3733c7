"""What each part of CoherentGS is good for: the ablation of its paper, on three photos of fern at 126 x 94 px.

    python scripts/coherent_ablation.py --data DIR --out runs/coherent [--rows full,decoder] [--steps 2000]

`--data` (default: the folder named by SPLAT_DATA) holds the capture llff_fern. Depth is mis-scaled on purpose, so that
there is something to align and to learn: every photo's depth by a factor and an offset of its own, by a fixed seed.
Each row leaves one part of `coherent_published` out, or replaces it. What is finished is kept in --results, run folders
in --out: a cut-off table goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the product does: torch's threads must not spin beside ours

import torch
from jaxtyping import Float
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.commands.reconstruct import Reconstruct  # noqa: E402
from splat.core.files import write_atomic, write_json  # noqa: E402
from splat.init import PublishedCoherent  # noqa: E402
from splat.methods import CoherentPublished  # noqa: E402
from splat.train.models.pixel_rays import PixelSettings  # noqa: E402
from splat.train.models.ray_fields import FieldSettings  # noqa: E402
from splat.train.supersampling import Supersampling  # noqa: E402

SIZE, STEPS = 126, 2000


@dataclass(frozen=True)
class MisScaled(PublishedCoherent):
    """The published first Gaussians from depth that is wrong by a scale and an offset of each photo."""

    max_scale: float = 1.6
    """Depth is multiplied by something between this and its inverse."""
    max_offset: float = 0.3
    """And moved by up to this, in units of the nearest depth / 1.33."""

    def relative_depth(self, index: int, depth: Float[Tensor, "h w"], unit: float, seed: int) -> Float[Tensor, "h w"]:
        a, b = torch.rand(2, generator=torch.Generator().manual_seed(100 + 17 * index + seed)).tolist()
        scale = math.exp((2 * a - 1) * math.log(self.max_scale))
        return (scale * depth + (2 * b - 1) * self.max_offset * unit).clamp_min(0.2 * unit)


@dataclass(frozen=True)
class Row:
    """A variant of the method."""

    about: str
    method: CoherentPublished
    paper: str = ""
    """PSNR / SSIM of the paper: full size, all scenes, occluded regions masked out."""
    settings: tuple[tuple[str, float], ...] = ()
    """Weights of `losses` that are changed."""


FULL = CoherentPublished(init=MisScaled())


def _field(kind: Any) -> CoherentPublished:
    return replace(FULL, pixels=PixelSettings(field=FieldSettings(kind=kind)))


ROWS: dict[str, Row] = {
    "full": Row("full", FULL, "20.33 / .725"),
    "decoder": Row("no decoder: depth and opacity of each pixel by itself", _field("free"), "16.68 / .477"),
    "alignment": Row("no alignment", replace(FULL, init=MisScaled(alignment="none")), "19.06 / .679"),
    "multisampling": Row("no multisampling", replace(FULL, supersampling=Supersampling()), "19.99 / .718"),
    "variation": Row("no total variation", FULL, "20.20 / .724", (("layered", 0.0),)),
    "flow": Row("no flow", replace(FULL, pixels=PixelSettings(flow_weight=0.0)), "20.32 / .723"),
    "grid": Row("a coarse grid of log depth in the decoder's place", _field("grid")),
    "robust": Row("aligned in disparity, by errors in pixels", replace(FULL, init=MisScaled(alignment="robust"))),
}


def command(row: Row, photos: Path, out: Path, steps: int) -> Reconstruct:
    """The run of a row."""
    base = Reconstruct(photos, out=out, method=row.method, iterations=steps, max_resolution=SIZE, train_photos=3)
    losses = replace(base.losses, **dict(row.settings))
    explicit = tuple(f"losses.{name}" for name, _ in row.settings)
    return replace(base, losses=losses, explicit=explicit, renders=False, threads=1, quiet=True)


def measured(name: str, photos: Path, out: Path, results: Path, steps: int) -> dict[str, Any]:
    """What a row came to, from its file where there is one of so many steps."""
    path = results / f"{name}.json"
    if path.exists() and (kept := json.loads(path.read_text()))["steps"] == steps:
        return kept
    start = time.process_time()
    metrics = command(ROWS[name], photos, out / name, steps)()
    found = {k: metrics[k] for k in ("psnr", "ssim", "num_gaussians")}
    found |= {"steps": steps, "minutes": round((time.process_time() - start) / 60, 1)}
    write_json(path, found)
    return found


def table(found: dict[str, dict[str, Any]], steps: int) -> str:
    """Markdown."""
    lines = [
        "# CoherentGS: ablations",
        "",
        f"Three photos of fern at {SIZE} px, {steps} steps, depth mis-scaled photo by photo. PSNR / SSIM of the three "
        "held-out photos, whole images; minutes of one core. Paper: LLFF, 504 px, occluded regions masked out.",
        "",
        "| variant | paper | PSNR / SSIM | against full, dB | minutes |",
        "| --- | --- | --- | --- | --- |",
    ]
    full = found.get("full", {}).get("psnr", math.nan)
    for name, f in found.items():
        row = ROWS[name]
        loss = "" if name == "full" or math.isnan(full) else f"{f['psnr'] - full:+.2f}"
        lines.append(
            f"| {row.about} | {row.paper} | {f['psnr']:.2f} / {f['ssim']:.3f} | {loss} | {f['minutes'] or ''} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPLAT_DATA", "data")))
    parser.add_argument("--out", type=Path, default=Path("runs/coherent"))
    parser.add_argument("--results", type=Path, default=ROOT / "scripts" / "results" / "coherent")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args(argv)
    photos = given.data / "llff_fern"
    if not photos.is_dir():
        print(f"{photos} is not there: nothing to measure", file=sys.stderr)
        return 0
    torch.set_num_threads(1)
    wanted = given.rows.split(",")
    if unknown := [n for n in wanted if n not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}: choose from {', '.join(ROWS)}")
    found: dict[str, dict[str, Any]] = {}
    for name in wanted:
        found[name] = measured(name, photos, given.out, given.results, given.steps)
        print(f"{name}: {found[name]['psnr']:.2f} dB", flush=True)
    kept = {n: f for n in ROWS if (f := found.get(n) or _kept(given.results / f"{n}.json", given.steps))}
    text = table(kept, given.steps)
    write_atomic(given.results / "ablation.md", text)
    print(text)
    return 0


def _kept(path: Path, steps: int) -> dict[str, Any] | None:
    kept = json.loads(path.read_text()) if path.exists() else None
    return kept if kept and kept["steps"] == steps else None


if __name__ == "__main__":
    sys.exit(main())
