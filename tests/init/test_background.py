"""Background and sky: what is far is kept though matching is unsure of it, and sky lies behind everything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.geometry import Rigid
from splat.core.image import write_png
from splat.core.slots import DepthMap, Init, Priors, Reporter, Silent
from splat.geometry.surface_normals import normals_of_depth
from splat.init.background import BackgroundSurfaces, sky_mask
from splat.init.ray_surfaces import RaySurfaces

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
NEAR, FAR = planes.PlaneScene.make(0.0, 4.0), planes.PlaneScene.make(0.0, 24.0, seed=1)
POSES = [Rigid(torch.eye(3).double(), torch.tensor([0.4 * i, 0.0, 0.0]).double()) for i in range(3)]
HORIZON, SKYLINE = 45, 22
"""Rows above which the far plane, and above which the sky, is seen."""


def photo(pose: Rigid) -> Tensor:
    image = NEAR.photo(CAMERA, pose)
    image[:HORIZON] = FAR.photo(CAMERA, pose)[:HORIZON] // 2
    rows = torch.linspace(200, 235, SKYLINE)[:, None, None]
    image[:SKYLINE] = (rows * torch.tensor([0.8, 0.9, 1.0])).byte().expand(SKYLINE, 120, 3)
    return image


@dataclass(frozen=True, eq=False)
class Unsure:
    """The near plane is measured; of what is far only the depth of the far plane is guessed, and of sky a near one."""

    agreeing: bool = True
    guess: float = 24.0
    planted: bool = False

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i in range(len(capture.views)):
            depth, confidence = torch.full((90, 120), 4.0), torch.full((90, 120), 0.9)
            depth[:HORIZON] = self.guess * (1 if self.agreeing else 1.6**i)
            depth[:SKYLINE] = 5.0
            confidence[:HORIZON] = 0
            if self.planted and i == 1:
                depth[60:75, 50:70] = 1.5
            others = tuple(j for j in range(len(capture.views)) if j != i)
            maps.append(DepthMap(depth, confidence, "metric", normals_of_depth(CAMERA, depth), others))
        return maps


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder, views = tmp_path_factory.mktemp("far"), []
    for i, pose in enumerate(POSES):
        path = folder / f"{i}.png"
        write_png(path, photo(pose).numpy())
        views.append(View(path.name, path, (120, 90), CAMERA, pose))
    return Capture(tuple(views))


def made(capture: Capture, prior: Unsure, settings: RaySurfaces | None = None) -> Init:
    chosen = settings or BackgroundSurfaces()
    return replace(chosen, budget=3000, matching_size=120, margin=0.0)(capture, 1, 0, Silent(), Priors(prior))


def parts(init: Init) -> tuple[Tensor, Tensor, Tensor]:
    """Means of the Gaussians at pixels of the near plane, of the far one, and of the sky."""
    assert init.pixels is not None
    row, means = init.pixels[:, 1], init.gaussians.means
    return means[row >= HORIZON], means[(row < HORIZON) & (row >= SKYLINE + 5)], means[row < SKYLINE]


def test_far_points_are_kept_where_photos_agree_though_their_confidence_is_0(capture: Capture) -> None:
    near, far, _sky = parts(made(capture, Unsure()))
    assert len(far) > 50 and float((far[:, 2] / 24 - 1).abs().median()) < 0.02
    near, far, _ = parts(made(capture, Unsure(), replace(RaySurfaces(), fill=0.0)))
    assert len(far) == 0 < len(near), "confident depths alone lose everything that is far"


def test_a_region_that_is_far_as_a_whole_is_kept_where_photos_disagree(capture: Capture) -> None:
    _, far, _ = parts(made(capture, Unsure(agreeing=False)))
    assert len(far) > 50 and float(far[:, 2].min()) > 1.5 * 4
    _, near_guess, _ = parts(made(capture, Unsure(guess=5.0), replace(BackgroundSurfaces(), fill=0.0)))
    assert len(near_guess) == 0, "a doubtful depth that is not far stays doubtful"


def test_sky_lies_beyond_every_surface_and_outside_the_hull_of_them_all(capture: Capture) -> None:
    near, far, sky = parts(made(capture, Unsure()))
    assert len(sky) > 50
    assert float(sky[:, 2].min()) > max(float(far[:, 2].max()), float(near[:, 2].max()))
    everything = torch.cat([near, far, *(p.translation[None].float() for p in POSES)])
    middle = everything.median(0).values
    assert float((sky - middle).norm(dim=1).min()) > float((everything - middle).norm(dim=1).max())


def test_background_is_bound_to_its_pixels_and_may_hardly_slide(capture: Capture) -> None:
    init = made(capture, Unsure())
    assert init.rays is not None and init.pixels is not None
    sky = init.pixels[:, 1] < SKYLINE
    assert float(init.rays.probability[sky].min()) == 1 and float(init.rays.farthest[sky].max()) < 1.2
    free = made(capture, Unsure(), replace(BackgroundSurfaces(), along_rays=False))
    assert free.rays is None and len(free.gaussians) == len(init.gaussians)


def test_without_it_the_surfaces_are_those_of_coherent(capture: Capture) -> None:
    a = made(capture, Unsure(), replace(BackgroundSurfaces(), background=0.0))
    b = made(capture, Unsure(), RaySurfaces())
    assert all(torch.equal(x, y) for x, y in zip(vars(a.gaussians).values(), vars(b.gaussians).values(), strict=True))


def test_floaters_that_are_planted_in_one_depth_map_are_removed(capture: Capture) -> None:
    for planted in (False, True):
        init = made(capture, Unsure(planted=planted))
        z = init.gaussians.means[:, 2]
        assert int((z < 3).sum()) == 0 and int((z < 5).sum()) > 1000


def test_sky_is_bright_smooth_and_reaches_the_top() -> None:
    image = photo(POSES[0])
    mask = sky_mask(image)
    assert float(mask[: SKYLINE - 4].float().mean()) > 0.95 and not bool(mask[SKYLINE + 3 :].any())
    assert not bool(sky_mask(image.flip(0)).any()), "a bright floor is none"
    assert not bool(sky_mask(NEAR.photo(CAMERA, POSES[0])).any()), "texture is none"
    dark = image.clone()
    dark[:SKYLINE] //= 4
    assert not bool(sky_mask(dark).any())
    yellow = torch.from_numpy(np.full((60, 80, 3), (230, 200, 120), np.uint8))
    assert not bool(sky_mask(yellow).any()), "a lit wall is none"


def test_the_photo_of_a_wall_alone_has_no_background(tmp_path: Path) -> None:
    capture = planes.capture_of(NEAR, CAMERA, POSES, tmp_path)
    init = replace(BackgroundSurfaces(), budget=2000, matching_size=120)(
        capture, 1, 0, Silent(), Priors(planes.TrueDepth(NEAR))
    )
    assert float(init.gaussians.means[:, 2].max()) < 4.5
