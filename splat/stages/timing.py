"""How long the stages of a run take: what each has to do (`stages.work`) times what a machine takes for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splat.core.capture import Capture
from splat.core.machine import available_cores
from splat.stages.memory import expected_memory
from splat.stages.work import Sizes, Work, pixels_of, stage_work


@dataclass(frozen=True)
class Speed:
    """Seconds that one core of a machine takes for a unit of each kind of work; several cores share it evenly.

    The defaults are of an AVX-512 core at 3 GHz, fitted by `scripts/fit_times.py`.
    """

    start: float = 0.19
    """Of any stage, whatever it does."""
    photo: float = 0.013
    """Of a photo: what its dataset says of it is read, and its file checked."""
    read_photo: float = 0.014
    """Of reading a file, for each megapixel in it."""
    feature_pixel: float = 6.6e-7
    """Of a photo in which features are found, at the size that they are found at."""
    comparison: float = 2.1e-8
    """Of a feature with one of another photo."""
    pair: float = 0.011
    """Of photos whose matches are verified."""
    placed_feature: float = 1.6e-4
    """Of a feature of photos that structure from motion places."""
    matched_pixel: float = 6.1e-6
    """Of a photo that is matched densely with four others."""
    few_pixel: float = 5.1e-6
    """The same, more where photos are few: they are matched longer, and exchange what they find."""
    ground_photo: float = 0.46
    """Of a photo in the search for the plane that they stand on; what it takes depends on what they show."""
    step: float = 3.8e-3
    """Of a training step, whatever it draws."""
    step_pixel: float = 9.4e-8
    """Of a step, for each pixel of its photo."""
    step_gaussian: float = 1.7e-7
    """Of a step, for each Gaussian of the cap."""
    normal_pixel: float = 1.9e-7
    """Of a step that draws normals, more for each pixel of its photo."""
    measured_pixel: float = 2e-7
    """Of a photo that is drawn and compared."""
    searched_pixel: float = 1.64e-6
    """Of a photo whose pose is searched in the finished scene, for each step."""
    vgg_pixel: float = 2e-5
    """Of a photo that LPIPS compares with its render by VGG-16."""
    alex_pixel: float = 2e-6
    """By AlexNet."""
    stlpips_pixel: float = 2e-5
    """By ST-LPIPS, with AlexNet at strides of 1."""
    rendered_pixel: float = 2.5e-7
    """Of a video."""
    pictured_pixel: float = 6e-7
    """Of a render with its depth map."""
    written_gaussian: float = 3e-6

    def seconds(self, work: Work, cores: int = 1) -> float:
        return sum(amount * float(getattr(self, name)) for name, amount in work.items()) / cores


REFERENCE_SPEED = Speed()

STEP_FACTORS = {"coherent": 1.9, "edgs_published": 1.4, "coherent_published": 1.9}
"""Method -> what a step takes beside one of `points`, where that is more."""


def stage_seconds(sizes: Sizes, cores: int, speed: Speed = REFERENCE_SPEED) -> Mapping[str, float]:
    """Expected seconds of each stage of a run."""
    return {stage: speed.seconds(work, cores) for stage, work in stage_work(sizes).items()}


@dataclass(frozen=True)
class Estimate:
    minutes: float
    gigabytes: float


def estimate(capture: Capture, iterations: int, cap: int, needs_sfm: bool, cores: int | None = None) -> Estimate:
    """Expected wall time and peak memory of a CPU run without dense matching."""
    cores, sizes = cores or available_cores(), Sizes(capture, capture, iterations, cap, needs_sfm)
    seconds = sum(stage_seconds(sizes, cores).values())
    return Estimate(seconds / 60, expected_memory(sizes, cores).peak / 1e9)


# ------------------------------------------------------------------------------------------- what sizes are chosen with


@dataclass(frozen=True)
class Planning:
    """Seconds, on `cores` cores, with which a run decides how large the photos are that it matches densely.

    Frozen, and no forecast: with other numbers the same command would make other first Gaussians. They were a fit to
    the ten captures at the default preset; matching takes longer than they say (`Speed.matched_pixel`).
    """

    step: float = 7.5e-3
    pixel: float = 3.4e-8
    gaussian: float = 5.1e-8
    matched_pixel: float = 2.6e-6
    cores: int = 2

    def on(self, cores: int) -> float:
        """The factor that all seconds have with so many cores."""
        return self.cores / cores

    def training(self, capture: Capture, iterations: int, cap: int, cores: int) -> float:
        """Seconds of training up to `cap` Gaussians on the photos of `capture` at their working size."""
        pixels = pixels_of(capture.views) / max(1, len(capture.views))
        return iterations * (self.step + pixels * self.pixel + cap * self.gaussian) * self.on(cores)


PLANNING = Planning()
