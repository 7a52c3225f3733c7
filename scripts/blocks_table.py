"""A capture in blocks beside the whole: held-out quality, memory of every process, owners, and whether seams show.

    python scripts/blocks_table.py --data DIR --out runs/blocks [--scenes fox,street] [--blocks 4] [--workers 2]
                                   [--cap 300000] [--set max-resolution=320 ...] [--threads 1] [--pictures DIR]
                                   [--enlarge 4 --name street_large --no-seams]

Both are trained from the same poses, which are found once. The whole is a task of the local engine, as each block is,
so that memory is measured alike. Beside the peak of all memory, which is what the target of 40 % is about, stand the
peak without what the process filled when its imports were done, and anonymous memory, with and without its imports:
pages of libraries are shared by the workers of a machine (`process_memory.py`). Memory does not depend on the number of
steps once the cap is reached, so that a row may have few of them; and `--enlarge` makes the photos of the street larger
without showing more. The quality of such rows says nothing.

Pixels at a seam are those of held-out photos most of which is drawn by Gaussians within 3 % of the scene's width of
where two blocks meet. Numbers are kept in scripts/results/blocks, one JSON a scene,
so that the table can be made in several sittings; `table.md` there has them all. `--pictures DIR`: the held-out photos
with most pixels at a seam: photo, whole, blocks, and the seam.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from process_memory import Filled, Watch  # noqa: E402

from splat.bench.engines import Local, Outcome, Task  # noqa: E402
from splat.bench.scenes import load_scenes  # noqa: E402
from splat.core.files import write_atomic, write_json  # noqa: E402
from splat.core.foreign import read_json  # noqa: E402
from splat.core.image import write_png  # noqa: E402
from splat.geometry.blocks import Partition  # noqa: E402
from splat.geometry.compositing import composite_photo  # noqa: E402
from splat.geometry.drawing import draw_view  # noqa: E402
from splat.run.completed import CompletedRun  # noqa: E402

RESULTS = ROOT / "scripts" / "results" / "blocks"
NEAR = 0.03
"""Of the scene's width: how near a seam a Gaussian counts as being at it."""
LIMIT_DB, LIMIT_MEMORY = 0.3, 0.4


def photos_of(scene: str, data: Path, out: Path, enlarge: int) -> Path:
    """The street is made; `enlarge`: by how much its photos are larger than they were taken."""
    if scene != "street":
        return data / scene
    folder = out / "photos" / "street"
    load_scenes().make("street", folder)
    if enlarge == 1:
        return folder
    larger = out / "photos" / f"street_x{enlarge}"
    about = read_json(folder / "transforms.json")
    for frame in about["frames"]:
        path = larger / frame["file_path"]
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            photo = cv2.imread(str(folder / frame["file_path"]))
            photo = cv2.resize(photo, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(path), photo)
    scaled = {k: enlarge * about[k] for k in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    write_json(larger / "transforms.json", about | scaled)
    return larger


def run(name: str, folder: Path, photos: Path, flags: list[str], poses: Path) -> Outcome | None:
    """One process of `splat reconstruct`, or None where it has been run; it starts from poses that are there."""
    if (folder / "metrics.json").is_file():
        return None
    found: list[Outcome] = []
    engine = Local()
    argv = (*engine.program, "reconstruct", str(photos), "--out", str(folder), *flags)
    copies = tuple((poses / s, folder / s) for s in ("ingest", "poses") if poses != folder)
    task = Task(name, argv, folder, folder.parent / f"{name}.log", (photos,), copies)
    with Watch() as watch:
        engine([task], lambda _, outcome: found.append(outcome))
    write_json(folder.parent / f"{name}.memory.json", {str(f): m.plain() for f, m in watch.found.items()})
    if found[0].code != 0:
        raise SystemExit(f"{name} failed: {found[0].message} ({task.log})")
    return found[0]


def filled(folder: Path, name: str) -> dict[str, float]:
    """What the process that worked in a run folder filled, as it was seen from outside; of task `name`."""
    path = folder.parent / f"{name}.memory.json" if folder.name == name else folder.parents[2] / f"{name}.memory.json"
    seen: dict[str, dict[str, float]] = read_json(path)
    return next((m for f, m in seen.items() if Path(f) == folder), Filled().plain())


def kept(folder: Path, name: str, outcome: Outcome | None) -> dict[str, Any]:
    """Seconds and peak memory of a process, also of an earlier sitting."""
    path = folder.parent / f"{name}.json"
    if outcome is not None:
        write_json(path, {"seconds": outcome.seconds, "peak_memory_mb": outcome.peak_memory_mb})
    found: dict[str, Any] = read_json(path)
    return found


def cells_of(run_folder: Path) -> Partition:
    """The division that a run in blocks was made with."""
    about = read_json(run_folder / "train" / "stage.json")["config"]
    edges = {k: torch.tensor(about[k], dtype=torch.float64) for k in ("axes", "low", "high")}
    return Partition(**edges, margin=torch.zeros_like(edges["low"]))


def at_seams(cells: Partition, means: torch.Tensor, width: float) -> torch.Tensor:
    """Whether two blocks meet within `width` of each position."""
    at, owner = cells.coordinates(means), cells.owner(means)
    near = torch.zeros(len(at), dtype=torch.bool)
    for axis in (0, 1):
        for sign in (-1, 1):
            moved = at.clone()
            moved[:, axis] += sign * width
            near |= cells.owner(moved @ cells.axes) != owner
    return near


def seams(whole: CompletedRun, blocks: CompletedRun, pictures: Path | None, scene: str) -> dict[str, Any]:
    """PSNR of the pixels at seams and of the others, of both scenes."""
    cells = cells_of(blocks.root)
    means = blocks.trained.gaussians.means
    at = cells.coordinates(means)
    width = NEAR * float((at.quantile(0.95, 0) - at.quantile(0.05, 0)).max())
    marks = at_seams(cells, means, width)
    features = marks.float()[:, None]
    squares: dict[str, list[np.ndarray]] = {k: [] for k in ("whole_seam", "whole_rest", "blocks_seam", "blocks_rest")}
    shown: list[tuple[float, str, np.ndarray]] = []
    for v in whole.capture.test_views:
        background = whole.trained.background
        target = composite_photo(v.load(), background)
        args = (v.camera, v.pose, whole.raster, whole.settings, background)
        one = draw_view(whole.trained.gaussians, *args).rgb.clamp(0, 1)
        drawn = draw_view(blocks.trained.gaussians, *args, features)
        assert drawn.features is not None
        seam = drawn.features[..., 0] > 0.5
        for name, image in (("whole", one), ("blocks", drawn.rgb.clamp(0, 1))):
            error = (image - target).square().mean(-1)
            squares[f"{name}_seam"].append(error[seam].numpy())
            squares[f"{name}_rest"].append(error[~seam].numpy())
        strip = torch.cat([target, one, drawn.rgb.clamp(0, 1), seam[..., None].expand(-1, -1, 3).float()], 1)
        shown.append((float(seam.float().mean()), v.name, (255 * strip).round().byte().numpy()))
    if pictures is not None:
        for _, name, picture in sorted(shown, key=lambda s: -s[0])[:6]:
            write_png(pictures / f"{scene}_{Path(name).stem}.png", picture)
    found = {k: float(-10 * np.log10(np.concatenate(e).mean())) for k, e in squares.items() if sum(map(len, e))}
    pixels = sum(map(len, squares["whole_seam"]))
    return {"psnr": found, "share_of_pixels": pixels / (pixels + sum(map(len, squares["whole_rest"])))}


def owners(blocks: CompletedRun) -> dict[str, int]:
    """How many Gaussians of the merged scene lie in no core, in one, and in several."""
    cells = cells_of(blocks.root)
    at = cells.coordinates(blocks.trained.gaussians.means)
    count = torch.zeros(len(at), dtype=torch.int64)
    for low, high in zip(cells.low, cells.high):
        count += ((at >= low) & (at < high)).all(1)
    return {"none": int((count == 0).sum()), "one": int((count == 1).sum()), "several": int((count > 1).sum())}


def measure(scene: str, args: argparse.Namespace) -> dict[str, Any]:
    out = args.out / (args.name or scene)
    photos = photos_of(scene, args.data, args.out, args.enlarge)
    settings = [f"--{s.replace('=', ' ', 1)}".split(" ", 1) for s in args.set]
    flags = ["--preset", "fast", "--no-renders", *(f for pair in settings for f in pair)]
    if args.cap:
        flags += ["--cap", str(args.cap)]
    whole, blocks, poses = out / "whole", out / "blocks", out / "poses"
    if not (poses / "poses" / "stage.json").is_file():
        run_poses = [*flags, "--until", "poses", "--threads", str(args.threads)]
        run("poses", poses, photos, run_poses, poses)
    threads = ["--threads", str(args.threads)]
    one = kept(whole, "whole", run("whole", whole, photos, [*flags, *threads], poses))
    divided = ["--blocks", str(args.blocks), "--workers", str(args.workers), "--block-overlap", str(args.overlap)]
    all_ = kept(blocks, "blocks", run("blocks", blocks, photos, [*flags, *threads, *divided], poses))
    a, b = read_json(whole / "metrics.json"), read_json(blocks / "metrics.json")
    runs = CompletedRun.open(whole, photos=photos), CompletedRun.open(blocks, photos=photos)
    one["peak_memory_mb"] = max(one["peak_memory_mb"], a["peak_memory_mb"])  # as the engine and the run saw it
    all_["peak_memory_mb"] = b["peak_memory_mb"]
    folders = sorted((blocks / "blocks").glob("[0-9]*"), key=lambda f: int(f.name))
    ended = [read_json(f / "metrics.json")["peak_memory_mb"] for f in folders]
    peaks = [max(row["peak_memory_mb"], peak) for row, peak in zip(b["blocks"], ended, strict=True)]
    for row, peak in zip(b["blocks"], peaks, strict=True):
        row["peak_memory_mb"] = peak
    whole_memory = filled(whole, "whole")
    block_memory = [filled(f, "blocks") for f in folders]
    return {
        "scene": args.name or scene,
        "flags": [*flags, *threads, *divided],
        "photos": a["registered"][0],
        "photo_size": a["resolution"],
        "steps": a["iterations"],
        "enlarged": args.enlarge,
        "whole": {k: a[k] for k in ("psnr", "ssim", "cc_psnr", "num_gaussians", "floaters")} | one,
        "blocks": {k: b[k] for k in ("psnr", "ssim", "cc_psnr", "num_gaussians", "floaters", "blocks")} | all_,
        "difference_db": b["psnr"] - a["psnr"],
        "worker_peak_mb": max(peaks),
        "worker_share_of_whole": max(peaks) / one["peak_memory_mb"],
        "memory": {"whole": whole_memory, "blocks": block_memory},
        "shares": shares(one["peak_memory_mb"], peaks, whole_memory, block_memory),
        "owners": owners(runs[1]),
        "seams": seams(*runs, args.pictures, scene) if args.seams else {"psnr": {}},
    }


def shares(
    whole_peak: float, peaks: list[float], whole: dict[str, float], blocks: list[dict[str, float]]
) -> dict[str, list[float]]:
    """What grows with the capture, and anonymous memory: MB of the whole, of the largest worker, and their ratio."""

    def row(one: float, several: list[float]) -> list[float]:
        return [round(one, 1), round(max(several), 1), max(several) / one]

    own = [p - m["imports_mb"] for p, m in zip(peaks, blocks, strict=True)]
    anonymous = [m["peak_anonymous_mb"] for m in blocks]
    grown = [m["peak_anonymous_mb"] - m["imports_anonymous_mb"] for m in blocks]
    return {
        "beyond imports": row(whole_peak - whole["imports_mb"], own),
        "anonymous": row(whole["peak_anonymous_mb"], anonymous),
        "anonymous beyond imports": row(whole["peak_anonymous_mb"] - whole["imports_anonymous_mb"], grown),
    }


COLUMNS = (
    *("scene", "photos", "px", "blocks (photos each)", "PSNR whole", "PSNR blocks"),
    *("at seams, whole", "at seams, blocks", "Gaussians whole", "Gaussians blocks", "steps"),
    *("peak whole", "peak of a worker", "of the whole"),
    *("beyond imports", "anonymous", "anonymous beyond imports", "owners: none, one, several"),
)


def _shares(row: dict[str, Any]) -> list[str]:
    """MB of the whole and of the largest worker, and their ratio; rows of an earlier program have none."""
    if "shares" not in row:
        return ["-"] * 3
    return [f"{one:.0f}, {largest:.0f} MB: {100 * ratio:.0f} %" for one, largest, ratio in row["shares"].values()]


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    for r in rows:
        a, b, seam, own = r["whole"], r["blocks"], r["seams"]["psnr"], r["owners"]
        each = [row["photos"] for row in b["blocks"]]
        cells = [
            *(
                r["scene"],
                f"{r['photos']}",
                "x".join(map(str, r.get("photo_size", "-"))),
                f"{len(each)} ({min(each)} to {max(each)})",
                f"{a['psnr']:.2f}",
            ),
            f"{b['psnr']:.2f} ({r['difference_db']:+.2f})",
            *(f"{seam[k]:.2f}" if k in seam else "-" for k in ("whole_seam", "blocks_seam")),
            *(f"{a['num_gaussians']:,}", f"{b['num_gaussians']:,}"),
            *(f"{r['steps']:,}" if "steps" in r else "-", f"{a['peak_memory_mb']:.0f} MB"),
            f"{r['worker_peak_mb']:.0f} MB",
            f"{100 * r['worker_share_of_whole']:.0f} %",
            *_shares(r),
            f"{own['none']}, {own['one']:,}, {own['several']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", default="fox,street")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--cap", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--enlarge", type=int, default=1, help="make the photos of the street so many times as large")
    parser.add_argument("--name", help="of the row and its folder (default: the scene)")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--no-seams", dest="seams", action="store_false", help="for rows that are about memory alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.out = args.out.resolve()
    for scene in filter(None, args.scenes.split(",")):
        write_json(args.results / f"{args.name or scene}.json", measure(scene, args))
    rows = [json.loads(p.read_text()) for p in sorted(args.results.glob("*.json"))]
    text = table(rows)
    write_atomic(args.results / "table.md", text)
    print(text, end="")
    worse = [r["scene"] for r in rows if r["difference_db"] < -LIMIT_DB or r["owners"]["one"] == 0]
    several = [r["scene"] for r in rows if r["owners"]["none"] or r["owners"]["several"]]
    return int(bool(worse or several))


if __name__ == "__main__":
    sys.exit(main())
