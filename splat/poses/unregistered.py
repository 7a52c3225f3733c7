"""Why a photo was not registered, derived from its features and matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splat.core.capture import View
from splat.poses.features import PhotoFeatures


def unregistered_reasons(
    views: Sequence[View],
    features: Sequence[PhotoFeatures],
    geometries: dict[tuple[int, int], Any],
    registered: set[int],
    other_models: Sequence[Sequence[int]] = (),
) -> dict[str, str]:
    """One reason, by view name, for every view whose index is not in `registered`.

    geometries: verified pairs (i, j) of view indices, each with `inlier_matches`.
    other_models: the smaller models that SfM found, as lists of view indices.
    """
    counts = np.array([len(f) for f in features], dtype=float)
    sharpness = np.array([f.sharpness for f in features])
    neighbours: dict[int, dict[int, int]] = {i: {} for i in range(len(views))}
    for (i, j), geometry in geometries.items():
        neighbours[i][j] = neighbours[j][i] = len(geometry.inlier_matches)
    out = {}
    for i, view in enumerate(views):
        if i in registered:
            continue
        defect = _image_defect(i, counts, sharpness)
        near = neighbours[i]
        linked = {j: n for j, n in near.items() if j in registered}
        group = next((set(m) for m in other_models if i in m), None) or _component(i, neighbours, registered)
        if not near:
            out[view.name] = defect or "no overlap found: it shows no points that another photo shows"
        elif not linked and len(group) > 1:
            others = ", ".join(views[j].name for j in sorted(group - {i})[:3])
            more = f" and {len(group) - 4} more" if len(group) > 4 else ""
            out[view.name] = f"forms a separate group of {len(group)} photos, with {others}{more}"
        else:
            best = max(linked or near, key=lambda j: near[j])
            weak = f"too few points in common with the others (at most {near[best]}, with {views[best].name})"
            out[view.name] = f"{defect}; {weak}" if defect else weak
    return out


def _image_defect(i: int, counts: np.ndarray, sharpness: np.ndarray) -> str | None:
    """Little texture or blur of photo `i`, relative to the median of all photos."""
    if counts[i] < max(100, 0.1 * float(np.median(counts))):
        return f"little texture: {int(counts[i])} features, where the others have about {int(np.median(counts))}"
    usual = float(np.median(sharpness))
    if sharpness[i] < 0.25 * usual:
        return f"blurred: {100 * sharpness[i] / max(usual, 1e-9):.0f} % of the usual sharpness"
    return None


def _component(start: int, neighbours: dict[int, dict[int, int]], registered: set[int]) -> set[int]:
    """The connected component of `start` in the match graph without the registered photos."""
    component, stack = {start}, [start]
    while stack:
        for j in neighbours[stack.pop()]:
            if j not in component and j not in registered:
                component.add(j)
                stack.append(j)
    return component
