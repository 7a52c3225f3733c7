"""Which photos, if any, a finished model places against the evidence of their pairs, and when the whole is in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from splat.core.foreign import shown
from splat.poses.evidence import TURNED, PairEvidence

MAX_SHARE = 0.15
"""Contradiction of more than this share of the photos (and of more than one) is about the model, not about them."""


@dataclass(frozen=True)
class Doubt:
    """What pairs that are certain say against a model."""

    photos: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Photos whose place most of their certain pairs contradict: name -> (pairs that contradict, certain pairs)."""
    whole: tuple[str, ...] = ()
    """Sentences about the model where contradictions are spread over it."""

    def __bool__(self) -> bool:
        return bool(self.photos or self.whole)


def find_doubts(pairs: Sequence[PairEvidence], registered: int, max_share: float = MAX_SHARE) -> Doubt:
    """The fewest photos that account for the contradictions among `pairs`, and what remains without them.

    Greedy: the photo with most contradicting matches, if they outweigh those of its pairs that agree, takes all of its
    pairs with it. registered: the number of photos in the model. More than `max_share` of them (and than one) are not
    named.
    """
    left = [p for p in pairs if p.turned() or p.apart or p.agrees]
    photos: dict[str, tuple[int, int]] = {}
    while True:
        against, agreeing, count = _weights(left)
        excess = {n: against[n] - agreeing.get(n, 0) for n in sorted(against)}
        culprits = sorted(excess, key=lambda n: -excess[n])
        if not culprits or excess[culprits[0]] <= 0:
            break
        equal = {n for n in culprits if excess[n] == excess[culprits[0]]}
        if any({p.name_a, p.name_b} <= equal and not p.agrees for p in left):
            break  # of two that contradict each other alike either may be wrong
        name = culprits[0]
        photos[name] = count[name]
        left = [p for p in left if name not in (p.name_a, p.name_b)]
    everything = _sentences(pairs)
    if len(photos) > max(1, max_share * registered):
        return Doubt({}, everything)
    remaining = [p for p in pairs if not {p.name_a, p.name_b} & photos.keys()]
    return Doubt(photos, _sentences(remaining))


def _weights(pairs: Sequence[PairEvidence]) -> tuple[dict[str, int], dict[str, int], dict[str, tuple[int, int]]]:
    """By photo: matches of contradicting pairs, matches of agreeing pairs, and (contradicting, all) pairs."""
    against: dict[str, int] = {}
    agreeing: dict[str, int] = {}
    count: dict[str, tuple[int, int]] = {}
    for p in pairs:
        wrong = not p.agrees
        for name in (p.name_a, p.name_b):
            into = against if wrong else agreeing
            into[name] = into.get(name, 0) + p.matches
            bad, total = count.get(name, (0, 0))
            count[name] = bad + wrong, total + 1
    return against, agreeing, count


def _sentences(pairs: Sequence[PairEvidence]) -> tuple[str, ...]:
    return tuple(s for s in (inconsistent_rotations(pairs), duplicated_surfaces(pairs)) if s)


def inconsistent_rotations(pairs: Sequence[PairEvidence], degrees: float = TURNED, share: float = 0.1) -> str | None:
    """Pairs whose own relative rotation contradicts the model's, as where a loop of photos was closed wrongly."""
    informative = [p for p in pairs if p.rotation_error is not None]
    wrong = [p for p in informative if p.turned(degrees)]
    if len(informative) < 3 or len(wrong) < max(2, share * len(informative)):
        return None
    worst = max(wrong, key=lambda p: p.matches)
    return (
        f"{len(wrong)} of {len(informative)} strongly matching pairs are turned by over {degrees:.0f} degrees against "
        f"the model (for example {shown(worst.name_a)} and {shown(worst.name_b)}): parts of it are probably wrong, as "
        "with look-alike sides of one building; add photos between them, or remove one side."
    )


def duplicated_surfaces(pairs: Sequence[PairEvidence], share: float = 0.1) -> str | None:
    """Pairs with many matches but hardly any common model points: the model contains the same surface twice."""
    apart = [p for p in pairs if p.apart]
    if len(pairs) < 3 or len(apart) < max(2, share * len(pairs)):
        return None
    worst = max(apart, key=lambda p: p.matches)
    return (
        f"{len(apart)} of {len(pairs)} strongly matching pairs share almost no points of the model (for example "
        f"{shown(worst.name_a)} and {shown(worst.name_b)}): the model may contain a surface twice; add photos between "
        "them."
    )
