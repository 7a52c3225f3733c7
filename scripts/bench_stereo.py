"""Dense stereo against truth: the Middlebury motorcycle pair (beside OpenCV's StereoSGBM), and a ray-traced scene.

    python scripts/bench_stereo.py [--data DIR] [--scene atelier] [--json FILE]

bad-2.0: the share of kept pixels whose disparity is wrong by more than 2 px; kept: the share of pixels with a true
disparity that are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the product does: torch's threads must not spin beside ours

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from splat.bench.scenes import load_scenes
from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.geometry import Rigid
from splat.core.slots import Silent
from splat.geometry.reproject import forward_backward
from splat.priors.neighbours import overlap
from splat.priors.stereo import Stereo
from splat.priors.stereo_search import StereoView, grey_of

FOCAL, CX, CY, DOFFS, BASELINE = 994.978, 311.193, 254.877, 31.086, 193.001


def disparity_errors(found: Tensor, kept: Tensor, truth: Tensor) -> dict[str, float]:
    known = truth.isfinite() & (truth > 0)
    both = kept & known
    bad = ((found - truth).abs() > 2) & both
    return {"bad_2_percent": 100 * float(bad.sum() / both.sum()), "kept_percent": 100 * float(both.sum() / known.sum())}


def motorcycle(folder: Path, stereo: Stereo) -> dict[str, Any]:
    pictures = [cv2.imread(str(folder / f"motorcycle_{side}.png")) for side in ("left", "right")]
    arrays = np.load(folder / "motorcycle_disp.npz")
    truth = torch.from_numpy(np.array(arrays[arrays.files[0]], dtype=np.float32))
    h, w = pictures[0].shape[:2]
    depths = (FOCAL * BASELINE / (80 + DOFFS), FOCAL * BASELINE / (4 + DOFFS))
    views = []
    for i, picture in enumerate(pictures):
        rgb = torch.from_numpy(picture[..., ::-1].copy()).float() / 255
        camera = Camera(FOCAL, FOCAL, CX + i * DOFFS + 0.5, CY + 0.5, w, h)
        pose = Rigid(torch.eye(3, dtype=torch.float64), torch.tensor([i * BASELINE, 0, 0], dtype=torch.float64))
        views.append(StereoView(camera, pose, grey_of(rgb), depths))
    started = time.perf_counter()
    left = stereo.match(views, [[1], [0]], Silent())[0]
    seconds = time.perf_counter() - started
    ours = disparity_errors(FOCAL * BASELINE / left.depth - DOFFS, left.measured, truth)
    sgbm = cv2.StereoSGBM.create(numDisparities=96, blockSize=5, P1=600, P2=2400, uniquenessRatio=10, disp12MaxDiff=1)
    greys = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in pictures]
    found = torch.from_numpy(sgbm.compute(*greys).astype(np.float32) / 16)
    return {"ours": {**ours, "seconds": seconds}, "sgbm": disparity_errors(found, found > 0, truth)}


def traced(name: str, stereo: Stereo, folder: Path, scale: float = 1.0, views: int | None = None) -> dict[str, Any]:
    """Relative errors of depth where it is believed; how much of what at least two matched photos see is believed; and
    degrees between normals."""
    truth = load_scenes().make(name, folder, scale, views)
    depths = [truth.depth(n) for n in truth.names]
    points = []
    for camera, pose, depth in zip(truth.cameras, truth.world_from_cam, depths, strict=True):
        pixels = camera.pixel_centres()[::24, ::24].reshape(-1, 2)
        d = depth[::24, ::24].reshape(-1)
        points.append(pose.apply(camera.unproject(pixels, d))[d > 0])
    cloud = torch.cat(points).float()
    taken = [
        View(n, truth.images / n, (c.width, c.height), c, p)
        for n, c, p in zip(truth.names, truth.cameras, truth.world_from_cam, strict=True)
    ]
    capture = Capture(tuple(taken), PointCloud(cloud, torch.zeros_like(cloud)))
    started = time.perf_counter()
    maps = stereo(capture, Silent())
    seconds = time.perf_counter() - started
    pairs = stereo.pairs(overlap(capture))
    errors, degrees, believed, seen = [], [], 0, 0
    for i, found in enumerate(maps):
        covisible = torch.zeros_like(depths[i], dtype=torch.bool)
        a = StereoView(truth.cameras[i], truth.world_from_cam[i], depths[i], (0.0, 1e9))
        for o in pairs[i]:
            b = StereoView(truth.cameras[o], truth.world_from_cam[o], depths[o], (0.0, 1e9))
            found_there = forward_backward(a.camera, a.world_from_cam, depths[i], b.camera, b.world_from_cam, depths[o])
            covisible |= found_there.consistent(1.0, 0.01)
        kept = found.measured & (depths[i] > 0)
        errors.append((found.depth / depths[i] - 1).abs()[kept])
        assert found.normals_cam is not None
        true_normals = truth.normals(truth.names[i]) @ truth.world_from_cam[i].rotation.float()
        degrees.append((found.normals_cam * true_normals).sum(2).clamp(-1, 1).arccos().rad2deg()[kept])
        believed += int((kept & covisible).sum())
        seen += int(covisible.sum())
    error, angle = torch.cat(errors), torch.cat(degrees)
    return {
        "median_error_percent": 100 * float(error.median()),
        "within_2_percent": 100 * float((error < 0.02).float().mean()),
        "believed_of_covisible_percent": 100 * believed / seen,
        "median_normal_degrees": float(angle.median()),
        "seconds": seconds,
        "megapixels": sum(d.numel() for d in depths) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(os.environ.get("SPLAT_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=root)
    parser.add_argument("--scene", default="atelier")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    folder = arguments.data / "stereo_motorcycle"
    if folder.is_dir():
        figures["motorcycle"] = motorcycle(folder, Stereo())
        print(figures["motorcycle"], flush=True)
    else:
        print(f"no {folder}: set SPLAT_DATA; the motorcycle is left out")
    with tempfile.TemporaryDirectory() as scratch:
        figures[arguments.scene] = traced(arguments.scene, Stereo(), Path(scratch))
        print(figures[arguments.scene], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
