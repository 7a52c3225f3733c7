"""Which samples of surfaces become Gaussians: measured ones that no photo sees past, and guesses (completed depths)
that are in nobody's way and that other photos' guesses confirm."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import planes
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.image import read_pixels, write_png
from splat.core.slots import DepthMap
from splat.init.surface_gaussians import SurfaceSampler, SurfaceSettings
from splat.init.view_surfaces import ViewSurface

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)
SCENE = planes.PlaneScene.make()
MIDDLE = (slice(30, 90), slice(50, 110))
"""Rows and columns of a part of the photos."""


@dataclass
class Walk:
    """Photos of a wall 4 away, whose depth is measured but where the test says otherwise."""

    folder: Path
    count: int = 3
    neighbours: bool = True
    depths: dict[int, float] = field(default_factory=dict)
    """By photo: the depth measured in its middle; 0: none."""
    painted: int = -1
    """The photo whose middle somebody stands in, in white."""

    def surfaces(self) -> list[ViewSurface]:
        poses = planes.walk(self.count)
        capture = planes.capture_of(SCENE, CAMERA, poses, self.folder)
        out = []
        for i, (v, pose) in enumerate(zip(capture.views, poses, strict=True)):
            if i == self.painted:
                pixels = read_pixels(v.image_path).copy()
                pixels[MIDDLE] = 255
                write_png(v.image_path, pixels)
            depth = SCENE.depth(CAMERA, pose).float()
            confidence = torch.ones_like(depth)
            if i in self.depths:
                depth[MIDDLE] = self.depths[i]
                confidence[MIDDLE] = float(self.depths[i] > 0)
            normal = (pose.rotation.T.float() @ SCENE.normal.float()).expand(*depth.shape, 3)
            others = tuple(j for j in range(self.count) if j != i and self.neighbours)
            found = DepthMap(depth, confidence, "metric", normal, others)
            out.append(ViewSurface(v, found, (CAMERA.width, CAMERA.height)))
        return out

    def sampler(self, budget: int = 1500, **settings: float) -> SurfaceSampler:
        asked = SurfaceSettings(**{"detail": 1.0, "margin": 0.0, **settings})
        return SurfaceSampler(asked, self.surfaces(), range(self.count), budget, 0, 0)


def means(sampler: SurfaceSampler, photo: int) -> Tensor:
    """Of the Gaussians that come from a photo."""
    parts = zip(sampler.samples.means, sampler.samples.view_ids, strict=True)
    return torch.cat([m[ids == photo] for m, ids in parts])


def measured(walk: Walk, **settings: float) -> SurfaceSampler:
    sampler = walk.sampler(**settings)
    sampler.sample_measured()
    return sampler


def guessed(walk: Walk, depth: float | None = None, **settings: float) -> tuple[SurfaceSampler, int]:
    """With guesses, those of the first photo's middle at `depth`; and how many parts were sampled before them."""
    sampler = measured(walk, **settings)
    before = len(sampler.samples.gaussians)
    if depth is not None:
        sampler.completed[0].depth[MIDDLE] = depth
    sampler.sample_completed()
    return sampler, before


def test_what_other_photos_see_past_is_not_built_though_a_photo_measured_it(tmp_path: Path) -> None:
    sampler = measured(Walk(tmp_path, 4, depths={0: 2.0}))
    assert float(means(sampler, 0)[:, 2].min()) > 3.5
    two = measured(Walk(tmp_path / "two", 2, depths={0: 2.0}))
    assert float(means(two, 0)[:, 2].min()) < 2.5, "one photo against one: it stays"


def test_guesses_are_fainter_than_what_was_measured_as_the_settings_say(tmp_path: Path) -> None:
    hole = dict.fromkeys(range(3), 0.0)
    sampler, before = guessed(Walk(tmp_path, depths=hole), fill_opacity=0.37, opacity=0.9)
    guesses = sampler.samples.gaussians[before:]
    assert sum(map(len, guesses)) > 20
    assert all(torch.allclose(g.opacities, torch.tensor(0.37)) for g in guesses)
    assert all(torch.allclose(g.opacities, torch.tensor(0.9)) for g in sampler.samples.gaussians[:before])


def test_guesses_are_in_nobodys_way(tmp_path: Path) -> None:
    """Each is as far as, or farther than, whatever any photo measured in its direction."""
    hole = dict.fromkeys(range(3), 0.0)
    sampler, before = guessed(Walk(tmp_path, neighbours=False, depths=hole), depth=1.5)
    guesses = torch.cat(sampler.samples.means[before:])
    assert len(guesses) > 20
    for surface in sampler.surfaces:
        found = surface.look_up(guesses)
        assert not bool((found.known & (found.ratio > 1.06)).any())
    assert int((guesses[:, 2] < 2).sum()) < 0.5 * len(guesses)


def test_a_guess_that_other_photos_guess_differently_is_not_built(tmp_path: Path) -> None:
    hole = dict.fromkeys(range(3), 0.0)
    sampler, _ = guessed(Walk(tmp_path, depths=hole), depth=8.0)
    assert float(torch.cat(sampler.samples.means)[:, 2].max()) < 5
    alone, _ = guessed(Walk(tmp_path / "alone", neighbours=False, depths=hole), depth=8.0)
    assert float(means(alone, 0)[:, 2].max()) > 7, "without photos that could confirm it, it is"


def colours_in_the_middle(walk: Walk) -> Tensor:
    """Of the first photo's Gaussians, their distance from white."""
    sampler = walk.sampler(detail=1.0)
    sampler.sample_measured()
    parts = zip(sampler.samples.gaussians, sampler.samples.view_ids, sampler.samples.pixels, strict=True)
    out = []
    for g, ids, pixels in parts:
        x, y = pixels.unbind(1)
        inner = (x > 60) & (x < 100) & (y > 40) & (y < 80) & (ids == 0)
        out.append(g.base_rgb[inner])
    return torch.cat(out)


def test_a_colour_is_outvoted_by_two_photos_and_not_by_one(tmp_path: Path) -> None:
    for count, painted in ((2, 1), (4, 0)):
        truth = colours_in_the_middle(Walk(tmp_path / f"{count}", count))
        found = colours_in_the_middle(Walk(tmp_path / f"{count} painted", count, painted=painted))
        assert len(truth) == len(found) > 20
        assert float((truth - found).abs().mean()) < 0.03, f"{count} photos, white in photo {painted}"
    own = colours_in_the_middle(Walk(tmp_path / "own", 2, painted=0))
    assert float(own.mean()) > 0.9, "one other is not enough to outvote it"
