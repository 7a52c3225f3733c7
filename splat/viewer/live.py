"""A training run in the viewer: an observer that copies snapshots, and a reporter that passes progress on."""

from __future__ import annotations

import time
from dataclasses import replace

from splat.core.slots import Reporter, Snapshot
from splat.geometry.page import ball_within
from splat.viewer.scene import Scene
from splat.viewer.server import Viewer

EVERY_SECONDS = 2.0
SHARE = 0.01
"""Of the time of training that snapshots may take: copies, packing, sending, and pictures that browsers ask for."""


class LiveView:
    """Shows a training run: a `slots.Observer`, for one process.

    Snapshots are copies, taken between steps while a browser is there, at most every EVERY_SECONDS and so seldom that
    they take at most SHARE of the time, if each takes as long as the one before. They replace each other: what no
    browser has taken yet is never sent.
    """

    def __init__(self, viewer: Viewer, scene: Scene) -> None:
        """`scene`: without Gaussians; drawn on the CPU, whatever trains."""
        self.viewer, self.scene = viewer, scene
        self._due = 0.0
        self._asked = 0.0

    def wants_gaussians(self, step: int, total: int) -> bool:
        self._asked = time.monotonic()
        watched = self.viewer.browsers > 0 or step in (0, total)  # the last is shown to those who come later
        return watched and (self._asked >= self._due or step == total)

    def __call__(self, snapshot: Snapshot) -> None:
        if snapshot.gaussians is None:
            return
        spent = self.viewer.session.spent()
        gaussians = snapshot.gaussians.map(lambda t: t.detach().to("cpu"))  # the observer's own copy already
        behind = snapshot.num_surroundings
        ball = ball_within(gaussians[-behind:] if behind else None)
        self.viewer.session.show(replace(self.scene, gaussians=gaussians, surroundings=ball, step=snapshot.step))
        took = time.monotonic() - self._asked + spent
        self._due = time.monotonic() + max(EVERY_SECONDS, took / SHARE)


class Watched:
    """A Reporter that passes everything on, and progress to the viewer too."""

    def __init__(self, report: Reporter, viewer: Viewer) -> None:
        self._report, self._viewer = report, viewer
        self._stage, self._began, self._shown = "", time.monotonic(), 0.0

    def begin(self, stage: str) -> None:
        self._stage, self._began = stage, time.monotonic()
        self._viewer.session.progress(stage=stage)
        self._report.begin(stage)

    def info(self, message: str) -> None:
        self._report.info(message)

    def warn(self, message: str) -> None:
        self._report.warn(message)

    def progress(self, done: int, total: int, **figures: float | int | str) -> None:
        now = time.monotonic()
        if now - self._shown > 0.4 or done >= total:
            self._shown = now
            rate = figures.get("rate") or (done / max(now - self._began, 1e-6))
            left = (total - done) / float(rate) / 60 if float(rate) > 0 else None
            self._viewer.session.progress(stage=self._stage, done=done, total=total, minutes=left, **figures)
        self._report.progress(done, total, **figures)
