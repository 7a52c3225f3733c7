"""The evaluate stage: held-out photos measured under the chosen protocol, training photos for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from splat.core.capture import Capture, View
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.geometry import Rigid
from splat.core.image import write_png
from splat.core.slots import PoseResult
from splat.core.stlpips import StLpips
from splat.native.build import release_freed_memory
from splat.poses.photometric import PoseSearch
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.run.trained import Trained
from splat.stages.context import Context, work_folder
from splat.stages.figures import figures_named
from splat.stages.floaters import Worst, floaters
from splat.stages.measure import Measured, mean, mean_figures, measure
from splat.stages.perceptual import Metric, perceptual_metric, reported_variant

_WORST = ("floaters.render.png", "floaters.marked.png")
MAX_TRAINING_VIEWS = 24
"""Measured for the report; evenly spread over the capture."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """What the report shows of one view."""

    figures: dict[str, Any]
    photo: Path
    render: Path


@dataclass(frozen=True, eq=False)
class WorstPlace:
    """The held-out photo, or the place between photos, with most floaters."""

    name: str
    share: float
    """Of what is drawn there."""
    render: Path
    marked: Path
    """The same in grey, floaters red."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Held-out and training views, measured."""

    test: tuple[Pictures, ...]
    train: tuple[Pictures, ...]
    test_views: tuple[View, ...]
    """The held-out views with the poses they were measured at."""
    not_placed: tuple[str, ...]
    """Held-out photos whose pose could not be found (strict protocol)."""
    lpips_variant: str | None = None
    """Which perceptual metric the figures named "lpips" are of."""
    floaters: float | None = None
    """Share of the blended weight that floats before surfaces: see `stages.floaters`."""
    worst: WorstPlace | None = None
    """Where most of it floats."""

    def averages(self) -> dict[str, float | None]:
        return {k: mean([p.figures[k] for p in self.test]) for k in ("psnr", "ssim", "cc_psnr", "lpips")}

    def more(self) -> dict[str, float | None]:
        """Means of the figures that the protocol asks for beside these."""
        return mean_figures([p.figures for p in self.test])


@dataclass(frozen=True)
class Protocol:
    """How held-out photos are measured."""

    heldout: Literal["posed", "strict"] = "posed"
    search: PoseSearch = field(default_factory=PoseSearch)
    """Poses of held-out photos under `strict`."""
    lpips: Path | None = None
    """Folder with LPIPS weights; None: the folder named by SPLAT_WEIGHTS."""
    figures: tuple[str, ...] = ()
    """More figures of held-out photos: see `stages.figures`."""


def evaluate(
    c: Context,
    capture: Capture,
    posed: PoseResult,
    held_out: tuple[View, ...] | None,
    trained: Trained,
    protocol: Protocol,
) -> Evaluation:
    """Measure the trained Gaussians. Held-out exposure is identity: nothing about a held-out photo's colours is fitted
    (cc_psnr says what a fit would give). `held_out`: the strict protocol's photos, None for the posed protocol."""
    c.report.begin("evaluate")
    scorer = _perceptual(c, protocol.lpips)
    variant = reported_variant(scorer)
    heldout = protocol.heldout
    key = hash_of("evaluate", c.run.identity("train"), trained.steps, heldout, protocol.search, variant or False)
    more = figures_named(protocol.figures, protocol.lpips)
    if more:  # a figure without its weights is made again where they are found
        key = hash_of(key, [(f.name, f.compare is None) for f in more])

    def make(folder: Path) -> Evaluation:
        tests: tuple[View, ...] = capture.test_views
        lost: tuple[str, ...] = ()
        if held_out is not None:
            tests, lost = _place(c, capture, posed, held_out, trained, folder, protocol.search)
        background, beyond = trained.background.to(trained.gaussians.means), trained.surroundings
        results: dict[str, list[Pictures]] = {"test": [], "train": []}
        spread = _spread(capture.train_views)
        exposures = [trained.exposures.get(v.name) for v in spread]
        total = len(tests) + len(spread)
        for group, views, maps in (("test", tests, None), ("train", spread, exposures)):
            # training photos are measured for the report alone, and ST-LPIPS costs seconds a photo
            metric = None if group == "train" and isinstance(scorer, StLpips) else scorer
            asked = more if group == "test" else ()
            measured = measure(trained.gaussians, views, c.raster, c.settings, background, maps, metric, asked, beyond)
            for m in measured:
                results[group].append(_keep(folder / group, m))
                c.report.progress(len(results["test"]) + len(results["train"]), total, psnr=m.psnr)
        floats, worst = floaters(c, capture, trained, tests)
        groups = tuple(results["test"]), tuple(results["train"])
        place = _keep_worst(folder, worst)
        result = Evaluation(*groups, tuple(tests), tuple(lost), variant, floats, place)
        _save(folder, result)
        return result

    def load(folder: Path) -> Evaluation:
        return _load(folder, capture, held_out)

    result = c.run.stage("evaluate", key, protocol, make, load, code=code_hash("splat.stages.evaluate"))
    averages = result.averages()
    if averages["psnr"] is not None:
        c.report.info(
            f"held-out photos ({heldout}): PSNR {averages['psnr']:.2f} dB, SSIM {averages['ssim']:.3f}, "
            f"colour-corrected PSNR {averages['cc_psnr']:.2f} dB over {len(result.test)} views"
        )
    return result


def _perceptual(c: Context, folder: Path | None) -> Metric | None:
    """The metric, or None after saying why."""
    metric, note = perceptual_metric(folder)
    if metric is None:
        c.report.info(f"LPIPS skipped: {note}")
    return metric


def _spread(views: Sequence[View]) -> list[View]:
    if len(views) <= MAX_TRAINING_VIEWS:
        return list(views)
    picks = torch.linspace(0, len(views) - 1, MAX_TRAINING_VIEWS).round().long().tolist()
    return [views[i] for i in picks]


def _place(
    c: Context,
    capture: Capture,
    posed: PoseResult,
    held_out: tuple[View, ...],
    trained: Trained,
    folder: Path,
    search: PoseSearch,
) -> tuple[tuple[View, ...], tuple[str, ...]]:
    """Poses of photos that took part in nothing: from the sparse points, then photometrically, the scene frozen."""
    from splat.poses.registration import localize

    if all(v.world_from_cam is not None for v in held_out):  # the dataset brought them; only the frame changes
        moved = [replace(v, world_from_cam=capture.world_from_source.apply_pose(v.pose)) for v in held_out]
        found = {v.name: v for v in moved}
    else:
        with work_folder(folder) as work:
            found = localize(posed.capture, held_out, work, c.report)
        release_freed_memory()  # of features, which training's way of allocating would keep
    size = max(max(v.camera.width, v.camera.height) for v in capture.views)
    scene, background = trained.scene, trained.background.to(trained.gaussians.means)
    views = []
    for v in held_out:
        if v.name not in found:
            c.report.warn(f"{v.name} (held out) could not be placed against the finished scene")
            continue
        working = Capture(views=(found[v.name],)).resized(size).views[0]
        views.append(search(scene, working, c.raster, c.settings, background, trained.scene_extent))
        c.report.progress(len(views), len(held_out))
    return tuple(views), tuple(v.name for v in held_out if v.name not in found)


def _keep(folder: Path, m: Measured) -> Pictures:
    stem = m.view.name.replace("/", "_")
    photo, render = folder / f"{stem}.photo.png", folder / f"{stem}.render.png"
    write_png(photo, m.photo)
    write_png(render, m.render)
    if m.holes is not None:
        write_png(folder / f"{stem}.holes.png", m.holes)
    return Pictures(m.figures(), photo, render)


def _keep_worst(folder: Path, worst: Worst | None) -> WorstPlace | None:
    if worst is None:
        return None
    write_png(folder / _WORST[0], worst.render)
    write_png(folder / _WORST[1], worst.marked)
    return WorstPlace(worst.name, worst.share, folder / _WORST[0], folder / _WORST[1])


def _save(folder: Path, e: Evaluation) -> None:
    def rows(pictures: tuple[Pictures, ...]) -> list[dict[str, Any]]:
        return [p.figures | {"photo": p.photo.name, "render": p.render.name} for p in pictures]

    poses = {v.name: v.pose.matrix().tolist() for v in e.test_views}
    about: dict[str, Any] = {"test_poses": poses, "not_placed": list(e.not_placed)}
    about |= {"lpips_variant": e.lpips_variant, "floaters": e.floaters}
    about["worst_place"] = None if e.worst is None else {"name": e.worst.name, "share": e.worst.share}
    write_json(folder / "views.json", {"test": rows(e.test), "train": rows(e.train)} | about)


def _load(folder: Path, capture: Capture, held_out: tuple[View, ...] | None) -> Evaluation:
    saved = read_json(folder / "views.json")

    def rows(group: str) -> tuple[Pictures, ...]:
        out = []
        for row in saved[group]:
            figures = {k: v for k, v in row.items() if k not in ("photo", "render")}
            out.append(Pictures(figures, folder / group / row["photo"], folder / group / row["render"]))
        return tuple(out)

    known = {v.name: v for v in (capture.test_views if held_out is None else held_out)}
    size = max(max(v.camera.width, v.camera.height) for v in capture.views)
    views = []
    for name, pose in saved["test_poses"].items():
        v = replace(known[name], world_from_cam=Rigid.from_matrix(torch.tensor(pose, dtype=torch.float64)))
        views.append(v if held_out is None else Capture(views=(v,)).resized(size).views[0])
    variant = saved.get("lpips_variant")
    groups = rows("test"), rows("train"), tuple(views), tuple(saved["not_placed"])
    place = saved.get("worst_place")
    worst = place and WorstPlace(place["name"], place["share"], *(folder / name for name in _WORST))
    return Evaluation(*groups, variant, saved.get("floaters"), worst)
