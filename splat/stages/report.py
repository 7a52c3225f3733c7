"""What the report shows: the run's figures, pictures and files, gathered for `splat.report`."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from splat.core.capture import Capture
from splat.core.lpips import metric_title
from splat.core.slots import PoseResult
from splat.report import Curve, Floaters, ReportData, ViewScore, write_report
from splat.run.folder import RunFolder
from splat.run.trained import Trained
from splat.stages.evaluate import Evaluation

_FILES = (
    ("splat", "export/splat.ply"),
    ("point cloud of the Gaussians", "export/points.ply"),
    ("point cloud of structure from motion", "export/points_sfm.ply"),
    ("cameras", "export/cameras.json"),
    ("orbit (video)", "export/renders/orbit.webm"),
    ("flight along the cameras (video)", "export/renders/path.webm"),
    ("held-out views with depth", "export/renders/test"),
    ("masks of their holes: what no photo showed stays empty", "export/renders/test/holes"),
    ("orbit, holes closed for presentation: made up, and no figure is of it", "export/renders/orbit_filled.webm"),
    ("flight, holes closed for presentation: made up, and no figure is of it", "export/renders/path_filled.webm"),
    ("figures", "metrics.json"),
    ("log", "log.jsonl"),
)


def write_run_report(
    run: RunFolder,
    title: str,
    capture: Capture,
    posed: PoseResult,
    trained: Trained,
    result: Evaluation,
    metrics: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Write `report.html` beside `metrics.json`. `settings`: those worth showing."""
    root = run.root
    sizes = Counter(v.photo_size for v in capture.views)
    found = [(p, path) for p, path in _FILES if (root / path).exists()]
    data = ReportData(
        title=title,
        registered=(metrics["registered"][0], metrics["registered"][1]),
        unregistered=posed.unregistered,
        warnings=tuple(metrics["warnings"]),
        views=_scores(result, "test") + _scores(result, "train"),
        psnr=metrics["psnr"],
        ssim=metrics["ssim"],
        lpips=metrics["lpips"],
        lpips_title=metric_title(metrics["lpips_variant"]),
        cc_psnr=metrics["cc_psnr"],
        heldout=metrics["heldout"],
        method=metrics["method"],
        num_gaussians=metrics["num_gaussians"],
        seconds=metrics["seconds"],
        peak_memory_mb=metrics["peak_memory_mb"],
        resolution=(metrics["resolution"][0], metrics["resolution"][1]),
        photo_size=sizes.most_common(1)[0][0],
        floaters=_floaters(result, metrics["clean"]),
        loss=_curve(trained, "loss"),
        train_psnr=_curve(trained, "psnr"),
        gaussian_counts=_curve(trained, "gaussians"),
        exposure_ev=_stops(trained),
        capture=capture,
        stills=_stills(root / "export" / "renders" / "orbit"),
        files=tuple(found),
        settings=settings,
    )
    write_report(root / "report.html", data)


def _floaters(result: Evaluation, cleaned: dict[str, Any] | None) -> Floaters | None:
    if result.floaters is None:
        return None
    sentence, worst = "" if cleaned is None else f"Written without them: {cleaned['sentence']}", result.worst
    if worst is None:
        return Floaters(result.floaters, cleaned=sentence)
    return Floaters(result.floaters, worst.name, worst.share, worst.render, worst.marked, sentence)


def _scores(result: Evaluation, role: Literal["train", "test"]) -> tuple[ViewScore, ...]:
    title = metric_title(result.lpips_variant)
    pictures = result.test if role == "test" else result.train
    rows = [(p, {k: v for k, v in p.figures.items() if k != "figures"}) for p in pictures]
    return tuple(ViewScore(role=role, photo=p.photo, render=p.render, lpips_title=title, **row) for p, row in rows)


def _curve(trained: Trained, name: str) -> Curve:
    values = {line["step"]: line[name] for line in trained.history if name in line}
    return tuple((step, v) for step, v in sorted(values.items()) if math.isfinite(v))


def _stops(trained: Trained) -> dict[str, float]:
    """How much brighter each photo is than the mean, in stops: the gain its colour map applies to mid grey."""
    gains = {n: float((e[:, :3].sum(1) * 0.5 + e[:, 3]).mean() / 0.5) for n, e in trained.exposures.items()}
    # The map acts on sRGB values; a display curve of 2.2 turns its gain into light.
    return {n: 2.2 * math.log2(g) for n, g in gains.items() if g > 0}


def _stills(folder: Path) -> tuple[tuple[str, Path], ...]:
    pictures = sorted(folder.glob("*.png")) if folder.is_dir() else []
    return tuple((f"orbit, frame {p.stem}", p) for p in pictures[:4])
