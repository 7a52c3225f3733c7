"""What `splat render --enhance filter` does to renders: held-out photos, and the flicker of a flight.

    python scripts/enhance_gain.py RUN... [--size 480] [--frames 40] [--pictures DIR] [--label NAME]

Each RUN is a finished run folder. Held-out photos: PSNR, SSIM and LPIPS (or ST-LPIPS, where weights are found) of
renders as they are and enhanced with the detail of training photos; a still has no neighbours in time, so the temporal
filter has no part in them. The flight goes along the cameras, with both filters; of its 240 frames those in the middle.
Flicker: the mean difference of a frame from the one after it, warped into it by the plain renders' depth, where both
show the same surface, in 1/255; the interpolation of warping is part of it. Sharpness: the mean step between
neighbouring pixels, in 1/255. Numbers are kept in scripts/results/enhance/results.json, one row a run, and as a table
in README.md beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from splat.commands.render import frame_filter  # noqa: E402
from splat.core.files import write_atomic, write_json  # noqa: E402
from splat.core.image import write_png  # noqa: E402
from splat.core.lpips import metric_title  # noqa: E402
from splat.core.metrics import psnr, ssim  # noqa: E402
from splat.core.slots import PathCamera, RenderedView  # noqa: E402
from splat.export.renders import render_frame  # noqa: E402
from splat.geometry.camera_paths import interpolated_path  # noqa: E402
from splat.geometry.compositing import composite_photo  # noqa: E402
from splat.geometry.pixel_warp import MaskedBlur, smooth  # noqa: E402
from splat.geometry.temporal_filter import surface_on_rays  # noqa: E402
from splat.run.completed import CompletedRun  # noqa: E402
from splat.stages.perceptual import perceptual_metric, reported_variant  # noqa: E402

RESULTS = ROOT / "scripts" / "results" / "enhance"
_BLUR = 1.5
"""Px, sigma."""
_FRAMES, _STILLS = 240, 4
"""Of a flight, and of these among the pictures."""


def drawn(run: CompletedRun, camera: PathCamera) -> RenderedView:
    """As `splat render` has it: colours rounded to 8 bits."""
    r, g, b = (float(v) for v in run.trained.background)
    place = camera.camera, camera.world_from_cam
    return render_frame(run.trained.gaussians, *place, run.raster, run.settings, (r, g, b)).view(camera)


def rounded(rgb: torch.Tensor) -> torch.Tensor:
    return (255 * rgb.clamp(0, 1)).round() / 255


def save(folder: Path | None, name: str, *images: torch.Tensor) -> None:
    """Images side by side."""
    if folder is not None:
        write_png(folder / f"{name}.png", (255 * torch.cat(images, 1).clamp(0, 1)).round().byte().numpy())


def on_photos(run: CompletedRun, name: str, size: int, lpips: Any, pictures: Path | None) -> dict[str, Any]:
    """Means over the held-out photos, and the largest loss of PSNR."""
    enhance = frame_filter(run, run.trained.gaussians, run.settings, still=True)
    rows = []
    for view in [v for v in run.capture.test_views if v.world_from_cam is not None]:
        small = replace(view, camera=view.camera.at_most(size))
        photo = small.load()
        target = composite_photo(photo, run.trained.background)
        mask = None if photo.weight is None else torch.from_numpy(photo.weight > 127)
        plain = drawn(run, PathCamera(small.camera, small.pose))
        enhanced = rounded(next(iter(enhance([plain]))).rgb)
        row: dict[str, Any] = {"name": view.name}
        for label, image in (("plain", plain.rgb), ("enhanced", enhanced)):
            row[f"psnr_{label}"] = psnr(image, target, mask)
            row[f"ssim_{label}"] = ssim(image, target)
            if lpips is not None:
                row[f"lpips_{label}"] = lpips(image, target)
        row["changed_percent"] = 100 * float(((plain.rgb - enhanced).abs().amax(-1) > 0.5 / 255).float().mean())
        rows.append(row)
        save(pictures, f"{name}-test-{Path(view.name).stem}", plain.rgb, enhanced, target)
    figures = {k: mean(r[k] for r in rows) for k in rows[0] if k != "name"} if rows else {}
    worst = min((r["psnr_enhanced"] - r["psnr_plain"] for r in rows), default=0.0)
    return figures | {"views": len(rows), "photos": len(run.capture.train_views), "worst_gain": worst, "rows": rows}


def flicker(frames: Sequence[RenderedView], colours: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Mean difference of each frame's colours from the next one's, warped by the frames' depth, in 1/255; and after a
    blur, which leaves out what interpolation does to fine detail."""
    found = []
    for (one, rgb), (other, other_rgb) in pairwise(zip(frames, colours, strict=True)):
        surface = surface_on_rays(one, other)
        same = surface.known & (np.abs(surface.depth / np.maximum(one.depth.numpy(), 1e-9) - 1) < 0.02)
        if same.any():
            difference = smooth(other_rgb.numpy(), *surface.pixels) - rgb.numpy()
            soft = MaskedBlur(same.astype(np.float32))(difference, _BLUR)
            found.append([255 * float(np.abs(d)[same].mean()) for d in (difference, soft)])
    fine, coarse = zip(*found, strict=True)
    return mean(fine), mean(coarse)


def sharpness(colours: Sequence[torch.Tensor]) -> float:
    """Mean absolute step between neighbouring pixels, in 1/255."""
    return 255 * mean(float((c.diff(dim=0).abs().mean() + c.diff(dim=1).abs().mean()) / 2) for c in colours)


def on_flight(run: CompletedRun, name: str, size: int, count: int, pictures: Path | None) -> dict[str, Any]:
    """`count` consecutive frames from the middle of the flight that `splat render` draws."""
    cameras = list(interpolated_path(run.capture, _FRAMES, size).cameras)
    start = (len(cameras) - count) // 2
    frames = [drawn(run, c) for c in cameras[start : start + count]]
    enhance = frame_filter(run, run.trained.gaussians, run.settings, still=False)
    started = time.monotonic()
    enhanced = [rounded(e.rgb) for e in enhance(frames)]
    seconds = time.monotonic() - started
    plain = [f.rgb for f in frames]
    if pictures is not None:
        for i in range(0, len(frames), max(1, len(frames) // _STILLS)):
            change = (0.5 + 4 * (enhanced[i] - plain[i])).clamp(0, 1)
            save(pictures, f"{name}-path-{i:04d}", plain[i], enhanced[i], change)
    return {
        "frames": len(frames),
        **dict(zip(("flicker_plain", "coarse_flicker_plain"), flicker(frames, plain))),
        **dict(zip(("flicker_enhanced", "coarse_flicker_enhanced"), flicker(frames, enhanced))),
        "sharpness_plain": sharpness(plain),
        "sharpness_enhanced": sharpness(enhanced),
        "seconds_per_frame": seconds / len(frames),
        "path_changed_percent": mean(
            100 * float(((a - b).abs().amax(-1) > 0.5 / 255).float().mean()) for a, b in zip(plain, enhanced)
        ),
    }


def table(rows: dict[str, Any]) -> str:
    title = metric_title(next((r["lpips_variant"] for r in rows.values()), None))
    lines = [
        "# `splat render --enhance filter`",
        "",
        "Plain renders -> enhanced ones. Held-out photos: detail of training photos alone (a still has no neighbours",
        "in time). Flight along the cameras: detail, then the temporal filter; flicker is the mean difference of",
        "consecutive frames after warping, 1/255, also blurred. A flight past Gaussians that do not move hardly",
        "flickers: most of that difference is the interpolation of warping, which grows with the detail that is added,",
        "less so where it is blurred. Made by `scripts/enhance_gain.py`, seconds per frame on one thread of a busy",
        "machine, at `--preset fast --max-resolution 480`; `NAME8` has `--train-photos 8`.",
        "",
        f"| run | photos | views | px | PSNR, dB | gain | worst | SSIM | {title} | flicker | blurred | sharp | s |",
        "|" + " --- |" * 13,
    ]
    for name, r in rows.items():
        cells = [name, r["photos"], r["views"], r["size"]]
        if r["views"]:
            cells.append(f"{r['psnr_plain']:.2f} -> {r['psnr_enhanced']:.2f}")
            cells += [f"{r['psnr_enhanced'] - r['psnr_plain']:+.3f}", f"{r['worst_gain']:+.3f}"]
            cells.append(f"{r['ssim_plain']:.4f} -> {r['ssim_enhanced']:.4f}")
            lpips = f"{r['lpips_plain']:.4f} -> {r['lpips_enhanced']:.4f}" if "lpips_plain" in r else ""
        else:
            cells, lpips = [*cells, "", "", "", ""], ""
        cells += [lpips, f"{r['flicker_plain']:.3f} -> {r['flicker_enhanced']:.3f}"]
        cells.append(f"{r['coarse_flicker_plain']:.3f} -> {r['coarse_flicker_enhanced']:.3f}")
        cells.append(f"{r['sharpness_plain']:.2f} -> {r['sharpness_enhanced']:.2f}")
        cells.append(f"{r['seconds_per_frame']:.2f}")
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=480, help="long side of the renders, px")
    parser.add_argument("--frames", type=int, default=40, help="of the 240 of a flight, in its middle")
    parser.add_argument("--pictures", type=Path, help="folder for plain beside enhanced")
    parser.add_argument("--label", help="name of the row, for one RUN")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="folder of results.json and README.md")
    given = parser.parse_args()
    lpips, note = perceptual_metric(None)
    print(f"LPIPS: {note}")
    kept = given.keep / "results.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else {}
    for root in given.runs:
        name = given.label or root.name
        run = CompletedRun.open(root)
        rows[name] = {"size": given.size, "lpips_variant": reported_variant(lpips)}
        rows[name] |= on_photos(run, name, given.size, lpips, given.pictures)
        rows[name] |= on_flight(run, name, given.size, given.frames, given.pictures)
        write_json(kept, rows)
        write_atomic(given.keep / "README.md", table(rows))
        print({k: v for k, v in rows[name].items() if k != "rows"})
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
