"""What training leaves behind, in memory and inside a run folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import View
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.gaussians import Gaussians, with_surroundings
from splat.core.geometry import Rigid
from splat.run.arrays_io import load_gaussians, save_gaussians


@dataclass(frozen=True, eq=False)
class Trained:
    """What the train stage leaves behind, in the normalized frame."""

    gaussians: Gaussians
    exposures: dict[str, Float[Tensor, "3 4"]]
    """Colour map learned for each training photo, by name; their mean is the identity."""
    poses: dict[str, Float[Tensor, "4 4"]]
    """cam_from_world of each training photo as training left it (only where poses were learned)."""
    background: Float[Tensor, "3"]
    scene_extent: float
    steps: int
    """With one photo each; what several processes did in one counts as several."""
    history: list[dict[str, Any]]
    displacement: float | None = None
    """How far the median Gaussian is from where the first of its ancestors started, over the scene's extent; only where
    `evaluate_at` asked."""
    surroundings: Gaussians | None = None
    """What is behind everything, of SH degree 0: drawn and delivered with the scene, but no surface of it."""

    @property
    def scene(self) -> Gaussians:
        """All that is drawn: the surroundings last."""
        return with_surroundings(self.gaussians, self.surroundings)

    def placed(self, view: View) -> View:
        """The view with the pose that training corrected."""
        pose = self.poses.get(view.name)
        return view if pose is None else replace(view, world_from_cam=Rigid.from_matrix(pose).inverse())

    @property
    def timeline(self) -> list[dict[str, Any]]:
        """Held-out figures at the steps of `evaluate_at`, with seconds of training and Gaussians."""
        return [
            {"step": line["step"], **line["evaluation"], "gaussians": line["gaussians"], "seconds": line["seconds"]}
            for line in self.history
            if "evaluation" in line
        ]


def save_trained(folder: Path, trained: Trained) -> None:
    save_gaussians(folder / "gaussians.npz", trained.gaussians)
    if trained.surroundings is not None:
        save_gaussians(folder / "surroundings.npz", trained.surroundings)
    write_json(
        folder / "trained.json",
        {
            "exposures": {n: e.tolist() for n, e in trained.exposures.items()},
            "poses": {n: p.tolist() for n, p in trained.poses.items()},
            "background": trained.background.tolist(),
            "scene_extent": trained.scene_extent,
            "steps": trained.steps,
            "displacement": trained.displacement,
            "history": trained.history,
        },
    )


def load_trained(folder: Path) -> Trained:
    saved = read_json(folder / "trained.json")
    around = folder / "surroundings.npz"
    return Trained(
        gaussians=load_gaussians(folder / "gaussians.npz"),
        exposures={n: torch.tensor(e) for n, e in saved["exposures"].items()},
        poses={n: torch.tensor(p) for n, p in saved["poses"].items()},
        background=torch.tensor(saved["background"]),
        scene_extent=saved["scene_extent"],
        steps=saved["steps"],
        history=saved["history"],
        surroundings=load_gaussians(around) if around.exists() else None,
        displacement=saved.get("displacement"),
    )
