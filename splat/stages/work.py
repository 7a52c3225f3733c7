"""What the stages of a run have to do, counted before it begins: photos, pixels, features and Gaussians, in the units
that `timing.Speed` names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from splat.core.capture import Capture, View
from splat.core.schedules import ResolutionSchedule
from splat.poses.attempts import attempt_sequence
from splat.poses.features import feature_size
from splat.poses.known import Known
from splat.poses.photometric import SIZES, PoseSearch
from splat.poses.registration import LocalizeSettings
from splat.priors.stereo import FEW
from splat.stages.evaluate import MAX_TRAINING_VIEWS
from splat.stages.export import PATH_FRAMES, VIDEO_SIDE
from splat.stages.floaters import FRAMES, SIDE, matched_photos
from splat.stages.perceptual import Networks

FEATURES_PER_PIXEL = 0.005
"""What SIFT finds in photos of usual texture, as long as it is no more than are kept."""
NEIGHBOURS = 15
"""Photos that each of more than MAX_ALL_PAIRS photos, or of a video, is matched with on average."""
MAX_ALL_PAIRS = 100

Work = Mapping[str, float]
"""How much there is to do of what `timing.Speed` names."""


@dataclass(frozen=True, eq=False)
class Sizes:
    """What decides how much a run has to do."""

    posing: Capture
    """The photos that poses are found for."""
    working: Capture
    """Those that are trained on and measured, at their working size."""
    iterations: int
    cap: int
    needs_sfm: bool
    matched: float = 0.0
    """Pixels of all photos at the size of dense matching; 0: none are matched."""
    matched_photos: int = 0
    ground: bool = False
    """The plane that the photos stand on is looked for."""
    feature_side: int | None = None
    """Long side of the photos in which features are found, px, where it was asked for."""
    held_out: tuple[View, ...] = ()
    """Photos, at their working size, whose poses are found in the finished scene."""
    search: PoseSearch = field(default_factory=PoseSearch)
    """How."""
    resolution: ResolutionSchedule = field(default_factory=ResolutionSchedule)
    step_factor: float = 1.0
    """See `timing.STEP_FACTORS`."""
    normals: float = 0.0
    """The share of the steps that draw normals."""
    networks: Networks = field(default_factory=Networks)
    renders: bool = True

    @property
    def localizes(self) -> bool:
        """Whether features of all photos are found anew, to place those of `held_out`, whose poses nobody gave."""
        return any(v.world_from_cam is None for v in self.held_out)


def stage_work(sizes: Sizes) -> dict[str, Work]:
    """What there is to do, by stage."""
    return {
        "ingest": {"start": 0.5, "photo": len(sizes.posing.views)},
        "poses": _poses(sizes),
        "init": _init(sizes),
        "train": _training(sizes),
        "evaluate": _evaluation(sizes),
        "export": _export(sizes),
    }


def finds_features(capture: Capture, needs_sfm: bool) -> bool:
    """Whether the poses stage detects features: to find poses, or points where poses are known."""
    return needs_sfm or capture.points is None


def default_feature_side(capture: Capture, needs_sfm: bool) -> int:
    """Long side in px of the photos in which features are found unless another is asked for."""
    return attempt_sequence(len(capture.views))[0].features.max_size if needs_sfm else Known().max_features_size


def pixels_of(views: Iterable[View]) -> float:
    """Of all views at their working size."""
    return float(sum(v.camera.width * v.camera.height for v in views))


# ---------------------------------------------------------------------------------------------------------- the stages


def _poses(s: Sizes) -> Work:
    if not finds_features(s.posing, s.needs_sfm):
        return {"start": 1.0}
    if not s.needs_sfm:
        return _triangulation(s.posing.train_views, s.feature_side)
    views = s.posing.views
    n, side = len(views), s.feature_side or default_feature_side(s.posing, True)
    pixels, features = _features(views, side, attempt_sequence(n)[0].features.max_count)
    pairs = 0.5 * n * (n - 1) if n <= MAX_ALL_PAIRS and s.posing.kind == "photos" else 1.0 * NEIGHBOURS * n
    work = {"start": 1.0, "feature_pixel": pixels, **_comparisons(features / n, pairs), "placed_feature": features}
    fewer = [v for v in s.working.views if v.role == "train"]
    return _sum(work, _triangulation(fewer, None)) if len(fewer) < len(s.posing.train_views) else work


def _triangulation(views: Sequence[View], side: int | None) -> Work:
    """Of points, where poses are known."""
    known, n = Known(), len(views)
    pixels, features = _features(views, side or known.max_features_size, known.max_features)
    pairs = min(0.5 * n * (n - 1), 1.0 * known.neighbours * n)
    return {"start": 1.0, "feature_pixel": pixels, **_comparisons(features / max(1, n), pairs)}


def _comparisons(features: float, pairs: float) -> Work:
    """Of photos with so many features each."""
    return {"comparison": pairs * features**2, "pair": pairs}


def _sum(*parts: Work) -> Work:
    return {name: sum(p.get(name, 0.0) for p in parts) for name in dict.fromkeys(n for p in parts for n in p)}


def _features(views: Iterable[View], side: int, most: int) -> tuple[float, float]:
    """Pixels that features are looked for in, and how many are found."""
    sizes = [w * h for w, h in (feature_size(v, side) for v in views)]
    return float(sum(sizes)), float(sum(min(most, FEATURES_PER_PIXEL * pixels) for pixels in sizes))


def _init(s: Sizes) -> Work:
    if not s.matched:
        return {"start": 0.1}
    return {"start": 1.0, **matching_work(s.matched, s.matched_photos), "ground_photo": s.matched_photos * s.ground}


def matching_work(pixels: float, photos: int) -> Work:
    """Of so many pixels of so many photos. Few photos are matched longer and exchange what they find."""
    return {"matched_pixel": pixels, "few_pixel": pixels if photos <= FEW else 0.0}


def _training(s: Sizes) -> Work:
    train = [v for v in s.working.views if v.role == "train"]
    mean = sum(v.camera.width * v.camera.height * _mean_area(v, s.resolution) for v in train) / max(1, len(train))
    steps = s.step_factor * s.iterations
    work = {"start": 1.0, "step": steps, "step_pixel": steps * mean, "step_gaussian": steps * s.cap}
    return {**work, "normal_pixel": s.normals * s.iterations * mean, "read_photo": _read(train)}


def _mean_area(view: View, schedule: ResolutionSchedule) -> float:
    """Of the photo that a step sees, over that at the working size: the mean over a run."""
    side, last = max(view.camera.width, view.camera.height), len(schedule.factors()) - 1
    early = sum(schedule.factor_for(level, side) ** 2 for level in range(last)) / max(1, last)
    share = schedule.full_at if last else 0.0
    return share * early + 1 - share


def _read(views: Iterable[View]) -> float:
    """Megapixels of the files."""
    return sum(v.photo_size[0] * v.photo_size[1] for v in views) / 1e6


def _evaluation(s: Sizes) -> Work:
    train = [v for v in s.working.views if v.role == "train"]
    tests = [*s.held_out, *(v for v in s.working.views if v.role == "test")]
    measured = [*tests, *train[:MAX_TRAINING_VIEWS]]
    some = matched_photos(s.working)
    work: dict[str, float] = {"start": 1.0, "read_photo": _read([*measured, *some.views])}
    work |= matching_work(pixels_of(some.views), len(some.views))
    places = pixels_of(Capture(tuple(tests)).resized(SIDE).views) + FRAMES * pixels_of(some.views[:1])
    work["measured_pixel"] = pixels_of(measured) + places
    for views, names in ((tests, s.networks.test), (train[:MAX_TRAINING_VIEWS], s.networks.train)):
        for name in names:
            work[f"{name}_pixel"] = work.get(f"{name}_pixel", 0.0) + pixels_of(views)
    return {**work, **_localization(s)} if s.held_out else work


def _localization(s: Sizes) -> Work:
    """Of photos in a scene that they had no part in: their features against those of all others, then the search."""
    steps = sum((s.search.steps * share + 1) * scale**2 for scale, share in SIZES)
    work: dict[str, float] = {"searched_pixel": steps * pixels_of(s.held_out)}
    if s.localizes:
        settings, known = LocalizeSettings(), s.posing.views
        pixels, features = _features([*known, *s.held_out], settings.max_size, settings.max_count)
        each = features / (len(known) + len(s.held_out))
        pairs = len(s.held_out) * min(len(known), settings.neighbours)
        work |= {"feature_pixel": pixels, "comparison": pairs * each**2}  # verified once a photo, not pair by pair
    return work


def _export(s: Sizes) -> Work:
    work: dict[str, float] = {"start": 0.1, "written_gaussian": s.cap}
    if not s.renders:
        return work
    tests = [*s.held_out, *(v for v in s.working.views if v.role == "test")]
    frame = pixels_of(s.working.resized(VIDEO_SIDE).views) / max(1, len(s.working.views))
    stills = 2 * 6 * frame
    return {**work, "rendered_pixel": 2 * PATH_FRAMES * frame, "pictured_pixel": pixels_of(tests) + stills}
