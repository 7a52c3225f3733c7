"""What a city takes in blocks, computed from numbers alone: tasks, memory, hours. Nothing is read and nothing is run.

    python scripts/plan_city.py [--photos 10000] [--width 1600 --height 1067] [--gaussians 100000000] [--workers 64]
                                [--memory 16] [--cores 8] [--preset quality] [--method points] [--blocks auto]

Photos of a flight with one camera down and four oblique ones are laid over a square with as many sparse points as
structure from motion would find, and divided as `splat reconstruct --blocks` divides a capture; of a capture whose
poses are known `splat reconstruct DATA --blocks auto --dry-run` computes the same. Memory and minutes are the forecasts
of `stages.forecast`, of the CPU; poses are one task, from pairs of the index.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from splat.core.camera import Camera  # noqa: E402
from splat.core.capture import Capture, PointCloud, Tracks, View  # noqa: E402
from splat.core.errors import SplatError  # noqa: E402
from splat.core.geometry import Rigid  # noqa: E402
from splat.geometry.blocks import OVERLAP  # noqa: E402
from splat.geometry.reproject import project_points  # noqa: E402
from splat.methods import METHODS  # noqa: E402
from splat.methods.presets import PRESETS  # noqa: E402
from splat.stages.blocks import Blocks, Demands, describe, divide, divide_to_fit  # noqa: E402
from splat.stages.forecast import Choices, Limits, expect  # noqa: E402

HEIGHT = 1.0
"""Of the flight; all lengths are in its units."""
SPACING = 0.25
"""Between stops of the flight, each of five photos."""
POINTS_PER_PHOTO = 5
"""Sparse points for each photo: enough to say who sees what; structure from motion finds far more."""
OBLIQUE = 0.8
"""Radians from straight down."""


@dataclass(frozen=True)
class City:
    photos: int
    width: int
    height: int

    def capture(self) -> Capture:
        """The photos with poses, points on the ground, and who sees which (-y is up)."""
        camera = Camera(0.9 * self.width, 0.9 * self.width, self.width / 2, self.height / 2, self.width, self.height)
        side = math.ceil(math.sqrt(self.photos / 5))
        generator = torch.Generator().manual_seed(0)
        count = POINTS_PER_PHOTO * self.photos
        positions = torch.rand(count, 3, generator=generator, dtype=torch.float64) * (side * SPACING)
        positions[:, 1] = 0.15 * HEIGHT * torch.rand(count, generator=generator, dtype=torch.float64) ** 4
        cell = max(1, math.ceil(2.5 * HEIGHT / SPACING))
        column, row = (positions[:, i].div(SPACING).long().clamp(0, side - 1) for i in (0, 2))
        by_place = torch.argsort(row * side + column)
        starts = torch.searchsorted((row * side + column)[by_place], torch.arange(side * side + 1))
        views, view_ids, point_ids = list[View](), list[torch.Tensor](), list[torch.Tensor]()
        for i in range(self.photos):
            stop, which = divmod(i, 5)
            z, x = divmod(stop, side)
            pose = _looking((x + 0.5) * SPACING, (z + 0.5) * SPACING, which)
            rows = range(max(0, z - cell), min(side, z + cell + 1))
            left, right = max(0, x - cell), min(side, x + cell + 1)
            near = torch.cat([by_place[starts[r * side + left] : starts[r * side + right]] for r in rows])
            seen = near[project_points(camera, pose, positions[near]).in_frame]
            name = f"{i:05d}.jpg"
            views.append(View(name, Path(name), (self.width, self.height), camera, pose, focal_from="file"))
            view_ids.append(torch.full((len(seen),), i))
            point_ids.append(seen)
        ids, points = torch.cat(view_ids), torch.cat(point_ids)
        tracks = Tracks(ids, points, torch.zeros(len(ids), 2))
        cloud = PointCloud(positions.float(), torch.full((count, 3), 0.5))
        return Capture(tuple(views), cloud, tracks, source="colmap")


def _looking(x: float, z: float, which: int) -> Rigid:
    """Straight down, or a little to one of four sides."""
    eye = torch.tensor([x, -HEIGHT, z], dtype=torch.float64)
    aside = math.tan(OBLIQUE) * HEIGHT
    sides = ((0.0, 1e-3), (aside, 0.0), (-aside, 0.0), (0.0, aside), (0.0, -aside))
    target = eye + torch.tensor([sides[which][0], HEIGHT, sides[which][1]], dtype=torch.float64)
    return Rigid.look_at(eye, target, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64))


def plan(city: City, args: argparse.Namespace) -> tuple[Blocks | None, list[str]]:
    """The division, None where the whole fits, and what to say of it."""
    preset, method = PRESETS[args.preset], METHODS[args.method]()
    limits = Limits(args.preset, preset.iterations, preset.max_resolution, memory=args.memory, threads=args.cores)
    demands = Demands(limits, method, args.gaussians, args.cores)
    capture = city.capture()
    if args.blocks == "auto":
        found = divide_to_fit(capture, demands, args.overlap, args.memory, args.workers)
    else:
        found = divide(capture, int(args.blocks), demands, args.overlap)
    unposed = Capture(tuple(View(v.name, v.image_path, v.photo_size, v.camera) for v in capture.views))
    poses = expect(unposed, limits, method, Choices(), budget=args.memory, threads=args.cores).seconds["poses"] / 3600
    lines = [f"{city.photos:,} photos of {city.width} x {city.height}, preset {args.preset}, method {args.method}"]
    lines.append(f"poses: 1 task, about {poses:.1f} h on {args.cores} cores")
    if found is None:
        return None, [*lines, f"the whole fits into {args.memory} GB: one block"]
    merged = args.gaussians or sum(b.cap for b in found.blocks)
    lines += describe(found, args.workers, args.gaussians)
    # parameters at degree 3 are 59 floats; the scene, a copy in its frame, and what is drawn or written of it
    lines.append(f"merging: 1 task, about {3 * 236 * merged / 1e9:.0f} GB for {merged:,} Gaussians in the whole")
    lines.append(f"all: {len(found.blocks) + 2} tasks, {poses + found.hours(args.workers):.1f} h")
    return found, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=1067)
    parser.add_argument("--gaussians", type=int, default=100_000_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--memory", type=float, default=16.0, help="GB of a worker")
    parser.add_argument("--cores", type=int, default=8, help="of a worker")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="quality")
    parser.add_argument("--method", choices=tuple(METHODS), default="points")
    parser.add_argument("--blocks", default="auto")
    parser.add_argument("--overlap", type=float, default=OVERLAP)
    args = parser.parse_args()
    try:
        _, lines = plan(City(args.photos, args.width, args.height), args)
    except SplatError as e:
        print(f"plan_city: {e}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
