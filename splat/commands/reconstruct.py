"""`splat reconstruct`: photos in, a scene out. The order of the stages."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from splat.commands.blocks import WholeRun, check_blocks, division, figures_of, plan_lines, run_blocks
from splat.commands.checks import check
from splat.commands.settings import ReconstructSettings
from splat.core import licences
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.machine import is_out_of_memory
from splat.core.process_group import ALONE, ProcessGroup, joined_group
from splat.core.slots import Init, PoseResult, Reporter
from splat.run.completed import CompletedRun
from splat.run.console import Console, Logged
from splat.run.folder import RunFolder
from splat.run.trained import Trained
from splat.run.used_priors import used_priors
from splat.stages import evaluate, export, forecast, ingest, metrics, poses, train
from splat.stages import init as first_gaussians
from splat.stages import report as run_report
from splat.stages.blocks import merge
from splat.stages.context import Context, open_context
from splat.stages.priors import automatic_depth, depth_source
from splat.stages.viewing import live_scene, run_scene
from splat.viewer.live import LiveView, Watched
from splat.viewer.server import Viewer
from splat.viewer.terminal import opened_viewer, stay


@dataclass(frozen=True)
class Reconstruct(ReconstructSettings):
    """Photos, a video or a dataset -> a splat, point clouds, renders and a report in one run folder.

    The same command on the same folder resumes; more --iterations on a finished run continue it.
    """

    def __call__(self, report: Reporter | None = None) -> dict[str, Any]:
        """Run what is not done yet. Returns what `metrics.json` holds; raises SplatError for what the user can mend.

        `report`: who is told what happens (default: the terminal). Of several processes that torchrun started, rank 0
        does this, and the others, which return nothing, take part in training.
        """
        with joined_group() as group:
            check_blocks(self, group.world)
            if self.view and group.world > 1:
                raise SplatError("--view watches training of one process: leave it out, and `splat view` the result.")
            if group.rank > 0:
                train.help_out(group)
                return {}
            with opened_viewer(self.view_port) if self.view else nullcontext() as viewer:
                with self.opened(report, group) as (c, warnings):
                    result = self._run(c, warnings, viewer)
                group.broadcast(None)
                if viewer is not None:
                    stay(viewer, while_watched=True)
            return result

    @contextmanager
    def opened(
        self, report: Reporter | None = None, group: ProcessGroup = ALONE
    ) -> Iterator[tuple[Context, list[str]]]:
        """The run folder and what stages work with, and a list that all warnings are added to."""
        check(self)
        run = RunFolder(self.folder, keep_stages=self.keep_stages, photos=self.photos)
        try:
            with Console(self.quiet) as console, licences.policy(self.license):
                run.report = logged = Logged(report or console, run.log)
                context = open_context(
                    run,
                    logged,
                    device=self.device,
                    raster=self.raster,
                    antialiased=self.antialiased,
                    threads=self.threads,
                    memory=self.memory,
                    seed=self.seed,
                    group=group,
                )
                try:
                    yield context, logged.warnings
                except Exception as e:
                    if isinstance(e, SplatError) or not is_out_of_memory(e):
                        raise
                    raise SplatError(
                        f"out of memory in {logged.stage or 'this run'}; what was done is kept: run the same command "
                        "again with a lower --max-resolution or --cap, or say how much there is with --memory."
                    ) from None
                logged.end_stage()
        finally:
            run.close()

    def until_poses(self, c: Context) -> Posed:
        """The stages up to the poses."""
        capture = ingest.ingest(c, self.photos, self.read_options)
        depth = depth_source(
            self.depth, self.photos, self.depth_kind, self.anything, capture, self.marigold, self.prior
        )
        held_out = None
        if self.heldout == "strict":
            capture, held_out = capture.training(), capture.test_views
        train_photos = len(capture.train_views)
        expected, _ = self.resolved(min(train_photos, self.train_photos or train_photos))
        has_poses = any(v.world_from_cam is not None for v in capture.views)
        choices = expected.choices(has_poses)
        about = str(self.photos), capture, expected.limits, expected.chosen, choices
        forecast.announce(c, *about, held_out=held_out or (), in_blocks=self.blocks is not None)
        side = forecast.fit_features(c, capture, expected.limits, choices.feature_side)
        poser = self.poser(has_poses, side)
        return Posed(poses.poses(c, str(self.photos), capture, poser, self.heldout), held_out, depth)

    def until_init(self, c: Context) -> Prepared:
        """The stages up to the first Gaussians."""
        found = self.until_poses(c)
        posed, held_out, depth = found.posed, found.held_out, found.depth
        networks = self.anything, self.marigold
        settled, why = self.resolved(len(posed.capture.train_views))
        c.report.info(f"method: {settled.chosen.name} ({why})")
        working, cap = forecast.fit_to_memory(c, posed.capture, settled.limits, settled.chosen)
        settled = replace(settled, cap=cap)
        skipped: dict[str, str] = {}
        if depth is None and getattr(settled.chosen, "wants_depth", False):
            depth, skipped = automatic_depth(*networks)
            for title, reason in skipped.items():
                c.report.info(f"prior not used: {title}: {reason}.")
        if depth is None:
            settled = without_prior_losses(settled, c.report)
        write_json(c.run.root / "config.json", settled.as_json())
        priors = replace(settled.priors, depth=depth)
        init = first_gaussians.init(c, working, settled.chosen, priors, settled.limits, cap, settled.sh_degree)
        return Prepared(settled, cap, working, posed, held_out, skipped, init)

    def _run(self, c: Context, warnings: list[str], viewer: Viewer | None = None) -> dict[str, Any]:
        started = time.monotonic()
        if viewer is not None:
            c = replace(c, report=Watched(c.report, viewer))
        if self.until == "poses":
            return self._posed(c, started)
        if self.blocks is not None and (done := self._in_blocks(c, warnings, started)) is not None:
            return done
        p = self.until_init(c)
        k = p.settings
        name = self.folder.resolve().name
        live = (
            None
            if viewer is None
            else LiveView(viewer, live_scene(p.capture, c.settings, k.train.background.rgb, name))
        )
        trained = train.train(
            c,
            p.capture,
            p.init,
            method=k.chosen,
            training=k.train,
            losses=k.losses,
            steps=k.limits.iterations,
            cap=p.cap,
            explicit=frozenset(k.explicit),
            observers=() if live is None else (live,),
            control=None if viewer is None else viewer.session.steering,
        )
        figures = self._delivered(c, p, trained, warnings, started)
        if viewer is not None:
            viewer.session.show(run_scene(CompletedRun.open(self.folder, photos=self.photos)))
        c.report.info(f"walk through it: splat view {shlex.quote(str(self.folder))}")
        return figures

    def _in_blocks(self, c: Context, warnings: list[str], started: float) -> dict[str, Any] | None:
        """The run in blocks; None where the whole is to be done at once."""
        found = self.until_poses(c)
        posed = found.posed.capture
        k, why = self.resolved(len(posed.train_views))
        whole = WholeRun(k, k.chosen, k.limits, k.priors.matching_size, frozenset(k.explicit), self.folder)
        plan = division(whole, posed)
        if plan is None:
            c.report.info("one block is enough: the capture is not divided")
            return {} if self.dry_run else None
        c.report.info(f"method: {k.chosen.name} ({why})")
        for line in plan_lines(whole, plan):
            c.report.info(line)
        if self.dry_run:
            return {}
        k = replace(k, cap=k.cap or sum(b.cap for b in plan.blocks))
        write_json(c.run.root / "config.json", k.as_json())
        folders = run_blocks(c, whole, posed, plan)
        trained = merge(c, posed, plan.cells, folders)
        working = posed.resized(k.limits.max_resolution, k.limits.downscale)
        p = Settled(k, k.cap or 0, working, found.posed, found.held_out, {})
        return self._delivered(c, p, trained, warnings, started, {"blocks": figures_of(folders, plan)})

    def _delivered(
        self,
        c: Context,
        p: Settled,
        trained: Trained,
        warnings: list[str],
        started: float,
        more: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Measure and write what was trained; `more`: beside the figures of every run."""
        k = p.settings
        protocol = evaluate.Protocol(k.heldout, k.search, k.lpips, k.figures)
        result = evaluate.evaluate(c, p.capture, p.posed, p.held_out, trained, protocol)
        cleaned = export.export(c, p.capture, trained, result, k.renders, k.fill, k.clean)
        about: dict[str, Any] = {"method": k.chosen.name, "heldout": k.heldout, "clean": cleaned, **(more or {})}
        used = used_priors(c.run.root)
        if used or p.skipped:
            about["priors"] = {"used": used, "skipped": p.skipped}
        figures = metrics.gather_metrics(c, p.capture, p.posed, trained, result, warnings, about)
        write_json(c.run.root / "metrics.json", figures)
        shown = ("preset", "iterations", "max_resolution", "cap", "sh_degree", "antialiased", "seed", "device")
        settings = {n: getattr(k, n) for n in shown}
        settings |= {"method": k.chosen.name, "raster": c.raster.name, "density": k.train.density}
        title = k.photos.resolve().stem
        run_report.write_run_report(c.run, title, p.capture, p.posed, trained, result, figures, settings)
        c.report.info(
            f"done in {time.monotonic() - started:.0f} s: {self.folder / 'export' / 'splat.ply'}, "
            f"{self.folder / 'report.html'}"
        )
        return figures

    def _posed(self, c: Context, started: float) -> dict[str, Any]:
        """Of a run that ends with its poses: how many photos have theirs."""
        result = self.until_poses(c).posed
        c.report.info(f"poses found in {time.monotonic() - started:.0f} s: {self.folder / 'poses'}")
        return {"registered": [len(result.capture.views), result.total]}


@dataclass(frozen=True, eq=False)
class Posed:
    """A run up to its poses."""

    posed: PoseResult
    held_out: tuple[View, ...] | None
    """See `Prepared`."""
    depth: Any
    """What --depth stands for; None: nothing."""


@dataclass(frozen=True, eq=False)
class Settled:
    """A run whose poses are found and whose settings are resolved."""

    settings: Reconstruct
    """Resolved: see `Reconstruct.resolved`."""
    cap: int
    capture: Capture
    """At its working size, in the normalized frame."""
    posed: PoseResult
    held_out: tuple[View, ...] | None
    """Photos that took part in nothing (strict hold-out); None under the posed protocol."""
    skipped: dict[str, str]
    """Priors that the method would use, each with the reason why it does not."""


@dataclass(frozen=True, eq=False)
class Prepared(Settled):
    """A run up to its first Gaussians."""

    init: Init


def without_prior_losses(settled: Reconstruct, report: Reporter) -> Reconstruct:
    """The settings without the losses that teach what a prior of depth knows, where there is none: matched depth is
    metric, and the first Gaussians already lie on it. Weights that were given stay."""
    names = [n for n in getattr(settled.chosen, "prior_losses", ()) if f"losses.{n}" not in settled.explicit]
    names = [n for n in names if getattr(settled.losses, n) > 0]
    if not names:
        return settled
    flags = " and ".join(f"--losses.{n.replace('_', '-')}" for n in names)
    report.info(f"no prior of depth, so its losses are off ({flags} turn them on)")
    off: dict[str, Any] = dict.fromkeys(names, 0.0)
    return replace(settled, losses=replace(settled.losses, **off))
