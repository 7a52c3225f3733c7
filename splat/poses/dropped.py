"""Why a photo found no place, from what was measured in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splat.core.capture import View
from splat.poses.features import PhotoFeatures


def reasons(
    views: Sequence[View],
    features: Sequence[PhotoFeatures],
    geometries: dict[tuple[int, int], Any],
    placed: set[int],
    other_models: Sequence[Sequence[int]] = (),
) -> dict[str, str]:
    """One reason for every view that is not in `placed`.

    geometries: verified pairs (i, j) of view indices, each with `inlier_matches`.
    other_models: smaller models, as lists of view indices.
    """
    counts = np.array([len(f) for f in features], dtype=float)
    sharpness = np.array([f.sharpness for f in features])
    neighbours: dict[int, dict[int, int]] = {i: {} for i in range(len(views))}
    for (i, j), geometry in geometries.items():
        neighbours[i][j] = neighbours[j][i] = len(geometry.inlier_matches)
    out = {}
    for i, view in enumerate(views):
        if i in placed:
            continue
        flaw = _flaw(i, counts, sharpness)
        near = neighbours[i]
        linked = {j: n for j, n in near.items() if j in placed}
        group = next((set(m) for m in other_models if i in m), None) or _group(i, neighbours, placed)
        if not near:
            out[view.name] = flaw or "no overlap found: it shows no points that another photo shows"
        elif not linked and len(group) > 1:
            others = ", ".join(views[j].name for j in sorted(group - {i})[:3])
            more = f" and {len(group) - 4} more" if len(group) > 4 else ""
            out[view.name] = f"forms a separate group of {len(group)} photos, with {others}{more}"
        else:
            best = max(linked or near, key=lambda j: near[j])
            told = f"too few points in common with the others (at most {near[best]}, with {views[best].name})"
            out[view.name] = f"{flaw}; {told}" if flaw else told
    return out


def _flaw(i: int, counts: np.ndarray, sharpness: np.ndarray) -> str | None:
    """What is wrong with a photo by itself, against the others."""
    if counts[i] < max(100, 0.1 * float(np.median(counts))):
        return f"little texture: {int(counts[i])} features, where the others have about {int(np.median(counts))}"
    usual = float(np.median(sharpness))
    if sharpness[i] < 0.25 * usual:
        return f"blurred: {100 * sharpness[i] / max(usual, 1e-9):.0f} % of the usual sharpness"
    return None


def _group(start: int, neighbours: dict[int, dict[int, int]], placed: set[int]) -> set[int]:
    """The photos that hang together with `start` without passing through a placed one."""
    group, stack = {start}, [start]
    while stack:
        for j in neighbours[stack.pop()]:
            if j not in group and j not in placed:
                group.add(j)
                stack.append(j)
    return group
