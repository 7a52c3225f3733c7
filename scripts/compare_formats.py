"""Size and picture of a finished run in every format that can be read back, as Markdown.

    python scripts/compare_formats.py RUN [--work FOLDER] [--out FILE.md]

Each format is written as `splat export` does, read back, and drawn from the places of the held-out photos (of the
training photos where none is held out). PSNR against the pictures of the `.ply`, and against the photos.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from splat.core.capture import View  # noqa: E402
from splat.core.metrics import psnr  # noqa: E402
from splat.core.slots import Silent, SplatFile  # noqa: E402
from splat.export import CODECS, read_splat  # noqa: E402
from splat.export.sidecar import drawn_as_said, from_original_frame  # noqa: E402
from splat.export.zstd import compressor  # noqa: E402
from splat.geometry.drawing import draw_view  # noqa: E402
from splat.run.completed import CompletedRun  # noqa: E402
from splat.stages.deliver import Shaping, deliver_from  # noqa: E402


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    label: str
    name: str
    """Of the file."""
    shaping: Shaping


def rows(count: int) -> list[Row]:
    plain = Shaping()
    found = [Row(f"`{c.suffixes[0]}`", f"splat{c.suffixes[0]}", plain) for c in CODECS]
    try:
        compressor(Path("splat.spz"))
        found.append(Row("`.spz` version 4", "v4.spz", replace(plain, spz_version=4)))
    except Exception:
        print("without zstandard .spz version 4 is left out", file=sys.stderr)
    found.append(Row("`.ply --sh-degree 0`", "dc.ply", replace(plain, sh_degree=0)))
    for percent in (75, 50, 25):
        limit = replace(plain, max_gaussians=count * percent // 100)
        found.append(Row(f"`.ply --max-gaussians` {percent} %", f"{percent}.ply", limit))
    return found


def size_of(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def pictures(run: CompletedRun, splat: SplatFile, views: list[View]) -> list[torch.Tensor]:
    gaussians = from_original_frame(splat, run.capture).to(run.device)
    settings, background = drawn_as_said(splat, run.settings), run.trained.background.to(run.device)
    with torch.no_grad():
        return [
            draw_view(gaussians, v.camera, v.pose, run.raster, settings, background).rgb.clamp(0, 1).cpu()
            for v in views
        ]


def mean(values: list[torch.Tensor]) -> float:
    return float(torch.stack([torch.as_tensor(v) for v in values]).mean())


def table(run: CompletedRun, work: Path) -> str:
    views = [v for v in run.capture.test_views or run.capture.train_views if v.world_from_cam is not None]
    photos = [v.rgb() for v in views]
    lines = [
        "| format | MB | of the .ply, % | Gaussians | dB against the .ply | dB against the photos |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    truth: list[torch.Tensor] = []
    whole = 0
    ordered = sorted(rows(len(run.trained.gaussians)), key=lambda r: r.name != "splat.ply")
    for row in ordered:
        path = work / row.name
        deliver_from(run.root, (path,), row.shaping, Silent())
        splat = read_splat(path, Silent())
        drawn = pictures(run, splat, views)
        truth, whole = truth or drawn, whole or size_of(path)
        same = [psnr(a, b) for a, b in zip(drawn, truth)]
        against = "the same" if drawn is truth else f"{mean(same):.1f}"
        photo = mean([psnr(a, b) for a, b in zip(drawn, photos)])
        megabytes, share = size_of(path) / 1e6, 100 * size_of(path) / whole
        columns = (row.label, f"{megabytes:.2f}", f"{share:.1f}", len(splat.gaussians), against, f"{photo:.2f}")
        lines.append("| " + " | ".join(map(str, columns)) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    kind = "held-out" if run.capture.test_views else "training"
    head = f"{run.root.resolve().name}: {len(views)} {kind} photos, {max(run.metrics['resolution'])} px, SH degree"
    return "\n".join([f"{head} {run.trained.gaussians.sh_degree}.", "", *lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished `splat reconstruct`")
    parser.add_argument("--work", type=Path, help="keep the files here")
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="splat-formats-") as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        text = table(CompletedRun.open(options.run), work)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
