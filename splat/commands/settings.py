"""The settings of `splat reconstruct`, and how preset, method and explicit values make those that run."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from splat.bench.engines import Cluster, EngineName
from splat.core import licences
from splat.core.settings import changed_settings, with_defaults
from splat.core.slots import Method, Poser, ReadOptions
from splat.geometry.blocks import OVERLAP
from splat.losses import Losses
from splat.methods import METHODS
from splat.methods.auto import choose_method
from splat.methods.presets import PRESETS, few_photo_defaults, iterations_for
from splat.poses.fewer import Fewer
from splat.poses.known import Known
from splat.poses.photometric import PoseSearch
from splat.poses.sfm import Sfm
from splat.priors import DepthAnything, FlowMatcher, Marigold, PriorCommand, RomaMatcher, Stereo
from splat.run.folder import plain
from splat.stages.forecast import Choices, Limits
from splat.stages.priors import PriorSettings
from splat.train.settings import Training

C = TypeVar("C", bound="ReconstructSettings")


def default_out(photos: Path) -> Path:
    """`runs/NAME`, named after a folder of photos or a video."""
    resolved = photos.resolve()
    return Path("runs") / (resolved.name if resolved.is_dir() else resolved.stem)


def default_methods() -> tuple[Method, ...]:
    """One of each method, with its own defaults."""
    return tuple(method() for method in METHODS.values())


@dataclass(frozen=True)
class ReconstructSettings:
    """Flags of `splat reconstruct`, which are fields of `commands.reconstruct.Reconstruct`."""

    common: ClassVar[tuple[str, ...]] = (
        *(
            "photos",
            "out",
            "preset",
            "method",
            "iterations",
            "max_resolution",
            "cap",
            "test_every",
            "heldout",
            "images",
        ),
        *("ignore_poses", "masks", "mask_mode", "depth", "max_frames", "up", "device", "threads", "memory", "seed"),
        "view",
    )
    """What `--help` shows; `--help-all` shows the rest."""

    photos: Path
    """A folder of photos, a video, or a dataset (COLMAP, nerfstudio, instant-ngp, NeRF-synthetic, LLFF)."""
    out: Path = Path()
    """The run folder, made if it is not there (default: runs/NAME after the photos' folder or file)."""
    preset: Literal["fast", "default", "quality"] = "default"
    """fast: 3,000 steps at 480 px; default: 6,000 at 800 px; quality: 30,000 at 1,600 px. Other flags win over it."""
    method: str | Method = "auto"
    """How the scene is made: edgs (first Gaussians on the surfaces that dense matching finds), coherent (these slide
    along the rays of their pixels, for few photos), lm (priors of depth and normals, background, and views between the
    photos), points (at the sparse points of structure from motion), edgs_published or coherent_published (the methods
    as published, to compare with). auto: coherent up to 4 training photos, else edgs, and points where there are no
    compiled kernels. From Python also a method with settings of its own: `method=Edgs(...)`."""
    iterations: int | None = None
    """Training steps, one photo each; processes that train together share them (default: the preset's)."""
    max_resolution: int | None = None
    """Long side of the working photos in px; larger photos are shrunk (default: the preset's)."""
    downscale: float = 1.0
    """Shrink all photos by this factor before --max-resolution applies."""
    cap: int | None = None
    """Most Gaussians that density control may reach (default: one per 50 pixels of the training photos, at most 60,000,
    150,000 or 1,000,000 for the presets fast, default and quality)."""
    test_every: int = 8
    """Hold out every n-th photo by name where the dataset has no split of its own; 0 trains on all photos."""
    train_photos: int = 0
    """Train on so many of the photos that are not held out, evenly spread by name; poses are found with all of them.
    For benchmarks of few photos; 0: train on all."""
    train_ids: tuple[int, ...] = ()
    """Train on these photos, numbered by name from 0, and know nothing of the others: published splits that are lists.
    Wins over --test-every and the dataset's own split."""
    test_ids: tuple[int, ...] = ()
    """Hold out these photos, numbered by name from 0 (default with --train-ids: all others)."""
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
    object: bool = False
    """Of an object that turns before a camera that stands still (a turntable): mask all that stays."""
    mask_mode: Literal["ignore", "empty", "test"] = "ignore"
    """ignore: masked pixels say nothing. empty: they are empty background. test: training knows nothing of masks, and
    held-out photos are measured within theirs."""
    depth: Path | None = None
    """Folder of depth or disparity maps, one for each photo by its name (16-bit PNG, TIFF, PFM, .npy, .npz; 0:
    unknown), or `anything` or `marigold`: Depth Anything V2 Small or Marigold predicts them (needs transformers, or
    diffusers, and weights). Of any scale: they are aligned to what matching is sure of, and stand in where it is
    not."""
    license: licences.Policy = "research"
    """Which weights may be loaded: research (all that are there) or commercial (only those whose licence is known to
    allow it)."""
    prior: PriorCommand = field(default_factory=PriorCommand)
    """Depth and normals by another program (Depth Anything 3, VGGT, MASt3R, ...), used as those of --depth."""
    depth_kind: Literal["auto", "depth", "disparity"] = "auto"
    """What the maps of --depth hold; auto: what fits the scene better."""
    depth_min_right: float = 0.5
    """A photo's depth map is used if it is within 5 % at this share of the pixels whose depth is known."""
    ground: bool = False
    """Where matching is in doubt, take the plane that the scene stands on, if there is one that the photos agree about
    (default: with at most 14 training photos)."""
    anything: DepthAnything = field(default_factory=DepthAnything)
    """Depth by Depth Anything (--depth anything)."""
    marigold: Marigold = field(default_factory=Marigold)
    """Depth and normals by Marigold (--depth marigold)."""
    max_frames: int = 120
    """Video: most frames taken, the sharpest of as many equal windows."""
    max_pixels: int | None = None
    """Leave out photos with more pixels (default: 500 million, and no more than the size of the file explains)."""
    sfm: Sfm = field(default_factory=Sfm)
    """Finding poses from photos."""
    known: Known = field(default_factory=Known)
    """Poses that the dataset brings."""
    up: str = "auto"
    """Which way is up: auto (from how the photos were held), an axis like -y, or "x,y,z", in the frame of exports."""
    scale: float | None = None
    """Multiply the size of a scene found from photos alone by this (see --sfm.frame for GPS and measured lengths)."""
    stereo: Stereo = field(default_factory=Stereo)
    """Dense matching between posed photos by depth maps."""
    matcher: Literal["stereo", "flow", "roma"] = "stereo"
    """Dense matching: stereo (depth maps, no weights), flow (optical flow, no weights) or roma (learned; needs weights
    and the package romatch or romav2)."""
    flow: FlowMatcher = field(default_factory=FlowMatcher)
    """Dense matching by optical flow."""
    roma: RomaMatcher = field(default_factory=RomaMatcher)
    """Dense matching by RoMa."""
    train: Training = field(default_factory=Training)
    """Optimization."""
    losses: Losses = field(default_factory=Losses)
    """What is minimized: one weight per term, 0 = off."""
    sh_degree: int = 3
    """Degree of view-dependent colour, 0 to 3 (default: 3; with at most 14 training photos 1)."""
    antialiased: bool = False
    """Mip-Splatting's 2D filter: right at distances the photos did not have; viewers must support it."""
    raster: Literal["auto", "native", "gsplat", "reference"] = "auto"
    """What draws; auto takes the fastest that works here."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What computes; auto: a GPU where torch sees one, else the CPU."""
    threads: int | None = None
    """CPU threads (default: all cores this process may use)."""
    memory: float | None = None
    """GB this run may take (default: 85 % of what is free)."""
    seed: int = 0
    """Of everything that is random."""
    search: PoseSearch = field(default_factory=PoseSearch)
    """Poses of held-out photos under --heldout strict."""
    renders: bool = True
    """Write renders, videos and depth maps of the result; the splat and the report are always written."""
    fill: bool = False
    """Beside renders and videos, write ones named *_filled whose holes, which no photo showed, are closed for
    presentation. No figure is measured on them."""
    clean: bool = False
    """Write the result without floaters: Gaussians in space that two photos see past, as long as the PSNR of the
    held-out photos falls by at most 0.05 dB. Figures are of the scene as it was trained; `clean` in metrics.json has
    those of both."""
    lpips: Path | None = None
    """Folder with weights of LPIPS or ST-LPIPS (default: the folder named by SPLAT_WEIGHTS, and what is installed);
    without them LPIPS is null."""
    figures: tuple[str, ...] = ()
    """More figures of held-out photos (`figures` in metrics.json), as publications define them: psnr, ssim or lpips,
    then, after dashes: 8bit (renders rounded), white (where a mask leaves out), uniform (window of SSIM, as in
    scikit-image), vgg or alex, 01 (that network is fed [0, 1], not [-1, 1]). For example ssim-uniform-8bit."""
    until: Literal["end", "poses"] = "end"
    """poses: stop once the poses are found; the same command without this flag goes on from there."""
    keep_stages: bool = False
    """Go on from finished stages although the program has changed since they were made."""
    view: bool = False
    """Watch training in a browser, and walk through the result: prints a link. `splat view RUN` does it afterwards."""
    view_port: int | None = None
    """Port of --view (default: 7007, or the next that is free)."""
    blocks: int | Literal["auto"] | None = None
    """Divide the capture into so many blocks of the ground plane, reconstruct each by itself (OUT/blocks/0, ...) and
    put them together; auto: as few as the expected memory asks for. --cap is then that of the whole, --memory of each
    block. Finished blocks are not run again."""
    block_overlap: float = OVERLAP
    """How far blocks train beyond what they own, as a fraction of its size."""
    engine: EngineName = "local"
    """Where blocks run: local (this machine), ray (a Ray cluster, or one started here; extra `ray`) or slurm (jobs of
    SLURM; extra `slurm`)."""
    workers: int | None = None
    """Blocks at a time, at most; on this machine each has its share of the cores (default: one for every 8 cores)."""
    cluster: Cluster = field(default_factory=Cluster)
    """What --engine ray and slurm ask for."""
    dry_run: bool = False
    """With --blocks: find the poses, say which blocks there are and what they take, and stop."""
    quiet: bool = False
    """Say nothing on the terminal but errors; `log.jsonl` in the run folder has everything."""
    methods: tuple[Method, ...] = field(default_factory=default_methods, metadata={"flag": False})
    """What `method` may name, each with its settings."""
    explicit: tuple[str, ...] = field(default=(), metadata={"flag": False})
    """Dotted names of settings that were given although they may equal their defaults: neither preset nor method
    changes them. (Settings that differ from their defaults count as given.)"""

    def __post_init__(self) -> None:
        for name in ("photos", "out", "masks", "depth", "lpips"):  # a script may write plain strings
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, Path(value))

    @property
    def folder(self) -> Path:
        """The run folder."""
        return default_out(self.photos) if self.out == Path() else self.out

    # ------------------------------------------------------------------------------------------------- the command line

    @classmethod
    def flags(cls) -> type:
        """The dataclass whose fields are the flags: `--method` picks by name, and each method's settings are flags
        under its name."""
        names = Literal[("auto", *METHODS)]  # type: ignore[valid-type]
        settings = [(n, m, field(default_factory=m)) for n, m in METHODS.items()]
        bases = (cls,)
        return make_dataclass(cls.__name__, [("method", names, "auto"), *settings], bases=bases, frozen=True)

    @classmethod
    def from_flags(cls: type[C], given: Any, explicit: tuple[str, ...]) -> C:
        """The command, from an instance of `flags()` and the dotted names of the flags that were given."""
        values = {f.name: getattr(given, f.name) for f in fields(cls)}
        values |= {"methods": tuple(getattr(given, n) for n in METHODS), "explicit": explicit}
        return cls(**values)

    # --------------------------------------------------------------------------------------------------------- settings

    def given(self) -> frozenset[str]:
        """Dotted names of the settings that somebody chose."""
        required = {f.name: getattr(self, f.name) for f in fields(self) if _is_required(f)}
        changed = changed_settings(self, type(self)(**required))
        return frozenset((*self.explicit, *required, *(changed - {"explicit", "methods"})))

    def resolved(self: C, train_photos: int) -> tuple[C, str]:
        """The settings as they run, and why its method: `method` an object, nothing left to preset or method.

        Settings that were given win over the method's defaults, and these over the preset's.
        """
        method, why = choose_method(self.method, {m.name: m for m in self.methods}, train_photos)
        given = self.given()
        preset = PRESETS[self.preset]
        defaults = {
            "iterations": iterations_for(self.preset, train_photos),
            "max_resolution": preset.max_resolution,
            **few_photo_defaults(train_photos),
            **method.defaults(self.preset),
        }
        settled = with_defaults(self, defaults, given)
        return replace(settled, method=method, explicit=tuple(sorted(given))), why

    @property
    def chosen(self) -> Method:
        """The method of settings that are `resolved`."""
        assert not isinstance(self.method, str)
        return self.method

    @property
    def limits(self) -> Limits:
        """Of settings that are `resolved`."""
        assert self.iterations is not None and self.max_resolution is not None
        return Limits(
            *(self.preset, self.iterations, self.max_resolution, self.downscale),
            *(self.cap, self.memory, self.threads),
        )

    def choices(self, has_poses: bool) -> Choices:
        """Of settings that are `resolved`: those beside `limits` that decide what a run takes."""
        return Choices(
            matching_size=self.priors.matching_size,
            feature_side=self.feature_side(has_poses),
            train_photos=self.train_photos,
            training=self.train,
            losses=self.losses,
            ground=self.ground,
            search=self.search,
            lpips=self.lpips,
            figures=self.figures,
            renders=self.renders,
        )

    @property
    def read_options(self) -> ReadOptions:
        shared = {f.name for f in fields(ReadOptions)} & {f.name for f in fields(self)}
        return ReadOptions(**{n: getattr(self, n) for n in shared} | {"test_every": self.test_every or None})

    @property
    def priors(self) -> PriorSettings:
        """Without what --depth finds among the photos."""
        return PriorSettings(
            *(self.matcher, self.stereo, self.flow, self.roma), min_right=self.depth_min_right, ground=self.ground
        )

    def feature_side(self, has_poses: bool) -> int | None:
        """Long side in px of the photos in which features are found, where it was asked for."""
        if not has_poses:
            return self.sfm.max_features_size
        side = self.known.max_features_size
        return None if side == type(self.known)().max_features_size else side

    def poser(self, has_poses: bool, feature_side: int | None = None) -> Poser:
        """How poses are found, with the flags that stand for both ways filled in. `feature_side`: in place of what the
        settings say."""
        known = self.known if feature_side is None else replace(self.known, max_features_size=feature_side)
        known = replace(known, up=self.up if known.up == "auto" else known.up, seed=self.seed)
        poser = known if has_poses else self._structure_from_motion(feature_side)
        return Fewer(poser, self.train_photos, known) if self.train_photos > 0 else poser

    def _structure_from_motion(self, feature_side: int | None) -> Sfm:
        frame = self.sfm.frame
        frame = replace(frame, up=self.up if frame.up == "auto" else frame.up, scale=frame.scale or self.scale)
        side = self.sfm.max_features_size if feature_side is None else feature_side
        threads = self.threads or self.sfm.threads
        return replace(self.sfm, frame=frame, seed=self.seed, threads=threads, max_features_size=side)

    def as_json(self) -> dict[str, Any]:
        """What `config.json` holds; `explicit` names the settings that were given."""
        described = plain(replace(self, methods=()))
        del described["methods"]
        record = getattr(self.chosen, "record", None)  # of methods that follow a publication
        return {
            "command": "reconstruct",
            **described,
            "method": self.chosen.name,
            "method_settings": plain(self.method),
            **({} if record is None else {"published": record()}),
        }


def _is_required(f: Any) -> bool:
    return f.default is MISSING and f.default_factory is MISSING
