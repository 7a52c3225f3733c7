"""How fast this machine is, in ten seconds: the product's own training steps and features on loads that are always the
same, beside what the machine took whose seconds `timing.Speed` holds. Kept in the user's cache."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.schedules import Schedules
from splat.core.slots import Init, Item, Phase, RasterSettings, Silent
from splat.geometry.morton import morton_order
from splat.losses import Losses
from splat.native import bindings, build
from splat.poses.features import FeatureSettings, extract
from splat.raster.native import Native
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.stages.timing import REFERENCE_SPEED, Speed
from splat.train.density import DefaultDensity
from splat.train.execution import Execution
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.run import TrainingRun, TrainSettings
from splat.train.settings import Training

LOADS = ((20_000, 320, 240), (100_000, 640, 480))
"""Gaussians, width and height of what is trained."""
REFERENCE_STEPS = (0.0199, 0.0941)
"""Processor seconds of a step of each of LOADS, on one core of the machine that REFERENCE_SPEED was measured on."""
REFERENCE_FEATURES = 1.11
"""The same of the features of one photo."""
_OF_FEATURES = frozenset({"photo", "read_photo", "feature_pixel", "comparison", "pair", "placed_feature"})
"""Kinds of work (`Speed`) that the measured features stand for; the measured steps stand for all others."""
_STEP_SECONDS = 3.0
_WARM_UP = 3


@dataclass(frozen=True)
class Calibration:
    """Seconds on this machine over those on the reference machine, a core each."""

    training: float = 1.0
    features: float = 1.0

    @property
    def speed(self) -> Speed:
        factors = {name: self.features if name in _OF_FEATURES else self.training for name in vars(REFERENCE_SPEED)}
        return replace(REFERENCE_SPEED, **{n: f * getattr(REFERENCE_SPEED, n) for n, f in factors.items()})


def calibrated() -> Calibration | None:
    """What was measured on this machine with this code; None: nothing yet."""
    try:
        found = read_json(_path())[_key()]
        known = Calibration(float(found["training"]), float(found["features"]))
    except (SplatError, OSError, LookupError, TypeError, ValueError):
        return None
    return known if 0.01 < known.training < 1e4 and 0.01 < known.features < 1e4 else None


def calibrate() -> Calibration:
    """Measure, on one thread, and keep the result. Processor time is what counts, so that other programs disturb
    little."""
    if (reason := build.unavailable()) is not None:
        raise SplatError(f"--calibrate measures the compiled kernels, and there are none here: {reason}")
    with one_thread():
        steps = [seconds_of_a_step(*load, _STEP_SECONDS) for load in LOADS]
        ratios = [found / reference for found, reference in zip(steps, REFERENCE_STEPS)]
        found = Calibration(statistics.geometric_mean(ratios), _seconds_of_features() / REFERENCE_FEATURES)
    kept: Any = {}
    if _path().exists():
        try:
            kept = read_json(_path())
        except SplatError:
            kept = {}
    rest = kept if isinstance(kept, dict) else {}
    write_json(_path(), rest | {_key(): {"training": found.training, "features": found.features}})
    return found


def _path() -> Path:
    return build.cache_dir() / "calibration.json"


def _key() -> str:
    return hash_of(build.cpu_model(), code_hash("splat.stages.calibration"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and the kernels work with one thread meanwhile."""
    before = torch.get_num_threads(), bindings.get_threads()
    torch.set_num_threads(1)
    bindings.set_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        bindings.set_threads(before[1])


def seconds_of_a_step(gaussians: int, width: int, height: int, seconds: float) -> float:
    """Median processor seconds of a whole training step, measured for about `seconds`: visible-only Adam, exposure,
    0.8 L1 + 0.2 (1 - SSIM), all harmonics, statistics for density control that splits nothing."""
    run = step_load(gaussians, width, height)
    for _ in range(_WARM_UP):
        run.do_step()
    found: list[float] = []
    until = time.monotonic() + seconds
    while len(found) < 3 or time.monotonic() < until:
        started = time.process_time()
        run.do_step()
        found.append(time.process_time() - started)
    return statistics.median(found)


def step_load(gaussians: int, width: int, height: int) -> TrainingRun:
    """A training run of random Gaussians, 2 px large in the middle, that fill a random photo of that size."""
    rng = np.random.default_rng(0)
    camera = Camera(float(width), float(width), width / 2, height / 2, width, height)
    n, z = gaussians, torch.from_numpy(rng.uniform(2, 10, gaussians))
    pixels = torch.from_numpy(rng.uniform(size=(n, 2)) * [width, height])
    footprint = torch.from_numpy(np.exp(rng.normal(np.log(2.0), 0.7, (n, 3))).clip(0.3, 80))
    scene = Gaussians(
        means=camera.unproject(pixels, z),
        quats_wxyz=torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, 4))), dim=1),
        log_scales=(footprint * (z / camera.fx)[:, None]).log(),
        logit_opacities=torch.from_numpy(rng.normal(0, 2, n)),
        sh=rgb_to_sh(torch.from_numpy(rng.uniform(size=(n, 3))), degree=3),
    ).to(torch.float32)
    along_curve = morton_order(scene.means)
    scene = scene.map(lambda t: t[along_curve].contiguous())
    photos, defaults = _Photos(camera, rng), Training()
    density = DefaultDensity(cap=n, start=2.0, stop=2.0)  # keeps its statistics, splits nothing
    raster = RasterSettings(min_transmittance=defaults.min_transmittance)
    schedules = Schedules(rates=defaults.rates, sh=defaults.sh)
    phase = Phase(100_000, photos, Losses(), density, schedules, raster)
    views = ViewModel(1, ViewSettings())
    run = TrainingRun(Init(scene), (phase,), Native(), views, TrainSettings(), Silent(), Execution())
    run.advance()
    run.model.use_sh_degree(run.sh_degree)
    return run


class _Photos:
    """One random photo: a TargetSource."""

    def __init__(self, camera: Camera, rng: np.random.Generator) -> None:
        photo = torch.from_numpy(rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8))
        self.item = Item(camera, torch.eye(4), photo, view_id=0)

    def items(self, step: int, steps: int) -> Iterator[Item]:
        yield self.item

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


def _seconds_of_features() -> float:
    """Processor seconds of the features of one photo of 960 x 720 px with structure of all sizes."""
    rng = np.random.default_rng(0)
    photo = np.zeros((720, 960), np.float32)
    for cells in (8, 32, 128):
        noise = rng.uniform(0, 85, (cells * 3 // 4, cells)).astype(np.float32)
        photo += cv2.resize(noise, (960, 720), interpolation=cv2.INTER_CUBIC)
    with tempfile.TemporaryDirectory(prefix="splat-calibration-") as scratch:
        path = Path(scratch) / "photo.png"
        cv2.imwrite(str(path), np.repeat(photo.clip(0, 255).astype(np.uint8)[..., None], 3, 2))
        view = View("photo.png", path, (960, 720), Camera(960.0, 960.0, 480.0, 360.0, 960, 720))
        started = time.process_time()
        extract((view,), FeatureSettings(max_size=960, max_count=4096), Path(scratch) / "features", Silent(), 1)
        return time.process_time() - started
