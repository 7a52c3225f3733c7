"""A refiner that learns from the scene's own photos which mistakes its renders make."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from splat.core import licences
from splat.core.slots import ReferencePhoto, RefinedView, RefinerPair, RenderedView, Reporter, Silent
from splat.priors.refiner.fitting import Fit, Recipe, Score, refined_colours, score, steps_of
from splat.priors.refiner.inputs import CHANNELS, Example, channels, example, informed
from splat.priors.refiner.unet import WIDTHS, RefinerNet, seeded_net
from splat.priors.refiner.weights import LICENCE, load_weights

_CHECKS = 8
"""Times during a fit that the photo is looked at that chooses the weights."""
_MIN_CORRELATION = 0.3
_TWO_HELD_OUT = 4
"""Photos from which one more is spared to choose the weights."""


@dataclass(frozen=True)
class SceneRefiner:
    """Settings. `start()` gives the `slots.ViewRefiner`."""

    recipe: Recipe = field(default_factory=Recipe)
    """How it is fitted to a scene; its steps are the budget of `fit`, where that gives none."""
    widths: tuple[int, int, int] = WIDTHS
    """Channels of the network's levels, where it starts from nothing."""
    pretrained: bool = True
    """Start from the weights of the package, where there are any; else from the identity."""
    min_gain: float = 0.1
    """PSNR in dB that it has to gain on a photo that it has not seen; with less it is not used."""

    def sha256(self) -> str:
        """Of the weights that it starts from; empty: there are none."""
        found = load_weights() if self.pretrained else None
        return "" if found is None else found.sha256

    def start(self, seed: int = 0, report: Reporter | None = None) -> FittedRefiner:
        """The refiner before it has seen the scene. Raises SplatError where the package's weights are damaged."""
        report = report or Silent()
        found = load_weights() if self.pretrained else None
        if found is not None:
            licences.record(licences.Provenance("refiner", LICENCE, found.sha256))
            net = RefinerNet(CHANNELS, found.widths)
            net.load_state_dict(found.tensors)
            return FittedRefiner(self, net.eval(), "starts from the weights of the package")
        if self.pretrained:
            report.info("refiner: the package has no weights for it, so it learns from this scene's photos alone")
        return FittedRefiner(self, seeded_net(CHANNELS, self.widths, seed).eval(), "starts from the identity")


@dataclass(frozen=True, eq=False)
class FittedRefiner:
    """A `slots.ViewRefiner`: a network, and how it was judged. Immutable: `fit` returns another."""

    settings: SceneRefiner
    net: RefinerNet
    summary: str
    """One line for logs."""
    accepted: bool = True
    """False: it was fitted and judged of no use; `refine` then gives the render as it is."""
    held_out: str = ""
    """The photo it was judged on."""
    scores: dict[str, Score] = field(default_factory=dict)
    """On that photo: of the render ("identity"), of the network before ("start") and after ("fitted")."""

    def fit(
        self, pairs: Sequence[RefinerPair], budget: int = 0, seed: int = 0, report: Reporter | None = None
    ) -> FittedRefiner:
        """Learn from pairs of at least two photos in `budget` steps (0: those of the recipe).

        Two photos, chosen by seed, are held out. Of the weights on the way, those before the first step included, those
        are kept that are best on the second; the first has no part in that, and where they do not gain `min_gain` over
        its render, the refiner is not used. Of two or three photos one is held out, and the last weights are kept.
        Pairs whose render and photo have nothing in common are left out, saying so.
        """
        report = report or Silent()
        related = [p for p in pairs if correlation(p) > _MIN_CORRELATION]
        if len(related) < len(pairs):
            report.warn(
                f"refiner: {len(pairs) - len(related)} of {len(pairs)} renders have nothing in common with their "
                "photos and are left out: check the poses."
            )
        photos = sorted({p.photo for p in related})
        if len(photos) < 2:
            return self._rejected(f"not used: it needs pairs of two photos and has those of {len(photos)}", report)
        generator = torch.Generator().manual_seed(seed)
        order = [photos[i] for i in torch.randperm(len(photos), generator=generator).tolist()]
        held, chooses = order[0], order[1:2] if len(order) >= _TWO_HELD_OUT else []
        examples = [example(p) for p in related]
        judges = [e for e in examples if e.photo == held]
        learned = [e for e in examples if e.photo not in (held, *chooses)]
        net = self._fitted(learned, [e for e in examples if e.photo in chooses], budget, seed, report)
        scores = {"identity": score(judges, None), "start": score(judges, self.net), "fitted": score(judges, net)}
        gain = scores["fitted"].psnr - scores["identity"].psnr
        about = f"{gain:+.2f} dB on {held}, which it had not seen"
        if not scores["fitted"].beats(scores["identity"], self.settings.min_gain):
            return replace(self._rejected(f"not used: {about}", report), held_out=held, scores=scores)
        report.info(f"refiner: {about}")
        return FittedRefiner(self.settings, net, about, True, held, scores)

    def _fitted(
        self, examples: list[Example], judges: list[Example], budget: int, seed: int, report: Reporter
    ) -> RefinerNet:
        """The network on the way that is best on `judges`; the last one where there are none."""
        net = copy.deepcopy(self.net).train()
        recipe = replace(self.settings.recipe, steps=budget or self.settings.recipe.steps)
        best = score(judges, net).psnr if judges else 0.0
        kept = copy.deepcopy(net.state_dict())

        def check(step: int) -> None:
            nonlocal best, kept
            figures = {"psnr": score(judges, net).psnr} if judges else {}
            if not judges or figures["psnr"] > best:
                best, kept = figures.get("psnr", 0.0), copy.deepcopy(net.state_dict())
            report.progress(step, recipe.steps, what="refiner", **figures)

        for _ in steps_of(Fit(net, examples, recipe, seed), check, max(1, recipe.steps // _CHECKS)):
            pass
        net.load_state_dict(kept)
        return net.eval()

    def _rejected(self, why: str, report: Reporter) -> FittedRefiner:
        report.info(f"refiner: {why}")
        return FittedRefiner(self.settings, self.net, why, accepted=False)

    def refine(
        self, view: RenderedView, references: Sequence[ReferencePhoto], strength: float = 1.0, seed: int = 0
    ) -> RefinedView:
        """As `slots.ViewRefiner`; has no random part, so `seed` does not matter. Confidence 0 where it is not used."""
        if not self.accepted:
            return RefinedView(view.rgb, torch.zeros_like(view.alpha))
        inputs = channels(view, tuple(references))
        correction, error = refined_colours(self.net, inputs)
        rgb = (view.rgb + strength * correction.permute(1, 2, 0)).clamp(0, 1)
        return RefinedView(rgb, torch.exp(-error / _CONFIDENT_ERROR) * informed(inputs))

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "widths": list(self.net.widths),
            "summary": self.summary,
            "accepted": self.accepted,
            "held_out": self.held_out,
        }

    def restored(self, state: dict[str, Any]) -> FittedRefiner:
        """`scores` do not come back."""
        net = RefinerNet(CHANNELS, tuple(state["widths"]))
        net.load_state_dict(state["net"])
        return FittedRefiner(self.settings, net.eval(), state["summary"], state["accepted"], state["held_out"])


_CONFIDENT_ERROR = 0.1
"""Expected error, in values of [0, 1], at which confidence is 1 / e."""


def correlation(pair: RefinerPair) -> float:
    """Pearson correlation of the grey values of render and photo where the render covers; 0 where either is flat."""
    use = pair.view.alpha > 0.5
    if pair.weight is not None:
        use &= pair.weight > 0
    if int(use.sum()) < 16:
        return 0.0
    a, b = (_normal(t.mean(-1)[use]) for t in (pair.view.rgb, pair.target))
    return float((a * b).mean())


def _normal(values: Tensor) -> Tensor:
    values = values.double() - values.double().mean()
    return values / values.square().mean().sqrt().clamp_min(1e-6)
