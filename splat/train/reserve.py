"""Gaussians that wait until training finds that they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.slots import Init, Item

if TYPE_CHECKING:
    from splat.train.loop import Trainer


class Reserve:
    """A hook for rounds of a phase: of the Gaussians that an initializer made but kept back, those join at whose pixel,
    in the photo they come from, the error is largest (insertion guided by error, as ConeGS, Baranowski et al. 2025).
    Each round takes its share of the room under the cap."""

    def __init__(self, reserve: Init, items: list[Item], cap: int, rounds: int) -> None:
        """`items`: the training photos, `reserve.view_ids` their numbers. `rounds`: how many times this is called."""
        if reserve.view_ids is None:
            raise ValueError("the Gaussians in reserve must say which view they come from.")
        self.candidates, self.view_ids, self.items = reserve.gaussians, reserve.view_ids, items
        self.cap, self.rounds = cap, rounds
        self.waiting = torch.ones(len(reserve.gaussians), dtype=torch.bool)

    def __call__(self, trainer: Trainer) -> None:
        if self.rounds <= 0:
            return
        count = len(trainer.model.gaussians(trainer.step))
        take = min(max(0, self.cap - count) // self.rounds, int(self.waiting.sum()))
        self.rounds -= 1
        if take == 0:
            return
        score = torch.full((len(self.candidates),), -1.0)
        for i, item in enumerate(self.items):
            mine = (self.waiting & (self.view_ids == i)).nonzero()[:, 0]
            if len(mine):
                score[mine] = _error_at(self.candidates.means[mine], item, trainer.render(item).rgb.cpu())
        chosen = score.sort(descending=True, stable=True).indices[:take].sort().values
        chosen = chosen[self.waiting[chosen]]
        self.waiting[chosen] = False
        keep = torch.ones(count, dtype=torch.bool, device=trainer.device)
        trainer.model.edit(keep, self.candidates[chosen].to(trainer.device))

    def state(self) -> dict[str, Any]:
        return {"waiting": self.waiting, "rounds": self.rounds}

    def load_state(self, state: dict[str, Any]) -> None:
        self.waiting, self.rounds = state["waiting"], int(state["rounds"])


def _error_at(
    points: Float[Tensor, "m 3"], item: Item, drawn: Float[Tensor, "h w 3"], window: int = 3
) -> Float[Tensor, "m"]:
    """Mean absolute error of the photo around where points fall; 0 outside of it and where it is masked."""
    photo = item.rgb.cpu().float() / 255
    error = (drawn.clamp(0, 1) - photo).abs().mean(2)
    for mask in (item.weight, item.alpha):
        if mask is not None:
            error = error * (mask.cpu() > 127)
    error = torch.nn.functional.avg_pool2d(error[None, None], window, 1, window // 2)[0, 0]
    pose = item.cam_from_world.cpu().to(points)
    inside = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = item.camera.project(inside)
    column, row = (t.nan_to_num().clamp(0, n - 1).long() for t, n in zip(pixels.unbind(1), error.shape[::-1]))
    return torch.where((inside[:, 2] > 0) & item.camera.contains(pixels), error[row, column], 0)
