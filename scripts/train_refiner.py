"""Train the refiner's weights (`splat/priors/refiner/refiner.safetensors`).

    python scripts/train_refiner.py --out DIR [--dry-run] [--minutes M] [--install]

Random ray-traced scenes (`stereo_scenes.py`, numbers that nothing else uses) are reconstructed from 2 to 12 photos with
few steps, rendered between and beside the photos, and these renders paired with what a photo would have shown. Every
fifth scene is held out. The network learns from the others to correct the renders.

Resumable, scene by scene and in the middle of the fit: the same command goes on. `--minutes` ends a sitting.
`--dry-run` makes the first scene and does a hundred steps, and says how long all will take. The result is
`DIR/refiner.safetensors` and `.json`; `--install` puts both into the package, once all scenes and steps are done. Real
captures have no part in it. Seeded.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT))

from stereo_scenes import Photographed, staged  # noqa: E402

from splat.commands.reconstruct import Reconstruct  # noqa: E402
from splat.core.camera import Camera  # noqa: E402
from splat.core.errors import SplatError  # noqa: E402
from splat.core.files import atomic_path, write_json  # noqa: E402
from splat.core.gaussians import Gaussians  # noqa: E402
from splat.core.geometry import Rigid, rotation_from_axis_angle  # noqa: E402
from splat.core.slots import RasterSettings, ReferencePhoto, RefinerPair, RenderedView, Silent  # noqa: E402
from splat.export import load_splat  # noqa: E402
from splat.geometry.between import pose_between  # noqa: E402
from splat.geometry.drawing import draw_view  # noqa: E402
from splat.geometry.virtual_path import nearest_first  # noqa: E402
from splat.priors.refiner.fitting import Fit, Recipe, score  # noqa: E402
from splat.priors.refiner.inputs import CHANNELS, PHOTOS, Example, example  # noqa: E402
from splat.priors.refiner.unet import WIDTHS, seeded_net  # noqa: E402
from splat.priors.refiner.weights import FILE, save_weights  # noqa: E402
from splat.raster import choose  # noqa: E402
from splat.train.step import pooled  # noqa: E402

SCENES, FIRST_SCENE, HELD_OUT = 40, 2000, 5
WIDTH, SUPERSAMPLE = 480, 2
"""Of the photos, px, and how often more than of what the network sees: a scene drawn smaller than what it was trained
on is another one (thin Gaussians are spread over whole pixels), so it is drawn at this size, and averaged."""
PHOTO_COUNTS = (2, 3, 3, 4, 6, 8, 12)
STEPS = (150, 300, 500)
"""Of the reconstructions."""
VIEWS = 10
"""Virtual cameras for each scene."""
WORSENED = 0.3
"""Share of the renders for which Gaussians are moved and left out at random."""
MISTAKEN, POSE_ERROR = 0.5, 0.1
"""Share of the scenes whose photos have poses that are not exact, and standard deviation about each axis, degrees."""
RECIPE = Recipe(steps=6000, batch=4, crop=80, darkest=0.2, exposures=0.15, swap_channels=True)
SEED = 0
MAX_CPU_MINUTES = 180
"""90 minutes of two cores."""


@dataclass(frozen=True)
class Plan:
    """What is made of a scene, by its number alone."""

    number: int
    photos: int
    steps: int
    method: str

    @staticmethod
    def of(number: int) -> Plan:
        rng = np.random.default_rng([number, 83])
        photos = int(rng.choice(PHOTO_COUNTS))
        return Plan(number, photos, int(rng.choice(STEPS)), "coherent" if photos <= 4 else "edgs")

    @property
    def held_out(self) -> bool:
        return self.number % HELD_OUT == 0


def virtual_poses(poses: list[Rigid], rng: np.random.Generator) -> list[Rigid]:
    """Cameras between two neighbouring photos, or up to half as far beyond one of them, a little off the way."""
    centres = torch.stack([p.translation for p in poses])
    far = torch.cdist(centres, centres)
    out = []
    for _ in range(VIEWS):
        a = int(rng.integers(len(poses)))
        b = int(far[a].argsort()[1 + int(rng.integers(min(2, len(poses) - 1)))])
        t = float(rng.uniform(-0.5, 1.5) if rng.random() < 0.4 else rng.uniform(0.2, 0.8))
        way = pose_between(poses[a], poses[b], t)
        off = torch.tensor(rng.normal(size=3)) * 0.1 * float(far[a, b])
        out.append(Rigid(way.rotation, way.translation + off))
    return out


def mistaken(pose: Rigid, rng: np.random.Generator) -> Rigid:
    """A pose as photos alone give it: turned a little, so that what it shows is off by up to a pixel."""
    turn = rotation_from_axis_angle(torch.from_numpy(np.radians(POSE_ERROR) * rng.normal(size=3)))
    return Rigid(pose.rotation @ turn.to(pose.rotation), pose.translation)


def reconstructed(plan: Plan, photos: Photographed, folder: Path) -> tuple[Gaussians, Gaussians | None]:
    """The splat of some photos, in the frame of their poses, and what surrounds it."""
    (folder / "photos" / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for i, (rgb, pose) in enumerate(zip(photos.rgb, photos.poses, strict=True)):
        name = f"images/{i:02}.png"
        Image.fromarray((rgb.numpy() * 255 + 0.5).astype(np.uint8)).save(folder / "photos" / name)
        matrix = pose.matrix().numpy() @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": name, "transform_matrix": matrix.tolist()})
    c = photos.camera
    head = {"fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy, "w": c.width, "h": c.height, "camera_model": "OPENCV"}
    write_json(folder / "photos" / "transforms.json", head | {"frames": frames})
    Reconstruct(
        photos=folder / "photos", out=folder / "run", preset="fast", method=plan.method, iterations=plan.steps,
        test_every=0, renders=False, threads=1, seed=plan.number, quiet=True,
    )(Silent())  # fmt: skip
    scene = load_splat(folder / "run" / "export" / "splat.ply")
    around = json.loads((folder / "run" / "metrics.json").read_text()).get("num_surroundings") or 0
    n = len(scene) - around
    return scene[:n], scene[n:] if around else None


def drawn(gaussians: Gaussians, beyond: Gaussians | None, camera: Camera, pose: Rigid) -> RenderedView:
    """As the network sees it. `camera`: of the photos."""
    settings, background = RasterSettings(), torch.zeros(3)
    render = draw_view(gaussians, camera, pose, choose("cpu"), settings, background, beyond=beyond)
    return RenderedView.of(pooled(render, SUPERSAMPLE), small(camera), pose)


def small(camera: Camera) -> Camera:
    return camera.resized(camera.width // SUPERSAMPLE, camera.height // SUPERSAMPLE)


def averaged(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    return avg_pool2d(rgb.permute(2, 0, 1)[None], SUPERSAMPLE)[0].permute(1, 2, 0).contiguous()


def worsened(gaussians: Gaussians, generator: torch.Generator) -> Gaussians:
    """With some Gaussians left out and the others moved by a part of their size."""
    few = gaussians[(torch.rand(len(gaussians), generator=generator) > 0.1).nonzero()[:, 0]]
    size = few.log_scales.exp().mean(1, keepdim=True)
    return replace(few, means=few.means + 0.5 * size * torch.randn(few.means.shape, generator=generator))


def examples_of(plan: Plan, folder: Path) -> list[Example]:
    """Renders of a scene's virtual cameras, and the ray-traced truth."""
    rng = np.random.default_rng([plan.number, 89])
    stage = staged(FIRST_SCENE + plan.number, plan.photos, WIDTH)
    photos, truth = stage.photograph(stage.poses), stage.photograph(virtual_poses(stage.poses, rng))
    if rng.random() < MISTAKEN:
        photos = replace(photos, poses=[mistaken(p, rng) for p in photos.poses])
    camera, (splat, beyond) = photos.camera, reconstructed(plan, photos, folder)
    generator = torch.Generator().manual_seed(plan.number)
    found = []
    for i, (pose, target) in enumerate(zip(truth.poses, truth.rgb, strict=True)):
        scene = worsened(splat, generator) if rng.random() < WORSENED else splat
        known = [
            (averaged(rgb), drawn(scene, beyond, camera, p)) for rgb, p in zip(photos.rgb, photos.poses, strict=True)
        ]
        references = [
            ReferencePhoto(p.camera, p.world_from_cam, rgb, torch.where(p.alpha > 0.5, p.depth, 0)) for rgb, p in known
        ]
        nearest, name = tuple(nearest_first(pose, references)[:PHOTOS]), f"scene {plan.number} camera {i}"
        found.append(example(RefinerPair(drawn(scene, beyond, camera, pose), nearest, averaged(target), name)))
    return found


# ------------------------------------------------------------------------------------------------------------- caching


def pairs_file(plan: Plan, out: Path) -> Path:
    return out / "pairs" / f"{plan.number:03}.pt"


def made_as(plan: Plan) -> str:
    """All that the examples of a scene depend on: those made otherwise are made again."""
    numbers = FIRST_SCENE, WIDTH, SUPERSAMPLE, VIEWS, WORSENED, MISTAKEN, POSE_ERROR
    return json.dumps([asdict(plan), numbers])


def is_made(plan: Plan, out: Path) -> bool:
    file = pairs_file(plan, out)
    return file.exists() and torch.load(file, weights_only=True, mmap=True).get("made_as") == made_as(plan)


def cached(plan: Plan, out: Path) -> Path:
    """The file with the examples of a scene, made where it is missing. A scene that cannot be reconstructed has none,
    and says so."""
    file = pairs_file(plan, out)
    if is_made(plan, out):
        return file
    started = time.process_time()
    folder = out / "work"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        found = examples_of(plan, folder)
    except SplatError as e:
        print(f"scene {plan.number}: left out ({e})", flush=True)
        found = []
    rows = [{"inputs": e.inputs.half(), "target": (e.target * 255).round().byte(), "name": e.photo} for e in found]
    with atomic_path(file) as temporary:
        torch.save({"made_as": made_as(plan), "seconds": time.process_time() - started, "rows": rows}, temporary)
    shutil.rmtree(folder, ignore_errors=True)
    return file


def loaded(file: Path) -> list[Example]:
    """Inputs as float16: the fit converts what it crops."""
    rows = torch.load(file, weights_only=True)["rows"]
    return [Example(r["inputs"], r["target"].half() / 255, torch.ones(r["target"].shape[1:]), r["name"]) for r in rows]


def as_float(examples: list[Example]) -> list[Example]:
    return [replace(e, inputs=e.inputs.float(), target=e.target.float()) for e in examples]


def make_pairs(plans: list[Plan], out: Path, until: float) -> bool:
    """Whether all are there."""
    for plan in plans:
        if not is_made(plan, out):
            if time.monotonic() > until:
                return False
            started = time.monotonic()
            found = loaded(cached(plan, out))
            about = f"{plan.photos} photos, {plan.method}, {plan.steps} steps"
            psnr = score(as_float(found), None).psnr
            print(
                f"scene {plan.number}: {about}, renders {psnr:.2f} dB, {time.monotonic() - started:.0f} s", flush=True
            )
    return True


# ----------------------------------------------------------------------------------------------------------------- fit


def fitted(plans: list[Plan], out: Path, until: float) -> Fit:
    """The fit as far as it came by `until`; goes on from its checkpoint, if that is of the same recipe."""
    train = [e for p in plans if not p.held_out for e in loaded(cached(p, out))]
    fit = Fit(seeded_net(CHANNELS, WIDTHS, SEED), train, RECIPE, SEED)
    key = json.dumps([asdict(RECIPE), list(WIDTHS), SEED, [made_as(p) for p in plans]])
    file = out / "fit.pt"
    if file.exists():
        saved = torch.load(file, weights_only=True)
        if saved["key"] == key:
            fit.load_state(saved["fit"])
    losses: list[float] = []

    def keep() -> None:
        with atomic_path(file) as temporary:
            torch.save({"key": key, "fit": fit.state()}, temporary)

    while fit.step < RECIPE.steps and time.monotonic() < until:
        losses.append(fit.advance())
        if fit.step % 250 == 0 or fit.step == RECIPE.steps:
            print(f"step {fit.step} of {RECIPE.steps}: loss {sum(losses) / len(losses):.4f}", flush=True)
            losses = []
        if fit.step % 250 == 0:
            keep()
    keep()
    return fit


def figures(fit: Fit, plans: list[Plan], out: Path) -> dict[str, Any]:
    """Gains on the held-out scenes, by number of photos."""
    rows = []
    for plan in (p for p in plans if p.held_out):
        for e in as_float(loaded(cached(plan, out))):
            before, after = score([e], None), score([e], fit.net)
            rows.append((plan.photos, before.psnr, after.psnr, before.ssim, after.ssim))
    values = torch.tensor(rows, dtype=torch.float64)
    gain = values[:, 2] - values[:, 1]
    counts: list[int] = sorted({r[0] for r in rows})
    return {
        "held_out_scenes": sum(p.held_out for p in plans),
        "held_out_views": len(rows),
        "psnr_render": round(float(values[:, 1].mean()), 3),
        "psnr_refined": round(float(values[:, 2].mean()), 3),
        "gain_db": round(float(gain.mean()), 3),
        "views_better": round(float((gain > 0).double().mean()), 3),
        "worst_gain_db": round(float(gain.min()), 3),
        "ssim_render": round(float(values[:, 3].mean()), 4),
        "ssim_refined": round(float(values[:, 4].mean()), 4),
        "gain_db_by_photos": {str(n): round(float(gain[values[:, 0] == n].mean()), 3) for n in counts},
    }


def forecast(plans: list[Plan], out: Path) -> None:
    """Makes the first scenes that train, does a hundred steps, and says what all take, in minutes of one core."""
    plan = next(p for p in plans if not p.held_out)
    file = cached(plan, out)
    scene = torch.load(file, weights_only=True)["seconds"]
    fit = Fit(seeded_net(CHANNELS, WIDTHS, SEED), loaded(file), RECIPE, SEED)
    started = time.process_time()
    for _ in range(100):
        fit.advance()
    step = (time.process_time() - started) / 100
    pairs, steps = scene * len(plans) / 60, step * RECIPE.steps / 60
    print(
        f"a scene of {plan.photos} photos takes {scene:.0f} s of one core, a step {1000 * step:.0f} ms: {len(plans)} "
        f"scenes {pairs:.0f} min, {RECIPE.steps} steps {steps:.0f} min; together {pairs + steps:.0f} of at most "
        f"{MAX_CPU_MINUTES} (90 minutes of two cores)."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="pairs and checkpoints are kept here")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end this sitting after so many")
    parser.add_argument("--dry-run", action="store_true", help="say how long it will take")
    parser.add_argument("--install", action="store_true", help="put the finished weights into the package")
    a = parser.parse_args()
    torch.set_num_threads(1)
    plans, until = [Plan.of(n) for n in range(a.scenes)], time.monotonic() + 60 * a.minutes
    if a.dry_run:
        forecast(plans, a.out)
        return 0
    if not make_pairs(plans, a.out, until):
        print("to be continued: not all scenes are made")
        return 3
    fit = fitted(plans, a.out, until)
    if fit.step < RECIPE.steps:
        print(f"to be continued: {fit.step} of {RECIPE.steps} steps")
        return 3
    found = figures(fit, plans, a.out)
    print(json.dumps(found, indent=1))
    recipe = {
        "scenes": len(plans),
        "first_scene": FIRST_SCENE,
        "width_px": WIDTH,
        "supersample": SUPERSAMPLE,
        "fit": asdict(RECIPE),
    }
    file = a.out / FILE.name
    save_weights(fit.net, WIDTHS, file, seed=SEED, made_by="scripts/train_refiner.py", recipe=recipe, figures=found)
    if a.install:
        for path in (file, file.with_suffix(".json")):
            shutil.copy(path, FILE.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
