"""How near the mesh of a finished run of a scene that `scenes/` makes is to the true surface.

    python scripts/mesh_accuracy.py RUN --photos FOLDER [--results FILE.md]

FOLDER is what `splat.scenes.make` wrote. The run's frame is aligned with the true one by the camera centres. The true
surface is what at least two training cameras see, by exact depth maps; the room's size is the longest side of the box
around it. Accuracy: distances from points spread evenly over the mesh to the true surface (to the tangent plane of the
nearest true point where that is near). Coverage: the share of the true surface, by area, with mesh within a distance.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.bench.scenes import load_scenes  # noqa: E402
from splat.core.files import write_atomic  # noqa: E402
from splat.core.geometry import Similarity, align_points  # noqa: E402
from splat.core.slots import PathCamera  # noqa: E402
from splat.export.mesh import Mesh, MeshOptions, mesh_from_gaussians  # noqa: E402
from splat.run.completed import CompletedRun  # noqa: E402
from splat.run.console import Console  # noqa: E402
from splat.stages.deliver import as_trained  # noqa: E402
from splat.stages.matched import matched_depths  # noqa: E402

SPACING = 0.008
"""Of true points, in the scene's units (metres)."""
SAMPLES = 300_000


def true_surface(truth: Any, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Points [n 3] and normals of what at least two of the named photos see, one per cube of side SPACING."""
    chosen = [i for i, n in enumerate(truth.names) if n in names]
    depths = [truth.depth(truth.names[i]).double() for i in chosen]
    points, normals = [], []
    for i, depth in zip(chosen, depths):
        camera, pose = truth.cameras[i], truth.world_from_cam[i]
        known = depth > 0
        at = pose.apply(camera.unproject(camera.pixel_centres().double()[known], depth[known]))
        seen = torch.zeros(len(at), dtype=torch.int64)
        for j, other in zip(chosen, depths):
            k = truth.cameras[j]
            local = truth.world_from_cam[j].inverse().apply(at)
            pixel = k.project(local)
            inside = (local[:, 2] > 0) & k.contains(pixel)
            column, row = pixel[inside].long().unbind(1)
            seen[inside] += ((other[row, column] / local[inside][:, 2] - 1).abs() < 0.01).long()
        points.append(at[seen >= 2])
        normals.append(truth.normals(truth.names[i])[known][seen >= 2])
    p, n = torch.cat(points).numpy(), torch.cat(normals).numpy()
    _, first = np.unique(np.floor(p / SPACING).astype(np.int64), axis=0, return_index=True)
    return p[first], n[first]


def sampled(mesh: Mesh, count: int, seed: int = 0) -> np.ndarray:
    """Points spread evenly over the area of a mesh."""
    rng = np.random.default_rng(seed)
    areas = mesh.areas().double().numpy()
    face = mesh.faces.numpy()[
        np.searchsorted(np.cumsum(areas), rng.random(count) * areas.sum()).clip(max=len(areas) - 1)
    ]
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    a, b, c = (mesh.vertices.double().numpy()[face[:, i]] for i in range(3))
    out: np.ndarray = a + u * (b - a) + v * (c - a)
    return out


def compare(mesh: Mesh, points: np.ndarray, normals: np.ndarray) -> dict[str, float]:
    """Of a mesh in the true frame."""
    size = float(np.ptp(points, axis=0).max())
    on_mesh = sampled(mesh, SAMPLES)
    distance, nearest = cKDTree(points).query(on_mesh, workers=1)
    offset = on_mesh - points[nearest]
    plane = np.abs((offset * normals[nearest]).sum(1))
    error = np.where(distance < 3 * SPACING, plane, distance)
    back, _ = cKDTree(on_mesh).query(points, workers=1)
    return {
        "size": size,
        "median_mm": 1000 * float(np.median(error)),
        "mean_mm": 1000 * float(error.mean()),
        "p90_mm": 1000 * float(np.quantile(error, 0.9)),
        "median_percent": 100 * float(np.median(error)) / size,
        "beyond_1_percent": 100 * float((error > 0.01 * size).mean()),
        "covered_percent": 100 * float((back < 0.01 * size).mean()),
        "covered_half_percent": 100 * float((back < 0.005 * size).mean()),
        "covered_2cm": 100 * float((back < 0.02).mean()),
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
    }


def true_from_world(run: CompletedRun, truth: Any) -> Similarity:
    poses = dict(zip(truth.names, truth.world_from_cam))
    views = [v for v in run.capture.views if v.name in poses and v.world_from_cam is not None]
    found = torch.stack([v.pose.translation for v in views])
    return align_points(found, torch.stack([poses[v.name].translation for v in views]).double())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--voxel", type=float, help="side of a voxel, in the scene's units")
    parser.add_argument("--min-views", type=int, default=MeshOptions.min_views)
    parser.add_argument("--matching-size", type=int, default=MeshOptions.matching_size, help="0: of drawn depth alone")
    parser.add_argument("--keep", type=Path, help="write the mesh, in the true frame, to this .npz")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path)
    a = parser.parse_args()
    truth = load_scenes().load_truth(a.photos)
    run = CompletedRun.open(a.run)
    torch.set_num_threads(a.threads)
    place = true_from_world(run, truth)
    capture = as_trained(run.capture, run.trained)
    cameras = [PathCamera(v.camera, v.pose) for v in capture.train_views if v.world_from_cam is not None]
    options = MeshOptions(voxel=a.voxel and a.voxel / place.scale, min_views=a.min_views, matching_size=a.matching_size)
    started = time.process_time()
    with Console() as report:
        matched = matched_depths(run, capture, options.matching_size, report)
        report.begin("mesh")
        made = mesh_from_gaussians(run.trained.gaussians, cameras, run.raster, run.settings, options, report, matched)
    seconds = time.process_time() - started
    mesh = replace(made, vertices=place.apply(made.vertices.double()).float())
    if a.keep:
        np.savez(a.keep, vertices=mesh.vertices.numpy(), faces=mesh.faces.numpy(), rgb=mesh.rgb.numpy())
    points, normals = true_surface(truth, [v.name for v in capture.train_views])
    figures = compare(mesh, points, normals) | {"seconds": seconds, "photos": len(cameras)}
    lines = [f"| {k} | {v:.3f} |" if isinstance(v, float) else f"| {k} | {v} |" for k, v in figures.items()]
    text = "\n".join([f"# Mesh of {truth.scene}", "", "| figure | value |", "| --- | --- |", *lines]) + "\n"
    print(text)
    if a.results:
        write_atomic(a.results, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
