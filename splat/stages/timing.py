"""How long the stages of a run take: from sizes and counts, and how fast a machine is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splat.core.capture import Capture
from splat.core.machine import available_cores
from splat.poses.features import feature_size
from splat.stages.memory import default_feature_side, expected_memory, finds_features


@dataclass(frozen=True)
class Speed:
    """Seconds that a machine takes for parts of a run, with all of `cores`; with more or fewer in proportion.

    The defaults are those of two AVX-512 cores at 3 GHz: a least-squares fit to the ten captures at the default preset
    (training within 40 % of each), where the count of Gaussians grows to its cap, and photos to their size, on the way.
    """

    step: float = 7.5e-3
    """Of a training step, whatever it draws."""
    pixel: float = 3.4e-8
    """Of a step, for each pixel of its photo."""
    gaussian: float = 5.1e-8
    """Of a step, for each Gaussian of the cap."""
    feature_pixel: float = 1.3e-6
    """Of structure from motion, for each pixel of all photos at the size in which features are found."""
    pair: float = 0.025
    """Of structure from motion, for each pair of photos that is matched."""
    matched_pixel: float = 2.6e-6
    """Of dense matching against four photos, for each pixel of all photos at the size they are matched at: 6 s for 43
    photos of 173 x 308 (fox), 4.6 s for 12 of 480 x 319 (banana)."""
    render: float = 20.0
    """Of renders, videos and depth maps, whatever their size."""
    render_pixel: float = 3e-5
    """Of these, for each pixel of a photo."""
    cores: int = 2

    def on(self, cores: int) -> float:
        """The factor that all seconds have with so many cores."""
        return self.cores / cores

    def training(self, capture: Capture, iterations: int, cap: int, cores: int) -> float:
        """Seconds of training up to `cap` Gaussians on the photos of `capture` at their working size."""
        sizes = [v.camera.width * v.camera.height for v in capture.views]
        pixels = sum(sizes) / max(1, len(sizes))
        step = (self.step + pixels * self.pixel + cap * self.gaussian) * self.on(cores)
        return iterations * step

    def poses(self, capture: Capture, needs_sfm: bool, cores: int, feature_side: int | None = None) -> float:
        """Seconds of the poses stage."""
        if not finds_features(capture, needs_sfm):
            return 0.5
        side, n = feature_side or default_feature_side(capture, needs_sfm), len(capture.views)
        pixels = sum(w * h for w, h in (feature_size(v, side) for v in capture.views))
        pairs = n * (n - 1) / 2 if n <= 100 and capture.kind == "photos" else 15 * n
        share = 1.0 if needs_sfm else 0.5  # no mapping where poses are known, and fewer features
        return share * (pixels * self.feature_pixel + pairs * self.pair) * self.on(cores) + 1


REFERENCE_SPEED = Speed()

STEP_FACTORS = {"coherent": 1.9, "edgs_published": 1.4, "coherent_published": 1.9}
"""Method -> what a step takes beside one of `points`, where that is more."""


@dataclass(frozen=True)
class Estimate:
    minutes: float
    gigabytes: float


def estimate(capture: Capture, iterations: int, cap: int, needs_sfm: bool, cores: int | None = None) -> Estimate:
    """Expected wall time and peak memory of a CPU run without dense matching."""
    cores = cores or available_cores()
    seconds = sum(stage_seconds(capture, iterations, cap, needs_sfm=needs_sfm, cores=cores).values())
    memory = expected_memory(capture, cap, needs_sfm=needs_sfm, threads=cores)
    return Estimate(seconds / 60, memory.peak / 1e9)


def stage_seconds(
    working: Capture,
    iterations: int,
    cap: int,
    *,
    needs_sfm: bool,
    cores: int,
    matched: float = 0.0,
    feature_side: int | None = None,
    renders: bool = True,
    step_factor: float = 1.0,
    speed: Speed = REFERENCE_SPEED,
) -> Mapping[str, float]:
    """Expected seconds of each stage of a run that trains up to `cap` Gaussians on the photos of `working`.

    needs_sfm: poses are to be found. matched: pixels of all photos at the size of dense matching. feature_side: long
    side of the photos in which features are found, px, where it was asked for. step_factor: see STEP_FACTORS.
    """
    pixels = max((v.camera.width * v.camera.height for v in working.views), default=0)
    rendering = speed.render + pixels * speed.render_pixel if renders else 0.5
    return {
        "ingest": 0.2 + 0.01 * len(working.views),
        "poses": speed.poses(working, needs_sfm, cores, feature_side),
        "init": 0.3 + matched * speed.matched_pixel * speed.on(cores),
        "train": step_factor * speed.training(working, iterations, cap, cores),
        "evaluate": 1.0 + 0.3 * len(working.test_views) * speed.on(cores),
        "export": rendering * speed.on(cores),
    }
