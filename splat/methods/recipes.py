"""What a method changes about training besides the first Gaussians. Flags that were given always win."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from splat.commands.reconstruct import Reconstruct

T = TypeVar("T")

EDGS: dict[str, Any] = {
    # Large structure is right from the start: photos are at full size sooner. What no photo supports fades (by 1.5 in
    # logits in all).
    "train.resolution.full_at": 0.3,
    "train.decay.factor": 0.99,
    "train.decay.every": 1 / 300,
}
"""What dense first Gaussians change; density control divides what is still too coarse."""

PUBLISHED_EDGS: dict[str, Any] = {
    # Nothing is added; what the photos do not hold against a slow decay is removed.
    "train.density": "none",
    "train.none.prune_opacity": 0.005,
    "train.none.prune_every": 100 / 30_000,
    "train.decay.factor": 0.99,
    "train.decay.every": 10 / 30_000,
    "train.decay.until": 0.5,
    # The rates of 3DGS, positions held at what theirs has come to after 8,000 of 30,000 steps.
    "train.rates.means": 1.6e-4,
    "train.rates.means_final": 1.6e-6,
    "train.rates.means_hold": 8_000 / 30_000,
    "train.rates.sh0": 0.0025,
    "train.rates.sh_rest": 0.0025 / 20,
    "train.rates.opacities": 0.025,
    "train.rates.scales": 0.005,
    "train.rates.quats": 0.001,
    "train.resolution.start": 1.0,
    "train.sh.degree_every": 1_000 / 30_000,
    "train.clearance": 0.0,
    "train.views.exposure": False,
    "train.min_transmittance": 1e-4,
}
"""EDGS's own training (Kotovenko et al. 2025), in fractions of the run; pruning every 100 steps of 30,000, not every
one."""


def with_recipe(config: Reconstruct, method: str) -> Reconstruct:
    """The configuration as the method wants it: fields that were neither given as flags nor set in Python."""
    plain = type(config)(config.photos)
    recipe = {"edgs": EDGS, "edgs_published": PUBLISHED_EDGS}.get(method, {})
    for flag, value in recipe.items():
        if flag not in config.explicit_flags and found(config, flag) == found(plain, flag):
            config = replaced(config, flag, value)
    return config


def found(config: Any, flag: str) -> Any:
    """The value of the field at a dotted path."""
    for name in flag.split("."):
        config = getattr(config, name)
    return config


def replaced(config: T, flag: str, value: Any) -> T:
    """A frozen dataclass with the field at a dotted path replaced.

    Raises AttributeError where there is no such field."""
    head, _, rest = flag.partition(".")
    if head not in {f.name for f in fields(config)}:  # type: ignore[arg-type]
        raise AttributeError(f"{type(config).__name__} has no field {head}.")
    return replace(config, **{head: replaced(getattr(config, head), rest, value) if rest else value})  # type: ignore[type-var]
