"""Poses of three and six photos alone: SIFT beside SIFT and DISK + LightGlue.

    SPLAT_WEIGHTS=... python scripts/sparse_poses.py --data DATA [--scenes banana] [--photos few3,few6] [--dry-run]

DATA holds captures with a split.json that names the photos of `few3` and `few6`; `all` are all photos of the folder.
Poses are found from these photos alone: they are linked into a folder of their own, so that no other photo says
anything. What a cell measured is kept in scripts/results/sparse_poses, one file a cell, and is not measured again.

Seconds are those of the clock, and those that all threads of the process computed together (in brackets), which other
work on the machine leaves alone. "fewest points": those of the model that the photo with fewest of them observes; a
pose that few hold means little. The reprojection error is the median over all observations, px in a photo of 1600.
Where the data has reference poses, the error of position is the median over photos after the similarity that aligns all
centres, which for three photos leaves two of nine degrees of freedom: it says little.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import splat.ingest  # noqa: E402
from scripts.pose_accuracy import read_strecha  # noqa: E402
from splat.core.capture import Capture  # noqa: E402
from splat.core.errors import SplatError  # noqa: E402
from splat.core.files import write_atomic, write_json  # noqa: E402
from splat.core.geometry import align_points  # noqa: E402
from splat.core.machine import available_cores  # noqa: E402
from splat.core.slots import PoseResult, Silent  # noqa: E402
from splat.poses import Sfm  # noqa: E402
from splat.priors.disk_lightglue import DiskLightGlue  # noqa: E402
from splat.priors.stereo import Stereo  # noqa: E402

SCENES = ("horse16", "fountain_P11", "banana", "kermit", "llff_fern", "sceaux_castle")
CELLS = ("few3", "few6")
MATCHES = ("sift", "disk")


def true_centres(folder: Path, names: list[str]) -> tuple[dict[str, torch.Tensor], float | None]:
    """Centres of the reference cameras by photo, and millimetres in one of their units where that is known."""
    surveyed = sorted((folder / "gt_dense_cameras").glob("*.camera"))
    if surveyed:
        return {p.name.removesuffix(".camera"): read_strecha(p).translation for p in surveyed}, 1000.0
    if (folder / "poses_bounds.npy").is_file():
        rows = np.load(folder / "poses_bounds.npy")[:, :15].reshape(-1, 3, 5)
        return {n: torch.from_numpy(m[:, 3].copy()) for n, m in zip(names, rows, strict=True)}, None
    return {}, None


def reprojection_px(capture: Capture) -> float | None:
    """Median over all observations, px in a photo with a long side of 1600."""
    if capture.points is None or capture.tracks is None:
        return None
    errors = []
    for i, view in enumerate(capture.views):
        seen = capture.tracks.view_ids == i
        points = capture.points.positions[capture.tracks.point_ids[seen]].double()
        pixels = view.camera.project(view.pose.inverse().apply(points))
        scale = 1600 / max(view.camera.width, view.camera.height)
        errors.append((pixels - capture.tracks.pixels[seen].double()).norm(dim=1) * scale)
    return float(torch.cat(errors).median())


def fewest_points(capture: Capture) -> int:
    """Points that the photo with fewest of them observes: hardly any, and its pose means nothing."""
    assert capture.tracks is not None
    return int(torch.bincount(capture.tracks.view_ids, minlength=len(capture.views)).min())


def position_error(result: PoseResult, truth: dict[str, torch.Tensor], unit_mm: float | None) -> dict[str, float]:
    views = [v for v in result.capture.views if v.name in truth]
    if len(views) < 3:
        return {}
    true = torch.stack([truth[v.name] for v in views]).double()
    found = torch.stack([v.pose.translation for v in views]).double()
    distances = (align_points(found, true).apply(found) - true).norm(dim=1)
    out = {"position_percent": 100 * float(distances.median() / torch.cdist(true, true).max())}
    return out if unit_mm is None else out | {"position_mm": unit_mm * float(distances.median())}


def measure(folder: Path, images: Path, names: list[str], matches: str, threads: int) -> dict[str, Any]:
    everything = sorted(p.name for p in images.iterdir())
    truth, unit_mm = true_centres(folder, everything)
    with tempfile.TemporaryDirectory() as temporary:
        alone = Path(temporary) / "photos"
        alone.mkdir()
        for name in names:
            (alone / name).symlink_to((images / name).resolve())
        capture = splat.ingest.read(alone, report=Silent())
        beside = (DiskLightGlue(), Stereo()) if matches == "disk" else (None, None)
        start, cpu = time.monotonic(), time.process_time()
        out: dict[str, Any] = {"of": len(names)}
        try:
            result = Sfm(matches=matches, threads=threads)(capture, Path(temporary) / "work", Silent(), *beside)
        except SplatError as e:
            out |= {"registered": 0, "error": str(e)}
        else:
            details = result.details
            out |= {
                "registered": len(result.capture.views),
                "missing": result.unregistered,
                "chosen": details["chosen"],
                "attempts": [
                    {k: a[k] for k in ("name", "registered", "seconds", "pairs_verified", "skipped") if k in a}
                    for a in details["attempts"]
                ],
                "placed_by_depth": details.get("placed_by_depth", {}),
                "warnings": list(result.warnings),
                "points": details["points"],
                "fewest_points": fewest_points(result.capture),
                "reprojection_px": reprojection_px(result.capture),
                **position_error(result, truth, unit_mm),
            }
        return out | {"seconds": time.monotonic() - start, "cpu_seconds": time.process_time() - cpu}


def table(folder: Path) -> str:
    head = ["capture", "photos", "matches", "placed", "seconds (computed)", "fewest points", "reprojection, px"]
    head.append("position")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for path in sorted(folder.glob("*.json")):
        r = json.loads(path.read_text())
        error = "-" if r.get("reprojection_px") is None else f"{r['reprojection_px']:.2f}"
        position = "-" if "position_percent" not in r else f"{r['position_percent']:.2f} %"
        position = f"{r['position_mm']:.2f} mm" if "position_mm" in r else position
        by_depth = f" ({len(r['placed_by_depth'])} by depth)" if r.get("placed_by_depth") else ""
        seconds = f"{r['seconds']:.0f} ({r['cpu_seconds']:.0f})"
        cells = [
            r["scene"], r["photos"], {"sift": "SIFT", "disk": "SIFT and DISK + LightGlue"}[r["matches"]],
            f"{r['registered']} of {r['of']}{by_depth}", seconds, str(r.get("fewest_points", "-")), error, position,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--photos", default=",".join(CELLS), help="few3, few6, all")
    parser.add_argument("--matches", default=",".join(MATCHES))
    parser.add_argument("--out", type=Path, default=ROOT / "scripts" / "results" / "sparse_poses")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores, as `splat` itself does")
    parser.add_argument("--dry-run", action="store_true", help="name the cells that are not measured yet")
    arguments = parser.parse_args()
    if "disk" in arguments.matches.split(",") and not arguments.dry_run:
        try:
            DiskLightGlue().check()
        except SplatError as e:
            print(e, file=sys.stderr)
            return 2
    threads = arguments.threads or available_cores()
    torch.set_num_threads(threads)
    for scene in arguments.scenes.split(","):
        folder = arguments.data / scene
        split = json.loads((folder / "split.json").read_text())
        images = folder / split["images"]
        for photos in arguments.photos.split(","):
            names = sorted(p.name for p in images.iterdir()) if photos == "all" else split[photos]
            for matches in arguments.matches.split(","):
                path = arguments.out / f"{scene}-{photos}-{matches}.json"
                if path.exists():
                    continue
                print(path.stem, flush=True)
                if arguments.dry_run:
                    continue
                found = measure(folder, images, names, matches, threads)
                arguments.out.mkdir(parents=True, exist_ok=True)
                write_json(path, {"scene": scene, "photos": photos, "matches": matches, "threads": threads} | found)
                print(f"  {found['registered']} of {found['of']} in {found['seconds']:.0f} s", flush=True)
    if arguments.out.is_dir() and not arguments.dry_run:
        written = table(arguments.out)
        write_atomic(arguments.out / "table.md", written)
        print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
