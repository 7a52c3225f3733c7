"""`splat reconstruct`: photos in, a scene out. The order of the stages, and nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.ranks import Ranks, together
from splat.init import DenseSurfaces as Edgs
from splat.init import SfmPoints as Points
from splat.losses import Losses
from splat.methods.presets import PRESETS, resolve_method
from splat.methods.recipes import with_recipe
from splat.poses.known import Known
from splat.poses.photometric import PoseSearch
from splat.poses.sfm import Sfm
from splat.priors import FlowMatcher, RomaMatcher, Stereo
from splat.run.console import Console
from splat.run.folder import RunFolder, plain
from splat.stages import evaluate as evaluation
from splat.stages import export as results
from splat.stages import first as stages
from splat.stages import train as training
from splat.stages.train import TrainConfig


def default_out(photos: Path) -> Path:
    """`runs/NAME`, named after a folder of photos or a video."""
    resolved = photos.resolve()
    return Path("runs") / (resolved.name if resolved.is_dir() else resolved.stem)


@dataclass(frozen=True)
class Reconstruct:
    """Photos, a video or a dataset -> a splat, point clouds, renders and a report in one run folder.

    The same command on the same folder resumes; more --iterations on a finished run continue it.
    """

    photos: Path
    """A folder of photos, a video, or a dataset (COLMAP, nerfstudio, instant-ngp, NeRF-synthetic, LLFF)."""
    out: Path = Path()
    """The run folder, made if it is not there (default: runs/NAME after the photos' folder or file)."""
    preset: Literal["fast", "default", "quality"] = "default"
    """fast: 3,000 steps at 480 px; default: 6,000 at 800 px; quality: 30,000 at 1,600 px. Other flags win over it."""
    method: Literal["auto", "points", "edgs"] = "auto"
    """How the first Gaussians are made: on the surfaces that dense matching finds (edgs), or at the sparse points of
    structure from motion (points). auto: edgs where there are compiled kernels."""
    iterations: int = PRESETS["default"].iterations
    """Training steps, one photo each; processes that train together share them."""
    max_resolution: int = PRESETS["default"].max_resolution
    """Long side of the working photos in px; larger photos are shrunk."""
    downscale: float = 1.0
    """Shrink all photos by this factor before --max-resolution applies."""
    cap: int | None = None
    """Most Gaussians that density control may reach (default: one per 50 pixels of the training photos, at most 60,000,
    150,000 or 1,000,000 for the presets fast, default and quality)."""
    test_every: int = 8
    """Hold out every n-th photo by name where the dataset has no split of its own; 0 trains on all photos."""
    heldout: Literal["posed", "strict"] = "posed"
    """posed: held-out photos take part in finding the poses, not in training. strict: they take part in nothing, and
    their poses are found afterwards against the finished scene."""
    images: str | None = None
    """Sub-folder of the photos, where a dataset has several (images_4, images_8)."""
    ignore_poses: bool = False
    """Use the photos alone, even where the dataset has poses."""
    masks: Path | None = None
    """Folder of masks, white = use (default: `masks/` beside the photos, if there)."""
    invert_masks: bool = False
    """Masks are black where the photo is to be used."""
    mask_mode: Literal["ignore", "empty"] = "ignore"
    """ignore: masked pixels say nothing. empty: they are empty background."""
    max_frames: int = 120
    """Video: most frames taken, the sharpest of as many equal windows."""
    sfm: Sfm = field(default_factory=Sfm)
    """Finding poses from photos."""
    known: Known = field(default_factory=Known)
    """Poses that the dataset brings."""
    up: str = "auto"
    """Which way is up: auto (from how the photos were held), an axis like -y, or "x,y,z", in the frame of exports."""
    scale: float | None = None
    """Multiply the size of a scene found from photos alone by this (see --sfm.frame for GPS and measured lengths)."""
    points: Points = field(default_factory=Points)
    """First Gaussians from sparse points."""
    edgs: Edgs = field(default_factory=Edgs)
    """First Gaussians from dense matching."""
    stereo: Stereo = field(default_factory=Stereo)
    """Dense matching between posed photos by depth maps."""
    matcher: Literal["stereo", "flow", "roma"] = "stereo"
    """Dense matching: stereo (depth maps, no weights), flow (optical flow, no weights) or roma
    (learned; needs weights and the extra `roma`)."""
    flow: FlowMatcher = field(default_factory=FlowMatcher)
    """Dense matching by optical flow."""
    roma: RomaMatcher = field(default_factory=RomaMatcher)
    """Dense matching by RoMa."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Optimization."""
    losses: Losses = field(default_factory=Losses)
    """What is minimized: one weight per term, 0 = off."""
    sh_degree: int = 3
    """Degree of view-dependent colour, 0 to 3."""
    antialiased: bool = False
    """Mip-Splatting's 2D filter: right at distances the photos did not have; viewers must support it."""
    raster: Literal["auto", "native", "gsplat", "reference"] = "auto"
    """What draws; auto takes the fastest that works here."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    """CPU threads (default: all cores this process may use)."""
    memory: float | None = None
    """GB this run may take (default: 85 % of what is free)."""
    seed: int = 0
    search: PoseSearch = field(default_factory=PoseSearch)
    """Poses of held-out photos under --heldout strict."""
    renders: bool = True
    """Write renders, videos and depth maps of the result; the splat and the report are always written."""
    lpips: Path | None = None
    """Folder with LPIPS weights (default: the folder named by SPLAT_WEIGHTS); without them LPIPS is null."""
    quiet: bool = False
    explicit_flags: tuple[str, ...] = ()
    """Filled in by the command line: which flags were given."""

    def __post_init__(self) -> None:
        for name in ("photos", "out", "masks", "lpips"):  # a script may write plain strings
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, Path(value))

    @property
    def folder(self) -> Path:
        """The run folder."""
        return default_out(self.photos) if self.out == Path() else self.out

    @staticmethod
    def defaults_for(argv: list[str]) -> Reconstruct:
        """The instance whose values are the defaults under the preset named in `argv`."""
        name = "default"
        for i, a in enumerate(argv):
            if a == "--preset" and i + 1 < len(argv):
                name = argv[i + 1]
            elif a.startswith("--preset="):
                name = a.split("=", 1)[1]
        p = PRESETS.get(name, PRESETS["default"])
        return Reconstruct(
            photos=Path(),
            preset=name if name in PRESETS else "default",  # type: ignore[arg-type]
            iterations=p.iterations,
            max_resolution=p.max_resolution,
        )

    def __call__(self) -> dict[str, Any]:
        """Run what is not done yet. Returns what `metrics.json` holds; raises SplatError for what the user can mend.

        Of several processes that torchrun started, rank 0 does this, and the others, which return nothing, take part in
        training.
        """
        with together() as ranks:
            if ranks.rank > 0:
                training.help_out(ranks)
                return {}
            self._check()
            started = time.monotonic()
            run = RunFolder(self.folder)
            try:
                with Console(run.log, self.quiet) as report:
                    metrics = self._run(run, report, started, ranks)
            finally:
                run.close()
            ranks.told(None)
            return metrics

    def _run(self, run: RunFolder, report: Console, started: float, ranks: Ranks) -> dict[str, Any]:
        context = stages.Context.open(self, run, report, ranks)
        capture, capture_key = stages.ingest(context)
        if self.heldout == "strict":
            capture, held_out = stages.split_off_tests(capture)
        else:
            held_out = None
        stages.announce(context, capture)
        posed, poses_key = stages.poses(context, capture, capture_key)
        method, why = resolve_method(self.method, len(posed.capture.train_views))
        report.info(f"method: {method} ({why})")
        config = with_recipe(replace(self, method=method), method)  # type: ignore[arg-type]
        working, context = stages.fit_to_memory(replace(context, config=config), posed.capture)
        write_json(run.root / "config.json", {"command": "reconstruct", **plain(config)})
        init, init_key = stages.init(context, working, method, poses_key)
        trained, train_key = training.train(context, working, init, init_key)
        result = evaluation.evaluate(context, working, posed, held_out, trained, train_key)
        metrics = results.export(context, working, posed, trained, result, method, train_key)
        report.info(
            f"done in {time.monotonic() - started:.0f} s: {self.folder / 'export' / 'splat.ply'}, "
            f"{self.folder / 'report.html'}"
        )
        return metrics

    def _check(self) -> None:
        if not self.photos.exists():
            raise SplatError(f"{self.photos} does not exist: give a folder of photos, a video or a dataset.")
        if not 0 <= self.sh_degree <= 3:
            raise SplatError(f"--sh-degree {self.sh_degree} is not supported: choose 0, 1, 2 or 3.")
        if self.iterations < 1:
            raise SplatError(f"--iterations {self.iterations} is too few: give at least 1.")
        if self.max_resolution < 32 or self.downscale <= 0:
            raise SplatError("--max-resolution must be at least 32 and --downscale above 0.")
        if self.cap is not None and self.cap < 1:
            raise SplatError(f"--cap {self.cap} is too low: give at least 1.")
