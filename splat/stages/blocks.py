"""A posed capture in blocks: which there are and what each takes, what each is made from, and one scene of them all."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.capture import Capture, Tracks
from splat.core.errors import SplatError
from splat.core.files import write_errors
from splat.core.foreign import read_json
from splat.core.gaussians import SH_C0, Gaussians
from splat.core.geometry import Rigid, Similarity
from splat.core.slots import Method
from splat.geometry.blocks import (
    Observed,
    Partition,
    balanced_partition,
    common_gains,
    points_of_block,
    views_of_blocks,
)
from splat.geometry.reproject import project_points
from splat.poses.upright import WORLD_UP
from splat.run.capture_io import read_capture, save_capture
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.run.outputs import content_hash
from splat.run.trained import Trained, load_trained, save_trained
from splat.stages.context import Context
from splat.stages.forecast import Choices, Limits, expect
from splat.train.views import scene_extent

MAX_BLOCKS = 4096
MIN_POINTS = 100
"""Of a block's core."""
_PROJECTED_POINTS = 50_000
"""Of points whose observations are not known; so many are projected."""


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a capture that is reconstructed by itself."""

    number: int
    views: tuple[int, ...]
    """Rows of `Capture.views`; training photos alone."""
    points: Int[Tensor, "p"]
    """Rows of `Capture.points` that it starts from."""
    core_points: int
    """How many of them it owns."""
    cap: int
    """Most Gaussians that it may train."""
    memory: float
    """Expected peak of its process, bytes."""
    minutes: float
    """Expected, on as many cores as it was planned for."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """A capture in blocks."""

    cells: Partition
    blocks: tuple[Block, ...]
    views: int
    """Training photos of the whole."""
    points: int

    @property
    def peak(self) -> float:
        """Memory of the largest block, bytes."""
        return max(b.memory for b in self.blocks)

    def hours(self, workers: int) -> float:
        """Of all blocks on so many workers, the longest first."""
        ends = [0.0] * max(1, workers)
        for minutes in sorted((b.minutes for b in self.blocks), reverse=True):
            ends[ends.index(min(ends))] += minutes
        return max(ends) / 60


@dataclass(frozen=True, eq=False)
class Demands:
    """What decides how much a block takes."""

    limits: Limits
    method: Method
    cap: int | None
    """Most Gaussians of the whole; None: each block's own."""
    cores: int
    """Of one block."""
    matching_size: int = 0


def observed(capture: Capture) -> Observed:
    """What the training views see, in the capture's frame. Where nobody says which view observed which point, points
    count as seen by all views whose frame they are in.

    Raises SplatError without points.
    """
    if capture.points is None or len(capture.points) < MIN_POINTS:
        raise SplatError(
            f"a capture is divided by its sparse points, and it has {len(capture.points or ())}: leave --blocks out, "
            "or give poses with points (--known.triangulate finds them)."
        )
    positions, centres = capture.points.positions.double(), capture.camera_centres().double()
    t = capture.tracks
    if t is not None and len(t.view_ids) >= len(positions):
        return Observed(positions, t.view_ids.long(), t.point_ids.long(), centres)
    some = torch.linspace(0, len(positions) - 1, min(len(positions), _PROJECTED_POINTS)).round().long()
    views, points = list[Tensor](), list[Tensor]()
    for i, v in enumerate(capture.views):
        rows = some[project_points(v.camera, v.pose, positions[some]).in_frame]
        views.append(torch.full((len(rows),), i))
        points.append(rows)
    return Observed(positions, torch.cat(views), torch.cat(points), centres)


def divide(posed: Capture, count: int, demands: Demands, overlap: float) -> Blocks:
    """`count` blocks of a capture that the poses stage normalized.

    Raises SplatError where it has too few points for that.
    """
    ids = torch.tensor([i for i, v in enumerate(posed.views) if v.role == "train"])
    train = posed.training()
    seen = observed(train)
    weights = torch.bincount(seen.point_ids, minlength=len(seen.positions)).double().clamp_min(1)
    if len(seen.positions) < MIN_POINTS * count or count > MAX_BLOCKS:
        raise SplatError(
            f"--blocks {count} is too many for {len(seen.positions)} sparse points: give at most "
            f"{min(MAX_BLOCKS, len(seen.positions) // MIN_POINTS)}."
        )
    try:
        cells = balanced_partition(seen.positions, weights, torch.tensor(WORLD_UP), count, overlap)
    except ValueError:
        raise SplatError(f"--blocks {count}: the sparse points lie in too few places; give fewer blocks.") from None
    chosen = views_of_blocks(cells, seen)
    owner = cells.owner(seen.positions)
    limits, bare = demands.limits, replace(train, tracks=None)
    found = []
    for k in range(count):
        if int(chosen[k].sum()) < 2:
            raise SplatError(f"--blocks {count}: block {k} would have fewer than 2 photos; give fewer blocks.")
        points = points_of_block(cells, k, seen, chosen[k])
        share = float(cells.inside(k, seen.positions).double().mean())
        own = limits if demands.cap is None else replace(limits, cap=max(1, math.ceil(share * demands.cap)))
        cap, memory, minutes = _costs(bare.select(chosen[k].tolist()), own, demands)
        views = tuple(ids[chosen[k]].tolist())
        found.append(Block(k, views, points.nonzero()[:, 0], int((owner == k).sum()), cap, memory, minutes))
    return Blocks(cells, tuple(found), len(train.views), len(seen.positions))


def _costs(photos: Capture, limits: Limits, demands: Demands) -> tuple[int, float, float]:
    """Most Gaussians, expected peak in bytes and minutes of a run of these photos, whose poses and points are known."""
    choices = Choices(matching_size=demands.matching_size, renders=False)
    found = expect(photos, limits, demands.method, choices, budget=None, threads=demands.cores)
    return found.fit.cap, found.memory.peak, found.minutes


def divide_to_fit(posed: Capture, demands: Demands, overlap: float, gigabytes: float, workers: int) -> Blocks | None:
    """As few blocks as fit into so much memory each; None where the whole does. If there are several, at least one for
    each worker. Raises SplatError where no number of blocks fits."""
    train = posed.training()
    limits = demands.limits if demands.cap is None else replace(demands.limits, cap=demands.cap)
    if _costs(train, limits, demands)[1] <= 1e9 * gigabytes:
        return None
    points = 0 if posed.points is None else len(posed.points)
    count, largest = max(2, workers), min(MAX_BLOCKS, max(2, points // MIN_POINTS), max(2, len(train.views) // 2))
    count = min(count, largest)
    while (found := divide(posed, count, demands, overlap)).peak > 1e9 * gigabytes:
        if count == largest:
            raise SplatError(
                f"no division into blocks fits into {gigabytes:.2f} GB: {count} blocks still take up to "
                f"{found.peak / 1e9:.2f} GB each. Raise --memory, or lower --max-resolution or --cap."
            )
        count = min(largest, max(count + 1, math.ceil(count * min(2.0, found.peak / 1e9 / gigabytes))))
    return found


# ------------------------------------------------------------------------------------------------ what a block is given


def block_capture(posed: Capture, block: Block) -> Capture:
    """The photos of a block with their poses, its points, and who observed them; in the frame of the whole."""
    chosen = set(block.views)
    part = posed.select([i in chosen for i in range(len(posed.views))])
    assert posed.points is not None
    row = torch.full((len(posed.points),), -1)
    row[block.points] = torch.arange(len(block.points))
    tracks = part.tracks
    if tracks is not None:
        ids = row[tracks.point_ids.long()]
        tracks = Tracks(tracks.view_ids[ids >= 0], ids[ids >= 0], tracks.pixels[ids >= 0])
    return replace(part, points=posed.points[block.points], tracks=tracks)


def write_block(folder: Path, capture: Capture) -> str:
    """Write a capture that `splat reconstruct FOLDER` goes on from, with links to its photos and masks, so that the
    folder can be taken to another machine. Returns a hash of it; the same capture has the same anywhere."""
    kept = set[Path]()
    views = []
    for i, v in enumerate(capture.views):
        photo = _linked(v.image_path, folder / "photos" / f"{i:05d}{v.image_path.suffix}", kept)
        mask = v.mask_path and _linked(v.mask_path, folder / "masks" / f"{i:05d}{v.mask_path.suffix}", kept)
        views.append(replace(v, image_path=photo, mask_path=mask, cached=None))
    for sub in ("photos", "masks"):
        with suppress(OSError):
            for file in (folder / sub).iterdir():
                if file not in kept:
                    file.unlink()
    save_capture(folder, capture.with_views(tuple(views)), folder)
    about = read_json(folder / "views.json")
    for row in about["views"]:
        for what in ("photo", "mask"):
            row[what] = row[what] and row[what]["fingerprint"]
    points = folder / "points.npz"
    return hash_of(about, content_hash(points) if points.is_file() else "")


def _linked(file: Path, link: Path, kept: set[Path]) -> Path:
    """`link`, made to be `file`: a hard link where the file system can, else a copy."""
    kept.add(link)
    with write_errors(link):
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.exists() and link.samefile(file):
            return link
        link.unlink(missing_ok=True)
        try:
            os.link(file.resolve(), link)
        except OSError:
            shutil.copyfile(file, link)
    return link


# ----------------------------------------------------------------------------------------------------- one scene of all


def merge(c: Context, posed: Capture, cells: Partition, folders: Sequence[Path]) -> Trained:
    """The scene of all blocks in the frame of the whole: of each block the Gaussians whose centres lie in its core,
    their colours as bright as those of the others. It takes the place of the train stage.

    `folders`: run folders of the blocks, in order.
    """
    c.report.begin("train")
    results = [content_hash(f / "train" / "gaussians.npz") for f in folders]
    learned = [content_hash(f / "train" / "trained.json") for f in folders]
    edges = cells.axes.tolist(), cells.low.tolist(), cells.high.tolist()
    key = hash_of("blocks", c.run.identity("poses"), results, learned, repr(edges))

    def make(folder: Path) -> Trained:
        parts = [_owned(posed, cells, k, f) for k, f in enumerate(folders)]
        gains = common_gains([_gains(p.trained) for p in parts])
        trained = _joined(posed, parts, gains)
        save_trained(folder, trained)
        counts = ", ".join(f"{len(p.trained.gaussians)} of {p.trained_count}" for p in parts)
        c.report.info(f"Gaussians that each block owns, of those it trained: {counts}")
        spread = float((gains.max(0).values / gains.min(0).values).max()) - 1
        if spread > 0.001:
            c.report.info(f"blocks differed in brightness by up to {100 * spread:.1f} %: all were made as bright")
        return trained

    finite = (torch.nan_to_num(t, posinf=1e300, neginf=-1e300).tolist() for t in (cells.low, cells.high))  # for JSON
    about = dict(zip(("axes", "low", "high"), (cells.axes.tolist(), *finite), strict=True))
    trained = c.run.stage("train", key, about, make, load_trained, code=code_hash("splat.stages.blocks"))
    c.report.info(f"{len(trained.gaussians)} Gaussians of {len(cells)} blocks")
    return trained


@dataclass(frozen=True, eq=False)
class _Part:
    """What the whole takes from a block, in the frame of the whole."""

    trained: Trained
    trained_count: int
    """Gaussians that the block trained."""
    distance: dict[str, float]
    """How far each of its cameras is from the middle of what it owns."""


def _owned(posed: Capture, cells: Partition, k: int, folder: Path) -> _Part:
    trained = load_trained(folder / "train")
    block, _ = read_capture(folder / "poses")
    whole_from_block = posed.world_from_source @ block.world_from_source.inverse()
    gaussians = trained.gaussians.transformed(whole_from_block)
    owned: Bool[Tensor, "n"] = cells.owner(gaussians.means) == k
    gaussians = gaussians[owned]
    poses = {n: _moved(pose, whole_from_block) for n, pose in trained.poses.items()}
    middle = gaussians.means.double().median(0).values if len(gaussians) else torch.zeros(3, dtype=torch.float64)
    centres = {v.name: v.pose.translation for v in posed.views if v.name in trained.exposures or v.name in poses}
    distance = {n: float((at - middle).norm()) for n, at in centres.items()}
    return _Part(replace(trained, gaussians=gaussians, poses=poses), len(owned), distance)


def _moved(cam_from_block: Float[Tensor, "4 4"], whole_from_block: Similarity) -> Float[Tensor, "4 4"]:
    pose = whole_from_block.apply_pose(Rigid.from_matrix(cam_from_block.double()).inverse())
    return pose.inverse().matrix().to(cam_from_block)


def _gains(trained: Trained) -> dict[str, Float[Tensor, "3"]]:
    """By how much each photo is brighter than the block's Gaussians, at mid grey."""
    return {n: ((e[:, :3].sum(1) * 0.5 + e[:, 3]) / 0.5) for n, e in trained.exposures.items()}


def _joined(posed: Capture, parts: Sequence[_Part], gains: Float[Tensor, "b 3"]) -> Trained:
    degree = max(p.trained.gaussians.sh_degree for p in parts)
    scene, exposures, poses = list[Gaussians](), dict[str, Tensor](), dict[str, Tensor]()
    nearest = dict[str, float]()
    for p, gain in zip(parts, gains, strict=True):
        scene.append(_brightened(p.trained.gaussians.with_sh_degree(degree), gain))
        for name, distance in p.distance.items():  # of the blocks that know a photo, the nearest
            if distance < nearest.get(name, math.inf):
                nearest[name] = distance
                if name in p.trained.exposures:
                    e = p.trained.exposures[name].clone()
                    e[:, :3] /= gain.to(e)[None]  # it maps what is brighter now
                    exposures[name] = e
                if name in p.trained.poses:
                    poses[name] = p.trained.poses[name]
    points = posed.points
    extent = scene_extent(posed.train_views, None if points is None else points.positions)
    first = parts[0].trained
    steps = sum(p.trained.steps for p in parts)
    return Trained(Gaussians.cat(scene), exposures, poses, first.background, extent, steps, [])


def _brightened(g: Gaussians, gain: Float[Tensor, "3"]) -> Gaussians:
    """Colours times a gain per channel."""
    gain = gain.to(g.sh)
    sh = g.sh * gain
    sh[:, 0] += 0.5 * (gain - 1) / SH_C0  # colour = 0.5 + SH_C0 dc + ...
    return replace(g, sh=sh)


def describe(plan: Blocks, workers: int, cap_of_all: int | None) -> list[str]:
    """Sentences that say what a division into blocks takes: tasks, memory, hours."""
    b = plan.blocks
    photos, gaussians = [len(x.views) for x in b], sum(x.cap for x in b)
    each = f"{min(photos)} to {max(photos)} photos" if min(photos) < max(photos) else f"{photos[0]} photos"
    whole = f" for {cap_of_all:,} in the whole" if cap_of_all is not None else ""
    minutes = [x.minutes for x in b]
    return [
        f"{len(b)} blocks of {each} ({sum(photos) / plan.views:.2f} times the {plan.views} there are), up to "
        f"{gaussians:,} Gaussians{whole}",
        f"memory: up to {plan.peak / 1e9:.2f} GB for a block, {min(len(b), workers) * plan.peak / 1e9:.1f} GB for "
        f"{min(len(b), workers)} at a time",
        f"time: {min(minutes):.0f} to {max(minutes):.0f} min for a block, {sum(minutes) / 60:.1f} h in all, "
        f"{plan.hours(workers):.1f} h on {workers} workers",
    ]
