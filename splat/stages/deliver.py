"""From a finished run, or a splat file, to the scene that deliverables write."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity, rotation_between
from splat.core.machine import available_memory_gb
from splat.core.slots import PathCamera, RasterSettings, Reporter
from splat.export import DELIVERABLES, is_splat_folder, read_splat
from splat.export.deliverable import (
    Deliverable,
    Direction,
    Frame,
    Scene,
    TrainedScene,
    all_chosen,
    nothing_matched,
)
from splat.export.header import MIP, MODE, NO_OFFSET, UP, Offset, offset_of, relative_to, up_of, with_offset
from splat.export.html import HtmlDeliverable
from splat.export.sidecar import about, drawn_as_said, origin_for
from splat.export.splat_files import SplatDeliverable
from splat.export.spz import SpzCodec
from splat.geometry.decimation import blended_weights, merged
from splat.poses.upright import WORLD_UP, parse_up
from splat.run.completed import CompletedRun, note_written
from splat.run.trained import Trained
from splat.stages.clean import clean_run
from splat.stages.floaters import SeenPastOf
from splat.stages.matched import matched_depths
from splat.viewer.edits import Recipe, SeenPast, kept, placed_from_scene, read_recipe


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """What is written of a splat, and where it stands: options of `splat export` and `splat convert`."""

    frame: Frame = "source"
    """source: coordinates as the input has them. world: normalized, as training saw them (of a run). y-up: those of
    source, turned such that +y is up."""
    up: str | None = None
    """Which way is up in the source frame, for y-up and for formats that demand it: --up=-y, --up=z or --up=0,0,1.
    Default: as the run or the file knows it, else -y."""
    scale: float = 1.0
    """Multiply all sizes and coordinates by this, e.g. metres per unit."""
    sh_degree: int | None = None
    """Drop view-dependent colour above this degree."""
    min_opacity: float = 0.0
    """Leave out Gaussians that are fainter."""
    crop: tuple[float, ...] | None = None
    """Keep what is inside a box (--crop XMIN YMIN ZMIN XMAX YMAX ZMAX) or a sphere (--crop X Y Z RADIUS), judged by
    centres, in the coordinates that are written."""
    max_gaussians: int | None = None
    """Merge neighbours that look alike until no more than this remain, first those that the photos show least."""
    edits: Path | None = None
    """Apply a recipe that was saved in `splat view` (.edits.json)."""
    spz_version: Literal[3, 4] = 4
    """Of .spz: 4 (zstd), or 3 (gzip) for readers that do not know 4 yet."""
    html: HtmlDeliverable = field(default_factory=HtmlDeliverable)
    """What a page (.html) holds beside the splat."""

    def check(self) -> None:
        """Raises SplatError for values that mean nothing, before anything is read."""
        if self.sh_degree is not None and self.sh_degree < 0:
            raise SplatError(f"--sh-degree {self.sh_degree} must be 0 or more.")
        if not (0 < self.scale < math.inf):
            raise SplatError(f"--scale {self.scale} must be above 0.")
        if not 0 <= self.min_opacity <= 1:
            raise SplatError(f"--min-opacity {self.min_opacity} must be from 0 to 1.")
        if self.max_gaussians is not None and self.max_gaussians < 1:
            raise SplatError(f"--max-gaussians {self.max_gaussians} is too few: give at least 1.")
        self._up()
        c = self.crop
        if c is not None:
            if len(c) not in (4, 6):
                raise SplatError(f"--crop has {len(c)} numbers: give 6 for a box or 4 for a sphere.")
            if not all(map(math.isfinite, c)):
                raise SplatError(f"--crop {' '.join(map(str, c))} must be finite numbers.")
            if (len(c) == 4 and c[3] <= 0) or (len(c) == 6 and not all(a < b for a, b in zip(c[:3], c[3:]))):
                raise SplatError(f"--crop {' '.join(map(str, c))} is empty: minima come first, a radius is above 0.")

    def _up(self) -> Float[Tensor, "3"] | None:
        return None if self.up is None else parse_up(self.up)

    def tuned(self) -> tuple[Deliverable, ...]:
        """Deliverables with settings from here."""
        return (SplatDeliverable(SpzCodec(self.spz_version)), self.html)

    # --------------------------------------------------------------------------------------------------------- scenes

    def of_run(self, run: CompletedRun) -> Scene:
        """The scene of a finished run."""
        world_from_source, gaussians = run.capture.world_from_source, run.trained.scene
        surfaces = torch.arange(len(gaussians)) < len(run.trained.gaussians)
        recipe = None if self.edits is None else read_recipe(self.edits)
        source_from_world = world_from_source.inverse()
        edited_from_source = Similarity.identity()
        if recipe is not None:
            origin = NO_OFFSET if recipe.splat.startswith("export/") else origin_for(source_from_world)
            file_from_world = about(origin) @ source_from_world
            left, edited_from_file = _edited(recipe, gaussians, file_from_world, SeenPastOf(run))
            gaussians, surfaces = gaussians[left], surfaces[left]
            edited_from_source = about(origin).inverse() @ edited_from_file @ about(origin)
        up = self._up()
        if up is None:
            up = source_from_world.rotation @ torch.tensor(WORLD_UP, dtype=torch.float64)
        if self.frame == "world":
            if recipe is not None:
                raise SplatError("--edits places the splat itself: leave out --frame world.")
            file_from_source = _scaled(self.scale) @ world_from_source
            up = world_from_source.rotation @ up
        else:
            turn, up = self._placed(edited_from_source.rotation @ up)
            file_from_source = turn @ edited_from_source
        file_from_world = file_from_source @ source_from_world
        if self.frame == "source" and recipe is None and self.scale == 1:
            file_from_world = source_from_world  # to the last bit
        offset = NO_OFFSET if self.frame == "world" else origin_for(file_from_world)
        header = {MODE: MIP if run.settings.mode == "antialiased" else "default"}
        as_is = self.frame == "world" and self.scale == 1
        placed = gaussians if as_is else gaussians.transformed(about(offset) @ file_from_world)
        mask = self._selected(placed, offset)
        weights = self._importance(run, gaussians, int(mask.sum()))
        if not bool(mask.all()):
            gaussians, placed, surfaces = gaussians[mask], placed[mask], surfaces[mask]
        if weights is not None:
            gaussians, surfaces = self._merged(gaussians, surfaces, weights[mask])
            placed = gaussians if as_is else gaussians.transformed(about(offset) @ file_from_world)
        capture = as_trained(run.capture, run.trained)
        whole = recipe is None and self.crop is None
        trained = TrainedScene(
            root=run.root,
            capture=capture,
            gaussians=self._of_degree(gaussians[surfaces]),
            surroundings=None if bool(surfaces.all()) else self._of_degree(gaussians[~surfaces]),
            raster=run.raster,
            device=run.device,
            background=run.trained.background,
            file_from_world=file_from_world,
            exposures=run.trained.exposures,
            matched=partial(matched_depths, run, capture) if whole else nothing_matched,
            lost=run.lost,
        )
        return Scene(
            gaussians=self._of_degree(placed),
            header=self._header(with_offset(header, offset)),
            frame=self.frame,
            offset=offset,
            up=_direction(up),
            settings=run.settings,
            trained=trained,
            name=run.root.resolve().name,
            file_from_source=None if self._as_source(recipe) or as_is else file_from_source,
        )

    def of_file(self, path: Path, report: Reporter) -> Scene:
        """The scene of a splat file of any format that can be read."""
        if self.frame == "world":
            raise SplatError(f"--frame world is what training saw, which {shown(path)} does not know: give the run.")
        splat = read_splat(path, report, available_memory_gb())
        gaussians, offset, header = splat.gaussians, offset_of(splat.header), dict(splat.header)
        up = self._up()
        if up is None:
            up = torch.tensor(up_of(header), dtype=torch.float64)
        placed_from_file = Similarity.identity()
        recipe = None if self.edits is None else read_recipe(self.edits)
        if recipe is not None:
            left, placed_from_file = _edited(recipe, gaussians, Similarity.identity())
            gaussians = gaussians[left]
        turn, up = self._placed(placed_from_file.rotation @ up)
        placed_from_file = turn @ placed_from_file
        if not self._as_source(recipe):
            gaussians = gaussians.transformed(placed_from_file)
            rotated = turn.apply(torch.tensor(offset, dtype=torch.float64))
            offset = (float(rotated[0]), float(rotated[1]), float(rotated[2]))
            header = with_offset(header, offset)
        mask = self._selected(gaussians, offset)
        gaussians = gaussians if bool(mask.all()) else gaussians[mask]
        if self.max_gaussians is not None:
            gaussians = merged(gaussians, self.max_gaussians)
        inside_folder = path.name in ("meta.json", "lod-meta.json")
        return Scene(
            gaussians=self._of_degree(gaussians),
            header=self._header(header),
            frame=self.frame,
            offset=offset,
            up=_direction(up),
            settings=drawn_as_said(splat, RasterSettings()),
            name=path.resolve().parent.name if inside_folder else path.name.split(".")[0],
            file_from_source=None if self._as_source(recipe) else placed_from_file,
        )

    def _importance(self, run: CompletedRun, gaussians: Gaussians, count: int) -> Float[Tensor, "n"] | None:
        """How much each Gaussian (world frame) shows in the training photos; None where all that are left may stay."""
        if self.max_gaussians is None or count <= self.max_gaussians:
            return None
        views = as_trained(run.capture, run.trained).train_views
        cameras = [PathCamera(v.camera, v.world_from_cam) for v in views if v.world_from_cam is not None]
        return blended_weights(gaussians.to(run.device), cameras, run.raster, run.settings).cpu()

    def _merged(
        self, gaussians: Gaussians, surfaces: Bool[Tensor, "n"], weights: Float[Tensor, "n"]
    ) -> tuple[Gaussians, Bool[Tensor, "m"]]:
        """`max_gaussians` of these, and which are surfaces: these, and the surroundings, each to the same share."""
        assert self.max_gaussians is not None
        share = self.max_gaussians / len(gaussians)
        count = min(int(surfaces.sum()), max(1, round(share * int(surfaces.sum()))))
        parts = [merged(gaussians[surfaces], count, weights[surfaces])]
        if rest := min(self.max_gaussians - count, int((~surfaces).sum())):
            parts.append(merged(gaussians[~surfaces], rest, weights[~surfaces]))
        whole = Gaussians.cat(parts)
        return whole, torch.arange(len(whole)) < len(parts[0])

    def _as_source(self, recipe: Recipe | None) -> bool:
        """Whether coordinates are those of the input."""
        return self.frame == "source" and self.scale == 1 and recipe is None

    def _placed(self, up: Float[Tensor, "3"]) -> tuple[Similarity, Float[Tensor, "3"]]:
        """The turn and scale that --frame and --scale ask for, and where `up` is then."""
        if self.frame != "y-up":
            return _scaled(self.scale), up
        y = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        return Similarity(self.scale, rotation_between(up, y), torch.zeros(3, dtype=torch.float64)), y

    def _header(self, header: dict[str, str]) -> dict[str, str]:
        return header | {UP: "y"} if self.frame == "y-up" else header

    def _selected(self, placed: Gaussians, offset: Offset) -> Bool[Tensor, "n"]:
        """Which Gaussians remain. Raises SplatError where none does."""
        mask = torch.ones(len(placed), dtype=torch.bool)
        if self.min_opacity > 0:
            mask &= placed.opacities >= self.min_opacity
        if self.crop is not None:
            c = torch.tensor(self.crop, dtype=torch.float64)
            means = placed.means.double() + torch.tensor(offset, dtype=torch.float64)
            if len(c) == 4:
                mask &= (means - c[:3]).norm(dim=1) <= c[3]
            else:
                mask &= ((means >= c[:3]) & (means <= c[3:])).all(1)
        if not bool(mask.any()):
            raise SplatError(
                f"none of {len(mask)} Gaussians are left: widen --crop (coordinates as they are written) or lower "
                "--min-opacity."
            )
        return mask

    def _of_degree(self, gaussians: Gaussians) -> Gaussians:
        """Of the degree that is wanted."""
        wanted = self.sh_degree
        return gaussians if wanted is None else gaussians.with_sh_degree(min(wanted, gaussians.sh_degree))


def as_trained(capture: Capture, trained: Trained) -> Capture:
    """With the poses that training corrected."""
    return capture.with_views(tuple(map(trained.placed, capture.views))) if trained.poses else capture


def deliver(scene: Scene, outputs: Sequence[Path], deliverables: Sequence[Deliverable], report: Reporter) -> list[Path]:
    """Write each output; returns all files written."""
    files: list[Path] = []
    if len(scene.gaussians) == 0:
        raise SplatError(f"{shown(outputs[0])} was not written: the splat has no Gaussians; check what removed them.")
    for path, deliverable in zip(outputs, deliverables, strict=True):
        files += deliverable.write(path, scene, report)
        what = f"{len(scene.gaussians)} Gaussians{relative_to(scene.header)}"
        what = what if deliverable.holds_gaussians else deliverable.about
        print(f"{shown(path)}: {what}", file=sys.stderr)
    return files


def deliver_from(
    source: Path,
    outputs: Sequence[Path],
    shaping: Shaping,
    report: Reporter,
    clean: bool = False,
    surroundings: bool = True,
) -> list[Path]:
    """Write each output from a run folder or a splat file. Every name is judged before anything is read or written.
    `clean`: without floaters, see `stages.clean`. `surroundings`: with those of the run."""
    by_suffixes = {d.suffixes: d for d in (*DELIVERABLES, *shaping.tuned())}
    from_run = is_run(source)
    deliverables = all_chosen(outputs, from_run, source, tuple(by_suffixes.values()))
    shaping.check()
    if not source.exists():
        raise SplatError(f"{shown(source)} does not exist: give a run folder or a splat file.")
    if clean and not from_run:
        raise SplatError(f"--clean asks the photos of a run, and {shown(source)} is a splat file: give the run.")
    if not surroundings and not from_run:
        raise SplatError(f"--no-surroundings is of a run, and {shown(source)} is a splat file: give the run.")
    if not from_run:
        return deliver(shaping.of_file(source, report), outputs, deliverables, report)
    run = CompletedRun.open(source)
    if not surroundings:
        run = replace(run, trained=replace(run.trained, surroundings=None))
    if clean:
        run = clean_run(run, report)
    files = deliver(shaping.of_run(run), outputs, deliverables, report)
    note_written(source, "export", files)
    return files


def is_run(source: Path) -> bool:
    """Whether `source` is a folder of a run rather than a splat (some splats are folders)."""
    return source.is_dir() and not is_splat_folder(source)


def _edited(
    recipe: Recipe, gaussians: Gaussians, file_from_given: Similarity, seen_past: SeenPast | None = None
) -> tuple[Bool[Tensor, "n"], Similarity]:
    """Which Gaussians a recipe leaves, and the transform that its scale and ground ask for: from the frame of the file
    that it was made for to where the edited splat stands."""
    scene_from_file = recipe.scene_from_file.similarity
    mask = kept(recipe, gaussians.transformed(scene_from_file @ file_from_given), seen_past)
    return mask, placed_from_scene(recipe) @ scene_from_file


def _scaled(factor: float) -> Similarity:
    return Similarity(factor, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))


def _direction(up: Float[Tensor, "3"]) -> Direction:
    x, y, z = (float(v) for v in up)
    return (x, y, z)
