"""What the package's refiner makes of held-out photos: PSNR, SSIM and LPIPS of renders before and after.

    python scripts/refiner_gain.py RUN... [--size 480] [--drawn-small] [--weights FILE] [--pictures DIR]
                                   [--name captures]

Each RUN is a finished run folder; its training photos are what the refiner may copy from, its held-out photos the
truth. Nothing is fitted to the scene. LPIPS (or ST-LPIPS) where its weights are found (SPLAT_WEIGHTS). Numbers are kept
in scripts/results/refiner/NAME.json, one row a run, and as a table beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from splat.core.capture import View  # noqa: E402
from splat.core.files import write_atomic, write_json  # noqa: E402
from splat.core.image import write_png  # noqa: E402
from splat.core.metrics import psnr, ssim  # noqa: E402
from splat.core.slots import ReferencePhoto, RenderedView  # noqa: E402
from splat.geometry.drawing import draw_view  # noqa: E402
from splat.geometry.virtual_path import nearest_first  # noqa: E402
from splat.priors.refiner import FittedRefiner, SceneRefiner  # noqa: E402
from splat.priors.refiner.inputs import CHANNELS  # noqa: E402
from splat.priors.refiner.unet import RefinerNet  # noqa: E402
from splat.priors.refiner.weights import FILE, load_weights  # noqa: E402
from splat.run.completed import CompletedRun  # noqa: E402
from splat.stages.perceptual import perceptual_metric  # noqa: E402
from splat.train.step import pooled  # noqa: E402

RESULTS = ROOT / "scripts" / "results" / "refiner"


def refiner_of(path: Path) -> FittedRefiner:
    found = load_weights(path)
    if found is None:
        raise SystemExit(f"{path} does not exist: make it with scripts/train_refiner.py.")
    net = RefinerNet(CHANNELS, found.widths)
    net.load_state_dict(found.tensors)
    return FittedRefiner(SceneRefiner(), net.eval(), "as it comes")


def measure(
    root: Path, refiner: FittedRefiner, size: int, drawn_small: bool, lpips: Any, pictures: Path | None
) -> dict[str, Any]:
    """One row: means over the held-out photos of a run, and each view's change."""
    run = CompletedRun.open(root)

    def small(view: View) -> View:
        return replace(view, camera=view.camera.at_most(size))

    def drawn(view: View) -> RenderedView:
        """Of a small view: drawn about as large as the photos that the scene learned from, and averaged."""
        k = 1 if drawn_small else max(1, round(full / max(view.camera.width, view.camera.height)))
        camera = view.camera.resized(k * view.camera.width, k * view.camera.height)
        background, beyond = run.trained.background, run.trained.surroundings
        render = draw_view(
            run.trained.gaussians, camera, view.pose, run.raster, run.settings, background, beyond=beyond
        )  # fmt: skip
        return RenderedView.of(pooled(render, k), view.camera, view.pose)

    full = max(max(v.camera.width, v.camera.height) for v in run.capture.train_views)

    references = []
    for view in map(small, run.capture.train_views):
        render = drawn(view)
        depth = torch.where(render.alpha > 0.5, render.depth, 0)
        references.append(ReferencePhoto(view.camera, view.pose, view.rgb().float(), depth))
    rows = []
    for view in map(small, [v for v in run.capture.test_views if v.world_from_cam is not None]):
        render, target = drawn(view), view.rgb().float()
        refined = refiner.refine(render, nearest_first(view.pose, references))
        row = {"name": view.name}
        for label, image in (("render", render.rgb), ("refined", refined.rgb)):
            row[f"psnr_{label}"], row[f"ssim_{label}"] = psnr(image, target), ssim(image, target)
            if lpips is not None:
                row[f"lpips_{label}"] = lpips(image, target)
        rows.append(row)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            shown = (255 * torch.cat([render.rgb, refined.rgb, target], 1)).byte().numpy()
            write_png(pictures / f"{root.name}-{Path(view.name).stem}.png", shown)
    if not rows:
        raise SystemExit(f"{root} holds out no posed photo: reconstruct with --heldout posed --test-every 4.")
    figures = {k: mean(r[k] for r in rows) for k in rows[0] if k != "name"}
    gains = [r["psnr_refined"] - r["psnr_render"] for r in rows]
    return figures | {"views": len(rows), "photos": len(references), "worst_gain": min(gains), "size": size}


def table(rows: dict[str, Any]) -> str:
    lines = [
        "Held-out photos, renders as they are -> refined by the package's weights, not fitted to the scene.",
        "Made by `scripts/refiner_gain.py`.",
        "",
        "| run | photos | views | px | PSNR, dB | gain | worst view | SSIM | LPIPS |",
        "|" + " --- |" * 9,
    ]
    for name, r in rows.items():
        lpips = f"{r['lpips_render']:.3f} -> {r['lpips_refined']:.3f}" if "lpips_render" in r else ""
        change, similar = r["psnr_refined"] - r["psnr_render"], f"{r['ssim_render']:.3f} -> {r['ssim_refined']:.3f}"
        lines.append(
            f"| {name} | {r['photos']} | {r['views']} | {r['size']} "
            f"| {r['psnr_render']:.2f} -> {r['psnr_refined']:.2f} "
            f"| {change:+.2f} | {r['worst_gain']:+.2f} | {similar} | {lpips} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=480, help="long side of the renders, px")
    parser.add_argument("--drawn-small", action="store_true", help="draw at that size, in place of the photos' size")
    parser.add_argument("--weights", type=Path, default=FILE)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--name", default="captures")
    parser.add_argument("--label", help="name of the row, for one RUN")
    given = parser.parse_args()
    refiner, (lpips, note) = refiner_of(given.weights), perceptual_metric(None)
    print(f"LPIPS: {note}")
    kept = RESULTS / f"{given.name}.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else {}
    for root in given.runs:
        rows[given.label or root.name] = measure(root, refiner, given.size, given.drawn_small, lpips, given.pictures)
        write_json(kept, rows)
    text = table(rows)
    write_atomic(kept.with_suffix(".md"), text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
