"""What `--clean` removes and what it costs: floaters and PSNR of four captures before and after.

    python scripts/clean_floaters.py --data DIR --out runs/clean [--scenes fox,banana] [--threads 1]

Each capture is reconstructed (preset fast, no renders) where its run is not there yet, then cleaned, judged by its
held-out photos (with `--training` also by its training photos, as where none is held out). Numbers are kept in
scripts/results/clean, one JSON a scene, so that the table can be made in several sittings.
`--pictures DIR`: the worst place before and after.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from splat.__main__ import main as splat  # noqa: E402
from splat.bench.scenes import traced  # noqa: E402
from splat.core.files import write_atomic, write_json  # noqa: E402
from splat.core.image import write_png  # noqa: E402
from splat.geometry.floaters import floating  # noqa: E402
from splat.native import bindings  # noqa: E402
from splat.run.completed import CompletedRun  # noqa: E402
from splat.stages.clean import clean_scene  # noqa: E402
from splat.stages.floaters import free_space, measured, pictures, places  # noqa: E402

RESULTS = ROOT / "scripts" / "results" / "clean"
SCENES = ("fox", "banana", "horse16", "atelier")
SIDE = 640


def run_of(scene: str, data: Path, out: Path, threads: int) -> Path:
    """The run folder of a scene, made if it is not there."""
    run = out / (scene if scene != "atelier" else "atelier12")
    if not (run / "metrics.json").is_file():
        flags = ["--preset", "fast", "--threads", str(threads), "--no-renders", "--out", str(run)]
        if scene == "atelier":
            photos = traced("atelier", out / "photos" / "atelier").photos
            flags += ["--ignore-poses", "--train-photos", "12"]
        else:
            photos = data / scene
        if splat(["reconstruct", str(photos), *flags]) != 0:
            raise SystemExit(f"{scene} failed")
    return run


def measure(scene: str, run: CompletedRun, threads: int, folder: Path | None, training: bool) -> dict[str, object]:
    tests = [v for v in run.capture.test_views if v.world_from_cam is not None]
    started = time.perf_counter()
    depths = free_space(run.capture, threads, 0)
    stereo = time.perf_counter() - started
    row: dict[str, object] = {"photos": len(run.capture.train_views), "heldout_photos": len(tests)}
    row |= {"gaussians": len(run.trained.gaussians), "stereo_seconds": round(stereo, 1)}
    for name, judges in (("heldout", tests), ("training", []))[: 1 + training]:
        started = time.perf_counter()
        scene_left = clean_scene(run.capture, run.trained, judges, depths, run)
        row[name] = scene_left.figures() | {"seconds": round(time.perf_counter() - started, 1)}
        if name == "heldout":
            kept = scene_left.gaussians
    where = places(run.capture, tests)
    shares = [
        [f.share for f in measured(g, depths, where, run.raster, run.settings)] for g in (run.trained.gaussians, kept)
    ]
    worst = int(np.argmax(shares[0]))
    row["worst_place"] = {"name": where[worst].name, "before": shares[0][worst], "after": shares[1][worst]}
    if folder is not None:
        place = places(run.capture, tests, SIDE)[worst]
        rows = []
        for g in (run.trained.gaussians, kept):
            marks = floating(g.means, depths)
            rows.append(np.hstack(pictures(g, run.trained.background, marks, place, run.raster, run.settings)))
        folder.mkdir(parents=True, exist_ok=True)
        write_png(folder / f"{scene}.png", np.vstack(rows))
    return row


def table() -> str:
    lines = [
        "Floaters: share of the blended weight in space that two photos see past, at held-out photos and between them.",
        "Preset fast; PSNR is the mean over the photos that judge. Made by `scripts/clean_floaters.py`.",
        "",
        "| scene | photos | Gaussians | judged by | candidates | removed | floaters % | worst place % | PSNR, dB | s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        row = json.loads(path.read_text())
        for name in ("heldout", "training"):
            if name not in row:
                continue
            r, w = row[name], row["worst_place"]
            worst = f"{100 * w['before']:.2f} -> {100 * w['after']:.2f}" if name == "heldout" else ""
            lines.append(
                f"| {path.stem} | {row['photos']} | {row['gaussians']:,} | {name} | {r['candidates']} | {r['removed']} "
                f"| {100 * r['floaters_before']:.2f} -> {100 * r['floaters_after']:.2f} | {worst} "
                f"| {r['psnr_before']:.2f} -> {r['psnr_after']:.2f} | {r['seconds'] + row['stereo_seconds']:.0f} |"
            )
    rows = {p.stem: json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))}
    notes = [f"{name}: {row['note']}" for name, row in rows.items() if row.get("note")]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("runs/clean"))
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--training", action="store_true")
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for scene in given.scenes.split(","):
        kept = RESULTS / f"{scene}.json"
        if kept.is_file() and given.pictures is None:
            continue
        run = CompletedRun.open(run_of(scene, given.data, given.out, given.threads))
        bindings.set_threads(given.threads)
        write_json(kept, measure(scene, run, given.threads, given.pictures, given.training))
    write_atomic(RESULTS / "clean.md", table().encode())
    print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
