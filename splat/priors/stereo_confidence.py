"""How probably a depth of dense stereo is right (within 5 % of the true one): a small network, fitted by
`scripts/fit_stereo.py` on ray-traced scenes with exact depth. Its weights are numbers in `stereo_confidence.json`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splat.priors.stereo_features import NAMES

WEIGHTS = Path(__file__).with_name("stereo_confidence.json")


@cache
def layers() -> list[tuple[Tensor, Tensor]]:
    """Weights [out in] and biases [out] of the layers; between them, max(x, 0)."""
    data = json.loads(WEIGHTS.read_text())
    assert tuple(data["features"]) == NAMES, "the weights are those of other features: fit them anew"
    return [(torch.tensor(row["weight"]), torch.tensor(row["bias"])) for row in data["layers"]]


def probability(values: Float[Tensor, "f h w"]) -> Float[Tensor, "h w"]:
    """The probability that each pixel's depth is right, from its features (`stereo_features.NAMES`)."""
    f, h, w = values.shape
    x = values.reshape(f, -1)
    stages = layers()
    for k, (weight, bias) in enumerate(stages):
        x = weight @ x + bias[:, None]
        if k + 1 < len(stages):
            x = x.relu_()
    return x[0].sigmoid().reshape(h, w)
