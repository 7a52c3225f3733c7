"""How far a run's cameras are from surveyed or simulated ones, after the similarity that aligns their centres.

    python scripts/pose_accuracy.py RUN TRUTH [--unit-mm 1000] [--json FILE]

RUN is a run folder of `splat reconstruct` (its export/cameras.json is read), or such a file. TRUTH is a folder of
Strecha et al.'s `*.camera` files (or a dataset folder that holds `gt_dense_cameras/`), a folder made by `scenes/`, or a
file or folder with cameras.json in the same layout as the export's. Distances are in millimetres (for a truth in
metres: --unit-mm 1000, the default) and in per cent of the largest distance between two true camera centres.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.geometry import Rigid, align_points

Poses = dict[str, Rigid]


def read_strecha(path: Path) -> Rigid:
    """`world_from_cam` of a `*.camera` file: three rows of K, one of distortion, three of the rotation, the centre."""
    rows = [[float(v) for v in line.split()] for line in path.read_text().splitlines() if line.strip()]
    return Rigid(torch.tensor(rows[4:7], dtype=torch.float64), torch.tensor(rows[7], dtype=torch.float64))


def read_cameras(path: Path) -> Poses:
    """Poses of a cameras.json by photo name."""
    views = json.loads(path.read_text())["views"]
    return {v["name"]: Rigid.from_matrix(torch.tensor(v["world_from_cam"], dtype=torch.float64)) for v in views}


def read_poses(path: Path) -> Poses:
    """Whatever of the above is there."""
    strecha = [*path.glob("*.camera"), *path.glob("gt_dense_cameras/*.camera")] if path.is_dir() else []
    if strecha:
        return {p.name.removesuffix(".camera"): read_strecha(p) for p in strecha}
    for name in ("", "export/cameras.json", "truth/cameras.json", "cameras.json"):
        if (path / name).is_file():
            return read_cameras(path / name)
    raise SplatError(f"{path} has neither cameras.json nor *.camera files: give a run folder or a truth folder.")


def compare(found: Poses, truth: Poses, unit_mm: float) -> dict[str, float]:
    """Errors of the cameras that both have."""
    names = sorted(found.keys() & truth.keys())
    if len(names) < 3:
        raise SplatError(f"only {len(names)} photos are in both: the names must be the same, and three are needed.")
    ours = torch.stack([found[n].translation for n in names])
    true = torch.stack([truth[n].translation for n in names])
    aligned = align_points(ours, true)
    distances = (aligned.apply(ours) - true).norm(dim=1)
    turns = [truth[n].rotation.T @ aligned.rotation @ found[n].rotation for n in names]
    degrees = torch.tensor([math.degrees(math.acos(max(-1.0, min(1.0, (float(t.trace()) - 1) / 2)))) for t in turns])
    size = torch.cdist(true, true).max()
    return {
        "cameras": len(names),
        "of": len(truth),
        "median_mm": float(distances.median()) * unit_mm,
        "max_mm": float(distances.max()) * unit_mm,
        "median_percent": float(distances.median() / size) * 100,
        "median_degrees": float(degrees.median()),
        "max_degrees": float(degrees.max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--unit-mm", type=float, default=1000.0, help="millimetres in one unit of the truth")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        figures = compare(read_poses(arguments.run), read_poses(arguments.truth), arguments.unit_mm)
    except SplatError as e:
        print(e, file=sys.stderr)
        return 2
    print(
        f"{figures['cameras']} of {figures['of']} cameras: centres {figures['median_mm']:.2f} mm median, "
        f"{figures['max_mm']:.2f} mm at most ({figures['median_percent']:.3f} % of the largest distance, median); "
        f"rotations {figures['median_degrees']:.3f} degrees median, {figures['max_degrees']:.3f} at most"
    )
    if arguments.json:
        write_json(arguments.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
