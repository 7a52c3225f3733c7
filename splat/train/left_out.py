"""Scenes made without some of the photos, and what they look like from there: what a refiner learns from.

After the leave-one-out training of GaussianObject (Yang et al. 2024), with a few scenes of several left-out photos each
in place of one scene per photo, and at a small size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from splat.core.geometry import Rigid
from splat.core.slots import Init, Item, Phase, ReferencePhoto, RefinerPair, Render, RenderedView, Round
from splat.geometry.virtual_path import nearest_first
from splat.train.density.pruning import without_photos
from splat.train.views import ItemSource


@dataclass(frozen=True)
class LeftOut:
    """How many scenes, and how long they are trained."""

    scenes: int = 4
    """Each leaves out every so many-th photo; fewer with fewer photos."""
    steps: float = 0.3
    """Steps of each, as a fraction of the run's."""


def left_out_photos(poses: Sequence[Rigid], scenes: int) -> list[list[int]]:
    """The photos that each scene is made without: every photo is left out of one scene, and neighbours in space of
    different ones where that can be."""
    if not poses:
        return []
    centres = torch.stack([p.translation.double() for p in poses])
    tour, rest = [0], set(range(1, len(poses)))
    while rest:
        nearest = min(rest, key=lambda i: (float((centres[i] - centres[tour[-1]]).norm()), i))
        tour.append(nearest)
        rest.remove(nearest)
    count = min(scenes, len(poses))
    return [sorted(tour[k::count]) for k in range(count)]


def refiner_pairs(
    photos: Sequence[Item],
    poses: Sequence[Rigid],
    names: Sequence[str],
    init: Init,
    phase: Phase,
    now: Round,
    settings: LeftOut,
    steps: int,
    seed: int = 0,
) -> list[RefinerPair]:
    """Renders of each photo's camera by a scene that was trained without it, beside the photo.

    `photos` at the size to train and render at, with `poses` (`world_from_cam`) and `names`; `init` and `phase`: those
    of the run, of `steps` in all. First Gaussians that come from a left-out photo are left out too. Depth maps are
    those of the run, so that a left-out photo may have had a part in the depth of the others.
    """
    assert now.train_apart is not None
    pairs, groups = [], left_out_photos(poses, settings.scenes)
    for k, held in enumerate(groups):
        kept = [i for i in range(len(photos)) if i not in held]
        if not kept:
            continue
        now.report.progress(k, len(groups), what="refiner", scene=f"without {', '.join(names[i] for i in held[:3])}")
        apart = replace(
            phase,
            steps=max(1, round(settings.steps * steps)),
            source=ItemSource([photos[i] for i in kept], seed=seed + k),
            density=without_photos(phase.density, held),
            surroundings=None if phase.surroundings is None else phase.surroundings.without_photos(held),
            parameterize=None,
            on_start=None,
            on_round=None,
            round_every=0,
            name="without photos",
        )
        draw = now.train_apart(_without(init, held), apart)
        references = [reference_of(photos[i], poses[i], draw(photos[i])) for i in kept]
        for i in held:
            view = RenderedView.of(draw(photos[i]), photos[i].camera, poses[i])
            nearest = tuple(nearest_first(poses[i], references))
            pairs.append(RefinerPair(view, nearest, photos[i].rgb.cpu().float() / 255, names[i], _counts(photos[i])))
    return pairs


def reference_of(photo: Item, world_from_cam: Rigid, render: Render) -> ReferencePhoto:
    """A photo with the depth of a render of its camera; 0 where the photo is masked or the render is not opaque."""
    view = RenderedView.of(render, photo.camera, world_from_cam)
    depth = torch.where(view.alpha > 0.5, view.depth, 0)
    counts = _counts(photo)
    if counts is not None:
        depth = depth * counts
    return ReferencePhoto(photo.camera, world_from_cam, photo.rgb.cpu().float() / 255, depth)


def _counts(photo: Item) -> Tensor | None:
    """1 where the photo says something, else 0; None: everywhere."""
    parts = [t.cpu() > 127 for t in (photo.weight, photo.alpha) if t is not None]
    return torch.stack(parts).all(0).float() if parts else None


def _without(init: Init, held: Collection[int]) -> Init:
    if init.view_ids is None:
        return init
    keep = torch.ones_like(init.view_ids, dtype=torch.bool)
    for i in held:
        keep &= init.view_ids != i
    rows = keep.nonzero()[:, 0]
    return init.rows(rows) if len(rows) else init
