"""Training of the network on examples: random crops, flips and colours; L1, SSIM and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss

from splat.core.metrics import psnr, ssim, ssim_map
from splat.priors.refiner.inputs import COLOURS, DIFFERENCES, PHOTO_MASKS, Example, informed
from splat.priors.refiner.unet import ERROR_UNIT, RefinerNet

DSSIM_WEIGHT = 0.2
GRADIENT_WEIGHT = 1.0
CONFIDENCE_WEIGHT = 0.1
"""Of the likelihood of the expected error. The error in it is not differentiated: colours are not fitted to it."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, the rate falling to 0 as a cosine."""

    steps: int = 300
    batch: int = 4
    crop: int = 80
    """Side of the crops, px; a smaller image is taken whole."""
    rate: float = 1e-3
    weight_decay: float = 1e-4
    jitter: float = 0.15
    """Largest relative change of each channel's gain, on render, photos and target alike."""
    darkest: float = 1.0
    """Least gain of all channels together: scenes are made as dark as that. 1: none."""
    exposures: float = 0.0
    """Largest relative difference of the exposures of warped photos from that of the render."""
    swap_channels: bool = False
    """Put red, green and blue in any sequence, alike everywhere."""


class Fit:
    """A network being trained. Stepwise, so that a long fit can be interrupted: `state` has all that `load_state`
    needs to go on bit for bit."""

    def __init__(self, net: RefinerNet, examples: Sequence[Example], recipe: Recipe, seed: int) -> None:
        self.net, self.examples, self.recipe = net, examples, recipe
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0
        self.optimizer = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, max(1, recipe.steps))

    def advance(self) -> float:
        """One step; returns the loss."""
        inputs, target, weight = self._batch()
        correction, log_error = self.net(inputs)
        part = informed(inputs)
        loss = objective(inputs[:, :3] + 0.5, correction * part[:, None], log_error, target, weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return float(loss.detach())

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        side = min(self.recipe.crop, *(n for e in self.examples for n in e.target.shape[1:]))
        crops = [self._crop(self.examples[self._below(len(self.examples))], side) for _ in range(self.recipe.batch)]
        inputs, target, weight = (torch.stack(t) for t in zip(*crops, strict=True))
        return inputs, target, weight

    def _crop(self, e: Example, side: int) -> tuple[Tensor, Tensor, Tensor]:
        h, w = e.target.shape[1:]
        y, x = self._below(h - side + 1), self._below(w - side + 1)
        box = (..., slice(y, y + side), slice(x, x + side))
        inputs, target, weight = (t[box].to(torch.float32, copy=True) for t in (e.inputs, e.target, e.weight))
        inputs, target = self._recoloured(inputs, target)
        if self._below(2):
            inputs, target, weight = (t.flip(-1) for t in (inputs, target, weight))
        if self._below(2):
            inputs, target, weight = (t.flip(-2) for t in (inputs, target, weight))
        return inputs, target, weight

    def _recoloured(self, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        r = self.recipe
        gain = 1 + r.jitter * (2 * torch.rand(3, 1, 1, generator=self.generator) - 1)
        if r.darkest < 1:
            gain = gain * r.darkest ** float(torch.rand(1, generator=self.generator))
        colours, differences = list(COLOURS), list(DIFFERENCES)
        inputs[colours] = (inputs[colours] + 0.5) * gain - 0.5
        inputs[differences] *= gain.repeat(len(differences) // 3, 1, 1)
        target = target * gain
        if r.exposures > 0:
            for k, mask in enumerate(PHOTO_MASKS):
                other = 1 + r.exposures * float(2 * torch.rand(1, generator=self.generator) - 1)
                part, render = differences[3 * k : 3 * k + 3], inputs[colours] + 0.5
                inputs[part] = ((inputs[part] + render) * other - render) * inputs[mask]
        if r.swap_channels:
            swap = torch.randperm(3, generator=self.generator)
            for part in (colours, *(differences[k : k + 3] for k in range(0, len(differences), 3))):
                inputs[part] = inputs[part][swap]
            target = target[swap]
        return inputs, target

    def _below(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.generator))

    def state(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"net": self.net, "optimizer": self.optimizer, "schedule": self.schedule}
        return {n: p.state_dict() for n, p in parts.items()} | {
            "generator": self.generator.get_state(),
            "step": self.step,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.step = int(state["step"])


def objective(
    render: Float[Tensor, "b 3 h w"],
    correction: Float[Tensor, "b 3 h w"],
    log_error: Float[Tensor, "b h w"],
    target: Float[Tensor, "b 3 h w"],
    weight: Float[Tensor, "b h w"],
) -> Float[Tensor, ""]:
    """L1 + 0.2 (1 - SSIM) + L1 of the gradients, and the likelihood of the expected error. Pixels of weight 0 are the
    target's own, so that they do not count."""
    refined = torch.where(weight[:, None] > 0, render + correction, target)
    as_rows = [t.permute(2, 3, 0, 1).flatten(2) for t in (refined, target)]
    value = l1_loss(refined, target) + DSSIM_WEIGHT * (1 - ssim_map(*as_rows).mean())
    for axis in (-1, -2):
        value = value + GRADIENT_WEIGHT * l1_loss(refined.diff(dim=axis), target.diff(dim=axis))
    error = (refined - target).detach().abs().mean(1) / ERROR_UNIT
    return value + CONFIDENCE_WEIGHT * ((error * torch.exp(-log_error) + log_error) * weight).mean()


def refined_colours(net: RefinerNet, inputs: Float[Tensor, "c h w"]) -> tuple[Tensor, Tensor]:
    """The correction [3 h w] and the expected error [h w] in values of [0, 1], without gradient."""
    with torch.no_grad():
        correction, log_error = net(inputs[None])
    return correction[0] * informed(inputs), ERROR_UNIT * torch.exp(log_error[0])


@dataclass(frozen=True)
class Score:
    """Of refined examples against their targets."""

    psnr: float
    """Means over the examples; dB."""
    ssim: float

    def beats(self, other: Score, min_gain: float) -> bool:
        """Better in PSNR by at least `min_gain` dB, and not worse in SSIM: what only blurs does not count."""
        return self.psnr >= other.psnr + min_gain and self.ssim >= other.ssim


def score(examples: Sequence[Example], net: RefinerNet | None) -> Score:
    """Of a network; None: of the renders as they are."""
    values, similar = [], []
    for e in examples:
        image = e.render if net is None else e.render + refined_colours(net, e.inputs)[0]
        image = torch.where(e.weight > 0, image.clamp(0, 1), e.target)
        mask = e.weight > 0
        if not bool(mask.any()):
            continue
        values.append(min(60.0, psnr(image.permute(1, 2, 0), e.target.permute(1, 2, 0), mask)))
        similar.append(ssim(image.permute(1, 2, 0), e.target.permute(1, 2, 0)))
    count = max(1, len(values))
    return Score(sum(values) / count, sum(similar) / count)


def steps_of(fit: Fit, check: Callable[[int], None], every: int) -> Iterator[float]:
    """The losses of the remaining steps; `check` is called with the number of steps done after each `every` and after
    the last."""
    while fit.step < fit.recipe.steps:
        yield fit.advance()
        if fit.step % every == 0 or fit.step == fit.recipe.steps:
            check(fit.step)
